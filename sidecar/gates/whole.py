"""Literals and rows in whole numbers: exact, and several times as fast as rational ones.

A literal's coefficients become whole by a factor of its own, a row's values by a power of two that they share: every
float is a whole number times a power of two.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from sidecar.gates.exact import Row
from sidecar.gates.values import Literal, Terms
from sidecar.numerics import FIRST_GROWTH, round_ratio, spacing_exponent
from sidecar.tensors import Datatype

_GROWTH: Final = FIRST_GROWTH / 2
"""Of the sum of spacings, each times its coefficient: rounding is half a spacing at most."""

WholeTerms: TypeAlias = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class WholeLiteral:
    """A literal, and the margin that `project` keeps from it, times a positive number that makes them whole."""

    outputs: WholeTerms
    inputs: WholeTerms
    offset: int
    margin: int
    norm_squared: int
    strict: bool

    @property
    def compared(self) -> int:
        """The size of the coefficients, where it compares two outputs; otherwise 0."""
        values = [value for _, value in self.outputs]
        return abs(values[0]) if len(values) == 2 and sum(values) == 0 else 0

    def times(self, factor: int) -> "WholeLiteral":
        """The same literal, larger."""
        return WholeLiteral(
            outputs=tuple((index, factor * value) for index, value in self.outputs),
            inputs=tuple((index, factor * value) for index, value in self.inputs),
            offset=factor * self.offset,
            margin=factor * self.margin,
            norm_squared=factor * factor * self.norm_squared,
            strict=self.strict,
        )


@dataclasses.dataclass(frozen=True)
class Change:
    """What is added to outputs: numerators by index, over one denominator, in a row's units."""

    numerators: dict[int, int]
    denominator: int


NO_CHANGE: Final = Change({}, 1)


def whole_literal(literal: Literal, margin: Fraction) -> WholeLiteral:
    """A literal and a margin, times the smallest number that makes them whole."""
    numbers = [value for _, value in (*literal.outputs, *literal.inputs)]
    factor = math.lcm(*(each.denominator for each in (*numbers, literal.offset, margin)))

    def times(form: Terms) -> WholeTerms:
        return tuple((index, int(factor * value)) for index, value in form)

    outputs = times(literal.outputs)
    norm_squared = sum(value * value for _, value in outputs)
    offset = int(factor * literal.offset)
    return WholeLiteral(outputs, times(literal.inputs), offset, int(factor * margin), norm_squared, literal.strict)


@dataclasses.dataclass(frozen=True)
class Mentioned:
    """What some literals read of a row.

    Args:
        inputs, outputs: by index.
        datatypes: of all outputs.
        scale: the least with which growth is whole.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    datatypes: tuple[Datatype, ...]
    scale: int


def mentioned(literals: Sequence[Literal], datatypes: tuple[Datatype, ...]) -> Mentioned:
    """What literals read of rows with outputs of these datatypes."""
    inputs = {index for literal in literals for index, _ in literal.inputs}
    outputs = {index for literal in literals for index, _ in literal.outputs}
    finest = min(spacing_exponent(0.0, datatypes[index]) for index in outputs)
    scale = _GROWTH.denominator.bit_length() - 1 - finest
    return Mentioned(tuple(sorted(inputs)), tuple(sorted(outputs)), datatypes, scale)


class WholeRow:
    """A row's values in whole numbers: times ``2 ** scale``, of which they all are multiples, and what growth adds."""

    def __init__(self, mentioned: Mentioned, inputs: Row, outputs: Row) -> None:
        self._outputs = {index: float(outputs[index]) for index in mentioned.outputs}
        self._datatypes = mentioned.datatypes
        given = {index: float(inputs[index]).as_integer_ratio() for index in mentioned.inputs}
        answered = {index: value.as_integer_ratio() for index, value in self._outputs.items()}
        bits = [bottom.bit_length() - 1 for _, bottom in (*given.values(), *answered.values())]
        self._scale = max(mentioned.scale, *bits)
        self._x = {index: self._whole(ratio) for index, ratio in given.items()}
        self._y = {index: self._whole(ratio) for index, ratio in answered.items()}

    def _whole(self, ratio: tuple[int, int]) -> int:
        return ratio[0] << self._scale - ratio[1].bit_length() + 1

    def shortfall(self, literal: WholeLiteral) -> int:
        """How much a literal's value lacks of its margin."""
        return (literal.margin << self._scale) - self._value(literal, self._y)

    def _value(self, literal: WholeLiteral, y: dict[int, int]) -> int:
        value = literal.offset << self._scale
        for index, coefficient in literal.inputs:
            value += coefficient * self._x[index]
        for index, coefficient in literal.outputs:
            value += coefficient * y[index]
        return value

    def after(self, change: Change) -> dict[int, float]:
        """The outputs that a change moves, rounded to the wire."""
        bottom = change.denominator
        return {
            index: round_ratio(self._y[index] * bottom + top, bottom << self._scale, self._datatypes[index])
            for index, top in change.numerators.items()
        }

    def holds(self, clause: Sequence[WholeLiteral], moved: dict[int, float]) -> bool:
        """Whether some literal, as stated, holds with these outputs in place."""
        y = self._y | {index: self._whole(value.as_integer_ratio()) for index, value in moved.items()}
        values = [(self._value(literal, y), literal.strict) for literal in clause]
        return any(value > 0 or (value == 0 and not strict) for value, strict in values)

    def growth(self, literal: WholeLiteral, moved: dict[int, float]) -> int:
        """What a literal is tightened by at first: a little more than rounding can change."""
        spacings = 0
        for index, coefficient in literal.outputs:
            value = moved.get(index, self._outputs[index])
            spacings += abs(coefficient) << self._scale + spacing_exponent(value, self._datatypes[index])
        return spacings * _GROWTH.numerator // _GROWTH.denominator  # without remainder: see scale
