"""Add and Sub, where one operand is a constant: a number is added to each value."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application, broadcast_constant
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape, gathered, spread


@dataclasses.dataclass(frozen=True, eq=False)
class Shift(AffineMap):
    """``h -> sign * h + constant`` with broadcasting; the sign is 1 or -1, the constant float64 of any shape."""

    constant: Floats
    sign: float = 1.0
    operations: int = 2

    def shape(self, *shapes: Shape) -> Shape:
        """Broadcast."""
        return np.broadcast_shapes(shapes[0], self.constant.shape)

    def linear(self, *tensors: Floats) -> Floats:
        """The signed values, broadcast."""
        tensor = spread(tensors[0], max(self.constant.ndim, tensors[0].ndim - 1))
        shape = self.shape(tensor.shape[1:])
        return np.broadcast_to(self.sign * tensor, (len(tensor), *shape))

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The signed form."""
        return (self.sign * gathered(form, shapes[0]),)

    def bias(self, shape: Shape) -> Floats | None:
        """The constant."""
        return np.broadcast_to(self.constant, shape)

    def mapped(self, change: Change) -> "Shift":
        """With another constant and sign."""
        return dataclasses.replace(self, constant=change(self.constant), sign=float(change(np.array(self.sign))))


def shifted(application: Application, *, negated: bool) -> list[Shift]:
    """The computed operand plus the constant one, or minus what stands second."""
    _, constant, position = broadcast_constant(application)
    if not negated:
        return [Shift(constant)]
    return [Shift(-constant)] if position == 0 else [Shift(constant, sign=-1.0)]
