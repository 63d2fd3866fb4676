"""A joint requirement at one input, as halfspaces over the outputs that it mentions.

With the inputs known, a literal is ``normal . y >= bound`` (its closure). A point is a mapping from output index to
exact value; it holds the outputs that the requirement mentions, and no other can need to move.
"""

import dataclasses
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

from sidecar.gates.exact import Row, linear_value, literal_holds
from sidecar.gates.values import Clause, Gate, Literal, Terms

Point: TypeAlias = dict[int, Fraction]
"""Output index to value, exact."""


@dataclasses.dataclass(frozen=True)
class Halfspace:
    """``normal . y >= bound``; the normal is not empty, ``norm_squared`` is its squared length."""

    normal: Terms
    bound: Fraction
    norm_squared: Fraction

    def shortfall(self, point: Point) -> Fraction:
        """``bound - normal . y``: positive outside, in units of the literal's value."""
        return self.bound - sum((value * point[index] for index, value in self.normal), Fraction(0))

    def tightened(self, growth: Fraction) -> "Halfspace":
        """Moved inwards by ``growth``, in units of the literal's value."""
        return Halfspace(self.normal, self.bound + growth, self.norm_squared)


Alternatives: TypeAlias = tuple[Halfspace, ...]
"""A disjunction of halfspaces; an empty one cannot be satisfied."""


@dataclasses.dataclass(frozen=True)
class JointClause:
    """A clause of a joint requirement: as stated, and what it asks of the outputs at the given input."""

    literals: Clause
    halfspaces: Alternatives


def joint_clauses(gates: Iterable[Gate], inputs: Row) -> list[JointClause]:
    """All clauses of some gates at one input, each literal tightened by its gate's margin.

    Clauses that the inputs alone satisfy are left out; so are literals that the inputs alone refute.
    """
    pairs = [(clause, gate.margin) for gate in gates for clause in gate.requirement.clauses]
    return [
        JointClause(clause, tuple(_halfspace(literal, inputs, margin) for literal in clause if literal.outputs))
        for clause, margin in pairs
        if not any(_holds_by_inputs(literal, inputs) for literal in clause)
    ]


def _holds_by_inputs(literal: Literal, inputs: Row) -> bool:
    return not literal.outputs and literal_holds(literal, inputs, ())


def _halfspace(literal: Literal, inputs: Row, margin: Fraction) -> Halfspace:
    return Halfspace(
        normal=literal.outputs,
        bound=margin - literal.offset - linear_value(literal.inputs, inputs),
        norm_squared=sum((value * value for _, value in literal.outputs), Fraction(0)),
    )
