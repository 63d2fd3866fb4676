"""Mul and Div by a constant: each value times a factor."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application, Flow, NodeError, broadcast_constant
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape, gathered, spread

_MOST_DIVIDED = 2.0**100
"""Divisors up to it, and down to its reciprocal, have a reciprocal in float32 that suffers one rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scale(AffineMap):
    """``h -> factor * h`` with broadcasting.

    Args:
        factor: float64, any shape.
        operations: of the product, and of what the factor itself was rounded from.
    """

    factor: Floats
    operations: int = 1

    def shape(self, *shapes: Shape) -> Shape:
        """Broadcast."""
        return np.broadcast_shapes(shapes[0], self.factor.shape)

    def linear(self, *tensors: Floats) -> Floats:
        """The product."""
        return np.asarray(spread(tensors[0], max(self.factor.ndim, tensors[0].ndim - 1)) * self.factor)

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The product again."""
        return (gathered(form * self.factor, shapes[0]),)

    def mapped(self, change: Change) -> "Scale":
        """With another factor."""
        return dataclasses.replace(self, factor=change(self.factor))


def read_mul(application: Application) -> list[Scale]:
    """Mul with one constant operand."""
    return [Scale(broadcast_constant(application)[1])]


def read_div(application: Application) -> list[Scale]:
    """Div by a constant. The reciprocal is rounded, here and perhaps in the served arithmetic too."""
    if not isinstance(application.operand(0), Flow):
        raise NodeError("divides by a computed tensor; expected a constant divisor")
    divisor = broadcast_constant(application)[1]
    if ((np.abs(divisor) < 1.0 / _MOST_DIVIDED) | (np.abs(divisor) > _MOST_DIVIDED)).any():
        raise NodeError(f"divides by {divisor.flat[0]:g} or the like; expected divisors from 2**-100 to 2**100 in size")
    return [Scale(1.0 / divisor, operations=4)]
