"""Add and Sub: of a constant (:mod:`~sidecar.network.operators.shift`), or of two computed tensors, as where a residual
connection joins.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape, gathered, spread
from sidecar.network.operators.shift import Shift, shifted


@dataclasses.dataclass(frozen=True)
class Add(AffineMap):
    """``first + sign * second`` with broadcasting; the sign is 1 or -1."""

    sign: float = 1.0
    operations: int = 2

    def shape(self, *shapes: Shape) -> Shape:
        """Broadcast."""
        return np.broadcast_shapes(*shapes)

    def linear(self, *tensors: Floats) -> Floats:
        """The sum."""
        rank = max(tensor.ndim for tensor in tensors) - 1
        return np.asarray(spread(tensors[0], rank) + self.sign * spread(tensors[1], rank))

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The form, and the signed form."""
        return gathered(form, shapes[0]), self.sign * gathered(form, shapes[1])

    def mapped(self, change: Change) -> "Add":
        """With another sign."""
        return Add(float(change(np.array(self.sign))))


def read_add(application: Application) -> list[Add | Shift]:
    """Add."""
    return _read(application, negated=False)


def read_sub(application: Application) -> list[Add | Shift]:
    """Sub."""
    return _read(application, negated=True)


def _read(application: Application, *, negated: bool) -> list[Add | Shift]:
    if len(application.flows) < 2:
        return [*shifted(application, negated=negated)]
    first, second = application.flows
    if first.batched and len(first.shape) != len(second.shape):
        raise NodeError(f"adds shapes {first.shape} and {second.shape}, so it mixes the batch with other dimensions")
    return [Add(-1.0 if negated else 1.0)]
