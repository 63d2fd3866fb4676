"""The values that a gate is made of, in exact rational numbers.

A requirement is a conjunction of clauses, a clause a disjunction of literals, and a literal one linear
inequality over a row's outputs ``y`` and inputs ``x``:

    outputs . y + inputs . x + offset  > 0   (strict)   or   >= 0

A domain is a union of regions; a region is a box, optionally cut by literals that speak of inputs only.
Indices count the values of a row as :mod:`sidecar.tensors` concatenates them. Nothing here evaluates.
"""

import dataclasses
import enum
from fractions import Fraction
from typing import TypeAlias

Terms: TypeAlias = tuple[tuple[int, Fraction], ...]
"""A sparse linear form: (index, coefficient) pairs, indices ascending and distinct, coefficients nonzero."""

Clause: TypeAlias = tuple["Literal", ...]
"""A disjunction; at least one literal."""


class Action(enum.StrEnum):
    """What is done with a row on which a gate fires."""

    PROJECT = "project"
    FALLBACK = "fallback"
    REFUSE = "refuse"


class Mode(enum.StrEnum):
    """How seriously a property is taken at run time; changeable without a new bundle."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


class Norm(enum.StrEnum):
    """In which distance `project` is nearest."""

    L2 = "l2"
    L1 = "l1"
    LINF = "linf"


def terms(coefficients: dict[int, Fraction]) -> Terms:
    """A sparse linear form from a mapping; zero coefficients vanish."""
    return tuple(sorted((index, value) for index, value in coefficients.items() if value != 0))


def _check_terms(form: Terms) -> None:
    indices = [index for index, _ in form]
    if indices != sorted(set(indices)) or any(index < 0 for index in indices):
        raise ValueError(f"term indices must be ascending and distinct, got {indices}")
    if any(coefficient == 0 for _, coefficient in form):
        raise ValueError("a term's coefficient must not be zero")


@dataclasses.dataclass(frozen=True)
class Literal:
    """``outputs . y + inputs . x + offset > 0`` when strict, else ``>= 0``."""

    outputs: Terms
    inputs: Terms
    offset: Fraction
    strict: bool

    def __post_init__(self) -> None:
        _check_terms(self.outputs)
        _check_terms(self.inputs)

    def negated(self) -> "Literal":
        """The complement: exactly the points where this literal does not hold."""
        return Literal(
            outputs=tuple((index, -value) for index, value in self.outputs),
            inputs=tuple((index, -value) for index, value in self.inputs),
            offset=-self.offset,
            strict=not self.strict,
        )


@dataclasses.dataclass(frozen=True)
class Requirement:
    """Conjunctive normal form: every clause must hold. No clauses means that everything satisfies."""

    clauses: tuple[Clause, ...]

    def __post_init__(self) -> None:
        if any(not clause for clause in self.clauses):
            raise ValueError("a clause needs at least one literal; an empty one could never hold")


@dataclasses.dataclass(frozen=True)
class Box:
    """A closed box over input rows; ``lower[i] <= x[i] <= upper[i]``."""

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper) or not self.lower:
            raise ValueError(
                f"a box needs equally many lower and upper bounds, got {len(self.lower)}, {len(self.upper)}"
            )
        for index, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            if low > high:
                raise ValueError(f"empty box: feature {index} has lower bound {low} above upper bound {high}")


@dataclasses.dataclass(frozen=True)
class Region:
    """A box, and literals over inputs that its points must satisfy besides."""

    box: Box
    cuts: tuple[Literal, ...] = ()

    def __post_init__(self) -> None:
        if any(cut.outputs for cut in self.cuts):
            raise ValueError("a domain is cut by inequalities on inputs only")


@dataclasses.dataclass(frozen=True)
class Gate:
    """One property of one model as the request path sees it.

    Args:
        property_id: the property that it enforces.
        domain: the *effective* domain (bounds already widened to the wire datatype's nearest values).
        requirement: what an answer to an input in the domain must satisfy.
        action: what happens when it fires.
        margin: how far inside the requirement `project` lands, in the units of a literal's value; >= 0.
        norm: the distance in which `project` is nearest.
        fallback: the whole output row for action `fallback`, wire-representable values; else None.
    """

    property_id: str
    domain: tuple[Region, ...]
    requirement: Requirement
    action: Action
    margin: Fraction
    norm: Norm
    fallback: tuple[Fraction, ...] | None

    def __post_init__(self) -> None:
        if not self.domain:
            raise ValueError(f"gate {self.property_id!r} has an empty domain")
        if self.margin < 0:
            raise ValueError(f"gate {self.property_id!r} has margin {self.margin}; it must not be negative")
        if (self.action is Action.FALLBACK) != (self.fallback is not None):
            raise ValueError(f"gate {self.property_id!r}: a fallback row goes with action fallback, and only with it")
