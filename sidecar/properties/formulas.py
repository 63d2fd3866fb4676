"""Linear forms over a row's values, the inequalities between them, and ``and``/``or`` over those.

Both property languages are translated into these formulas before anything is decided about them. The
leaves are the gates' own literals, in wire units. Constant inequalities are decided at once, and
``conjunction`` and ``disjunction`` simplify, so that ``TRUE`` and ``FALSE`` never stand inside a formula.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from sidecar.gates.values import Literal, terms
from sidecar.properties.rationals import bounded
from sidecar.properties.source import Complaint


@dataclasses.dataclass(frozen=True)
class Linear:
    """``outputs . y + inputs . x + constant``; sparse, keyed by the position in the row."""

    outputs: Mapping[int, Fraction]
    inputs: Mapping[int, Fraction]
    constant: Fraction

    def is_constant(self) -> bool:
        """Whether no variable is left, cancelled ones not counted."""
        return not any(self.outputs.values()) and not any(self.inputs.values())

    def scaled(self, factor: Fraction) -> "Linear":
        """The form times a number."""
        return Linear(
            {index: bounded(value * factor) for index, value in self.outputs.items()},
            {index: bounded(value * factor) for index, value in self.inputs.items()},
            bounded(self.constant * factor),
        )


def constant(value: Fraction) -> Linear:
    """A number as a form."""
    return Linear({}, {}, value)


def total(parts: Iterable[Linear]) -> Linear:
    """The sum of the parts."""
    outputs: dict[int, Fraction] = {}
    inputs: dict[int, Fraction] = {}
    offset = Fraction(0)
    for part in parts:
        for sums, addends in ((outputs, part.outputs), (inputs, part.inputs)):
            for index, value in addends.items():
                sums[index] = bounded(sums.get(index, Fraction(0)) + value)
        offset = bounded(offset + part.constant)
    return Linear(outputs, inputs, offset)


def product(factors: Sequence[Linear]) -> Linear:
    """The factors multiplied.

    Raises:
        Complaint: more than one of them has variables.
    """
    variable = [factor for factor in factors if not factor.is_constant()]
    if len(variable) > 1:
        raise Complaint("a product of two variables; only linear conditions can be guarded")
    scale = Fraction(1)
    for factor in factors:
        if factor.is_constant():
            scale = bounded(scale * factor.constant)
    return variable[0].scaled(scale) if variable else constant(scale)


@dataclasses.dataclass(frozen=True)
class And:
    """All parts hold; made by :func:`conjunction`."""

    parts: tuple["Formula", ...]


@dataclasses.dataclass(frozen=True)
class Or:
    """Some part holds; made by :func:`disjunction`."""

    parts: tuple["Formula", ...]


Formula: TypeAlias = Literal | And | Or

TRUE: Final = And(())
FALSE: Final = Or(())


def conjunction(parts: Iterable[Formula]) -> Formula:
    """All parts hold."""
    kept = tuple(part for part in parts if part != TRUE)
    if FALSE in kept:
        return FALSE
    return kept[0] if len(kept) == 1 else And(kept)


def disjunction(parts: Iterable[Formula]) -> Formula:
    """Some part holds."""
    kept = tuple(part for part in parts if part != FALSE)
    if TRUE in kept:
        return TRUE
    return kept[0] if len(kept) == 1 else Or(kept)


def difference(left: Linear, right: Linear) -> Linear:
    """``left - right``."""
    return total((left, right.scaled(Fraction(-1))))


def at_least(larger: Linear, smaller: Linear, strict: bool) -> Formula:
    """``larger >= smaller``, or ``larger > smaller`` when strict; the literal's value is their difference."""
    form = difference(larger, smaller)
    if form.is_constant():
        return TRUE if form.constant > 0 or (form.constant == 0 and not strict) else FALSE
    return Literal(terms(dict(form.outputs)), terms(dict(form.inputs)), form.constant, strict)
