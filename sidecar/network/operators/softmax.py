"""Softmax, as the model's last operation."""

import dataclasses
import math

import numpy as np

from sidecar.network.operators.application import Application, NodeError, normal_axis
from sidecar.network.operators.operation import Floats, Shape


@dataclasses.dataclass(frozen=True)
class Softmax:
    """``exp(h_i) / sum of exp(h_j)`` over all values of a row."""

    def shape(self, *shapes: Shape) -> Shape:
        """Unchanged."""
        return shapes[0]

    def __call__(self, tensor: Floats) -> Floats:
        """The function."""
        flat = tensor.reshape(len(tensor), -1)
        powers = np.exp(flat - flat.max(axis=1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=1, keepdims=True)
        return shares.reshape(tensor.shape)


def read_softmax(application: Application) -> list[Softmax]:
    """Softmax over all values of a row. Up to opset 12 it is over all dimensions from the axis on."""
    flow = application.only()
    axis = normal_axis(int(application.attributes.get("axis", -1 if application.opset >= 13 else 1)), len(flow.shape))
    over = flow.shape[axis] if application.opset >= 13 else math.prod(flow.shape[axis:])
    if over != flow.size or (flow.batched and axis == 0):
        raise NodeError(f"is over {over} of the {flow.size} values of a row; expected one softmax over all of them")
    return [Softmax()]
