"""A joint requirement at one answer, as halfspaces over changes of that answer.

With inputs and outputs known, a literal asks of a change d of the outputs that ``normal . d >= shortfall``. Where a
shortfall is not positive, no change is needed. A change is sparse: it holds the outputs that move, and no others.
"""

import dataclasses
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

from sidecar.gates.exact import Row, literal_holds, literal_value, sum_of_products
from sidecar.gates.values import Clause, Gate, Literal, Terms

Change: TypeAlias = dict[int, Fraction]
"""Output index to what is added to it, exact and not zero; outputs that stay are absent."""


@dataclasses.dataclass(frozen=True)
class Halfspace:
    """``normal . change >= shortfall``, in units of the literal's value.

    Args:
        normal: not empty.
        norm_squared: its squared Euclidean length.
        shortfall: how much the literal's value lacks where nothing changes; negative where it has more than enough.
    """

    normal: Terms
    norm_squared: Fraction
    shortfall: Fraction

    def tightened(self, growth: Fraction) -> "Halfspace":
        """Moved inwards by ``growth``, in units of the literal's value."""
        return Halfspace(self.normal, self.norm_squared, self.shortfall + growth)

    def lacks(self, change: Change) -> Fraction:
        """What the literal's value still lacks after a change; not positive inside."""
        moved = [(-value, change[index]) for index, value in self.normal if index in change]
        return sum_of_products(moved, self.shortfall) if moved else self.shortfall


Alternatives: TypeAlias = tuple[Halfspace, ...]
"""A disjunction of halfspaces; an empty one cannot be satisfied."""


@dataclasses.dataclass(frozen=True)
class JointClause:
    """A clause of a joint requirement: as stated, and what it asks of changes of the given answer."""

    literals: Clause
    halfspaces: Alternatives


def joint_clauses(
    gates: Iterable[Gate], inputs: Row, outputs: Row, held: frozenset[int] = frozenset()
) -> list[JointClause]:
    """All clauses of some gates at one answer, each literal tightened by its gate's margin.

    Outputs in ``held`` stay where they are, as inputs do. Clauses that these alone satisfy are left out; so are
    literals that they alone refute.
    """
    pairs = [(clause, gate.margin) for gate in gates for clause in gate.requirement.clauses]
    return [
        JointClause(
            clause,
            tuple(
                _halfspace(normal, literal, inputs, outputs, margin)
                for literal in clause
                if (normal := _movable(literal, held))
            ),
        )
        for clause, margin in pairs
        if not any(not _movable(literal, held) and literal_holds(literal, inputs, outputs) for literal in clause)
    ]


def _movable(literal: Literal, held: frozenset[int]) -> Terms:
    return tuple(term for term in literal.outputs if term[0] not in held) if held else literal.outputs


def _halfspace(normal: Terms, literal: Literal, inputs: Row, outputs: Row, margin: Fraction) -> Halfspace:
    return Halfspace(
        normal=normal,
        norm_squared=sum_of_products((value, value) for _, value in normal),
        shortfall=margin - literal_value(literal, inputs, outputs),
    )
