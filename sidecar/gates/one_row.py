"""A single row in plain Python floats: the filter's arithmetic without the fixed costs of array operations.

Most requests hold one row, of which requirements look at few values, and there an array operation's overhead is ten
times its work. The tables here are the prepared arrays, entry by entry, and so are the comparisons; a Python float is a
float64. Terms are summed in another order than arrays sum them, which the filter's error bound allows
(:mod:`sidecar.gates.filter`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.gates.filter import LiteralTable
from sidecar.tensors import all_finite

PlainBox: TypeAlias = tuple[tuple[float, float], ...]
"""The smallest and largest wire value of each input."""

Columns: TypeAlias = slice | npt.NDArray[np.int64]
"""Which values of a row are looked at."""

_FEW_COLUMNS: Final = 64
"""Up to that many are taken all together, in less time than some of them."""


@dataclasses.dataclass(frozen=True)
class PlainLiteral:
    """One literal of a :class:`LiteralTable`; ``terms`` are pairs of place and coefficient, places as in
    :class:`PlainRequirements`.
    """

    terms: tuple[tuple[int, float], ...]
    strict: bool
    relative: float
    absolute: float


PlainClauses: TypeAlias = tuple[tuple[PlainLiteral, ...], ...]
"""A requirement; each clause holds at least one literal."""


@dataclasses.dataclass(frozen=True, eq=False)
class PlainRequirements:
    """The requirements of some gates, and what they look at.

    Args:
        inputs, outputs: which values of a row; their places are counted from 1, those of the inputs first.
        clauses: by gate.
    """

    inputs: Columns
    outputs: Columns
    clauses: tuple[PlainClauses, ...]

    def looked_at(self, inputs: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]) -> list[float] | None:
        """What a row has at each place, the constant one at place 0; None where some value that may be required is not
        finite.
        """
        given = inputs[self.inputs]
        if not (all_finite(outputs) and all_finite(given)):
            return None
        return [1.0, *given.tolist(), *outputs[self.outputs].tolist()]


def columns_of(columns: Iterable[int], size: int) -> tuple[Columns, dict[int, int]]:
    """Which values of a row of this size are looked at for the sake of these, and where each of these then stands."""
    wanted = range(size) if size <= _FEW_COLUMNS else sorted(columns)
    places = {column: place for place, column in enumerate(wanted)}
    return (slice(None) if size <= _FEW_COLUMNS else np.array(wanted, np.int64)), places


def plain_literals(table: LiteralTable, places: Mapping[int, int]) -> list[PlainLiteral]:
    """A table's literals, one by one; ``places`` of the columns that they mention."""
    columns = [places[column] for column in table.columns.tolist()]
    terms = list(zip(columns, table.coefficients.tolist(), strict=True))
    offsets = table.offsets.tolist()
    return [
        PlainLiteral(tuple(terms[start:end]), strict, relative, absolute)
        for start, end, strict, relative, absolute in zip(
            offsets[:-1],
            offsets[1:],
            table.strict.tolist(),
            table.relative.tolist(),
            table.absolute.tolist(),
            strict=True,
        )
    ]


def in_box(box: PlainBox, row: Sequence[float]) -> bool:
    """Whether a row of wire values lies in a box; exact. A row with a NaN lies in none."""
    # A loop takes half the time of a generator here.
    for (lower, upper), value in zip(box, row, strict=True):  # noqa: SIM110
        if not lower <= value <= upper:
            return False
    return True


def in_some_box(boxes: Sequence[PlainBox], row: Sequence[float]) -> bool:
    """Whether it lies in one of several."""
    for box in boxes:  # noqa: SIM110
        if in_box(box, row):
            return True
    return False


def known_of_clauses(clauses: PlainClauses, values: Sequence[float]) -> bool | None:
    """Whether finite values, by their places, satisfy a requirement; None where the filter cannot decide."""
    certain = True
    for clause in clauses:
        known = _known_of_clause(clause, values)
        if known is False:
            return False
        certain = certain and known is True
    return True if certain else None


def _known_of_clause(clause: Sequence[PlainLiteral], values: Sequence[float]) -> bool | None:
    possible = False
    for literal in clause:
        known = known_of_literal(literal, values)
        if known is True:
            return True
        possible = possible or known is None
    return None if possible else False


def known_of_literal(literal: PlainLiteral, values: Sequence[float]) -> bool | None:
    """Whether a literal holds for any values, by their places; None where the filter cannot decide."""
    value = magnitude = 0.0
    for place, coefficient in literal.terms:
        product = values[place] * coefficient
        value += product
        magnitude += abs(product)
    # The last summand is NaN on overflow, and NaN decides nothing.
    error = literal.relative * magnitude + literal.absolute + (magnitude - magnitude)
    if value > error or (value == error and not literal.strict):
        return True
    if value < -error or (value == -error and literal.strict):
        return False
    return None
