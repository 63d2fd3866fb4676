"""What an expression says, before it is known what its names mean.

``index`` is the character at which a part stands in the expression; it takes no part in comparisons. Sums,
products and chains are flat, so that only brackets and ``not`` nest, which the parser limits: code that
walks a tree may recurse.
"""

import dataclasses
import enum
from fractions import Fraction
from typing import TypeAlias


class Comparator(enum.StrEnum):
    """How two amounts are compared."""

    LE = "<="
    LT = "<"
    GE = ">="
    GT = ">"
    EQ = "=="
    NE = "!="


def _place() -> int:
    """A field for the place in the text, which does not belong to the meaning."""
    return dataclasses.field(default=0, compare=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Number:
    """A constant."""

    value: Fraction
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class Name:
    """The physical value of a feature."""

    name: str
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class ScoreOf:
    """``score(NAME)``: the physical value of an output."""

    name: str
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class Negative:
    """Minus the operand."""

    operand: "Amount"
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class Sum:
    """All parts added up; at least two."""

    parts: tuple["Amount", ...]
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class Product:
    """All factors multiplied, divided by all divisors."""

    factors: tuple["Amount", ...]
    divisors: tuple["Amount", ...]
    index: int = _place()


Amount: TypeAlias = Number | Name | ScoreOf | Negative | Sum | Product


@dataclasses.dataclass(frozen=True)
class Comparison:
    """``a <= b < c``: each neighbouring pair holds; one comparator fewer than operands."""

    operands: tuple[Amount, ...]
    comparators: tuple[Comparator, ...]
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class BestIn:
    """``best in {A, B}``; ``best == A`` is ``best in {A}``. The names stand in ``score``-like references."""

    classes: tuple[ScoreOf, ...]
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class Not:
    """The operand does not hold."""

    operand: "Condition"
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class AllOf:
    """``a and b``."""

    parts: tuple["Condition", ...]
    index: int = _place()


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """``a or b``."""

    parts: tuple["Condition", ...]
    index: int = _place()


Condition: TypeAlias = Comparison | BestIn | Not | AllOf | AnyOf
