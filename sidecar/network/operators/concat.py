"""Concat: tensors, constants among them, one after the other along a dimension."""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from sidecar.network.operators.application import Application, Flow, NodeError, floats, normal_axis
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape

Part: TypeAlias = Floats | int


@dataclasses.dataclass(frozen=True, eq=False)
class Concat(AffineMap):
    """Operands and constants joined.

    Args:
        axis: along which dimension of the shape.
        parts: in their order; a constant, float64, or how long the next computed operand is along the axis.
    """

    axis: int
    parts: tuple[Part, ...]

    @property
    def operations(self) -> int:
        """Nothing is computed."""
        return 0

    def shape(self, *shapes: Shape) -> Shape:
        """All sizes but one are the same; that one adds up."""
        flows = iter(shapes)
        every = [next(flows) if isinstance(part, int) else part.shape for part in self.parts]
        around = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in every}
        if len({len(shape) for shape in every}) != 1 or len(around) != 1:
            raise ValueError(f"joined along axis {self.axis} are {', '.join(map(str, every))}")
        return (*every[0][: self.axis], sum(self._sizes), *every[0][self.axis + 1 :])

    @property
    def _sizes(self) -> list[int]:
        return [part if isinstance(part, int) else part.shape[self.axis] for part in self.parts]

    def linear(self, *tensors: Floats) -> Floats:
        """The operands, zeros where constants stand."""
        flows, rows = iter(tensors), len(tensors[0])
        every = [next(flows) if isinstance(part, int) else np.zeros((rows, *part.shape)) for part in self.parts]
        return np.concatenate(every, axis=self.axis + 1)

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """Each operand's part of the form."""
        pieces = np.split(form, np.cumsum(self._sizes)[:-1], axis=self.axis + 1)
        return tuple(piece for piece, part in zip(pieces, self.parts, strict=True) if isinstance(part, int))

    def bias(self, shape: Shape) -> Floats | None:
        """The constants, zeros where operands stand."""
        result = np.zeros(shape)
        pieces = np.split(result, np.cumsum(self._sizes)[:-1], axis=self.axis)
        for piece, part in zip(pieces, self.parts, strict=True):
            if not isinstance(part, int):
                piece[...] = part
        return result

    def mapped(self, change: Change) -> "Concat":
        """With other constants."""
        return Concat(self.axis, tuple(part if isinstance(part, int) else change(part) for part in self.parts))


def read_concat(application: Application) -> list[Concat]:
    """Concat of computed tensors and constants."""
    first = application.flow
    axis = normal_axis(int(application.attributes["axis"]), len(first.shape))
    if first.batched and (axis == 0 or len(application.flows) < len(application.operands)):
        raise NodeError("joins a batch along its rows, or with constants of one row; expected computed tensors only")
    parts: list[Part] = []
    for position, operand in enumerate(application.operands):
        if operand is None:
            raise NodeError(f"has no operand {position}; expected a tensor")
        normal_axis(axis, len(operand.shape))
        parts.append(operand.shape[axis] if isinstance(operand, Flow) else floats(operand))
    return [Concat(axis, tuple(parts))]
