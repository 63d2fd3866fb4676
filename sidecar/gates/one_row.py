"""A single row in plain Python floats: the filter's arithmetic without the fixed costs of array operations.

Most requests hold one row and few values, and there an array operation's overhead is ten times its work. The tables
here are the prepared arrays, entry by entry, and so are the comparisons; a Python float is a float64. Terms are summed
in another order than arrays sum them, which the filter's error bound allows (:mod:`sidecar.gates.filter`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

from sidecar.gates.filter import LiteralTable

PlainBox: TypeAlias = tuple[tuple[float, float], ...]
"""The smallest and largest wire value of each input."""


@dataclasses.dataclass(frozen=True)
class PlainLiteral:
    """One literal of a :class:`LiteralTable`; ``terms`` are pairs of column and coefficient."""

    terms: tuple[tuple[int, float], ...]
    strict: bool
    relative: float
    absolute: float


@dataclasses.dataclass(frozen=True)
class PlainGate:
    """One gate of :class:`PreparedGates`.

    Args:
        boxes: one per region.
        clauses: the requirement's; each holds at least one literal.
        required: the columns of an extended row where a non-finite value violates the gate.
    """

    boxes: tuple[PlainBox, ...]
    clauses: tuple[tuple[PlainLiteral, ...], ...]
    required: tuple[int, ...]


def plain_literals(table: LiteralTable) -> list[PlainLiteral]:
    """A table's literals, one by one."""
    terms = list(zip(table.columns.tolist(), table.coefficients.tolist(), strict=True))
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


def known_of_gate(gate: PlainGate, extended: Sequence[float]) -> bool | None:
    """Whether an extended row satisfies a gate's requirement; None where the filter cannot decide."""
    for column in gate.required:
        if not math.isfinite(extended[column]):
            return False
    certain = True
    for clause in gate.clauses:
        known = _known_of_clause(clause, extended)
        if known is False:
            return False
        certain = certain and known is True
    return True if certain else None


def _known_of_clause(clause: Sequence[PlainLiteral], extended: Sequence[float]) -> bool | None:
    possible = False
    for literal in clause:
        known = known_of_literal(literal, extended)
        if known is True:
            return True
        possible = possible or known is None
    return None if possible else False


def known_of_literal(literal: PlainLiteral, extended: Sequence[float]) -> bool | None:
    """Whether a literal holds on an extended row of any values; None where the filter cannot decide."""
    value = magnitude = 0.0
    for column, coefficient in literal.terms:
        product = extended[column] * coefficient
        value += product
        magnitude += abs(product)
    # The last summand is NaN on overflow, and NaN decides nothing.
    error = literal.relative * magnitude + literal.absolute + (magnitude - magnitude)
    if value > error or (value == error and not literal.strict):
        return True
    if value < -error or (value == -error and literal.strict):
        return False
    return None
