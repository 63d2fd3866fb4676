"""Transpose: dimensions in another order."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import AffineMap, Floats, Shape


@dataclasses.dataclass(frozen=True)
class Transpose(AffineMap):
    """Dimension ``order[k]`` of the tensor becomes dimension ``k``."""

    order: tuple[int, ...]

    @property
    def operations(self) -> int:
        """Nothing is computed."""
        return 0

    def shape(self, *shapes: Shape) -> Shape:
        """The same sizes in the new order."""
        return tuple(shapes[0][axis] for axis in self.order)

    def linear(self, *tensors: Floats) -> Floats:
        """The values in the new order."""
        return np.transpose(tensors[0], (0, *(axis + 1 for axis in self.order)))

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The form in the old order."""
        return (np.transpose(form, (0, *(int(axis) + 1 for axis in np.argsort(self.order)))),)


def read_transpose(application: Application) -> list[Transpose]:
    """Transpose; without ``perm`` the order is reversed."""
    flow = application.only()
    order = tuple(application.integers("perm", [*reversed(range(len(flow.shape)))]))
    if sorted(order) != list(range(len(flow.shape))):
        raise NodeError(f"orders dimensions as {order} of a tensor of shape {flow.shape}")
    if flow.batched and order[0] != 0:
        raise NodeError(f"orders dimensions as {order}, which moves the batch; expected it to stay in front")
    return [Transpose(order)]
