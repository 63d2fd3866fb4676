"""`project` in closed form and whole numbers, where the nearest answer has one: most corrections of most models.

Leave out every clause but one that the answer does not satisfy, or all but those of one ordering. What is nearest then
has a closed form; if it satisfies the other clauses too, it is the nearest answer of all, for leaving out clauses can
only bring it nearer. In L2 there is only one such point, so this is, bit by bit, what the search in rational numbers
finds (:mod:`sidecar.gates.projection`, to which a law ties it), in a fraction of its time. Where it does not apply,
nothing is decided here.

Numbers are whole (:mod:`sidecar.gates.whole`), and no sum or product is ever rounded.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

from sidecar.gates.exact import Row
from sidecar.gates.values import Gate, Norm
from sidecar.gates.whole import NO_CHANGE, Change, Mentioned, WholeLiteral, WholeRow, mentioned, whole_literal
from sidecar.numerics import MAX_GROWTH_ROUNDS
from sidecar.tensors import FLOATING_DATATYPES, ModelSignature

MAX_LITERALS: Final = 32
"""Of a joint requirement: beyond it the time of one round is no longer small beside a request's."""

MAX_KNOWN: Final = 256
"""Sets of gates whose closed form is kept: a model has as many as its domains overlap."""


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """All clauses of a single literal, as an ordering: ``unit * sign * (y[top] - y[other])`` is at least something.

    Args:
        others: by the clause's number.
    """

    top: int
    sign: int
    unit: int
    others: dict[int, int]


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """The joint requirement of some gates, each literal whole."""

    clauses: tuple[tuple[WholeLiteral, ...], ...]
    comparisons: Comparisons | None
    mentioned: Mentioned

    def nearest(self, inputs: Row, outputs: Row) -> dict[int, float] | None:
        """The outputs that have to move, by index, as values of the wire; None where that has no closed form.

        Args:
            inputs: one row, finite where a literal mentions it.
            outputs: the same.

        Raises:
            OverflowError: a datatype's range ends before the nearest answer.
        """
        row = WholeRow(self.mentioned, inputs, outputs)
        stated = [[row.shortfall(literal) for literal in clause] for clause in self.clauses]
        tightened = [list(clause) for clause in stated]
        for _ in range(MAX_GROWTH_ROUNDS):
            change = self._smallest(tightened)
            if change is None:
                return None
            moved = row.after(change)
            failing = [number for number, clause in enumerate(self.clauses) if not row.holds(clause, moved)]
            if not failing:
                return moved
            for number in failing:
                for place, literal in enumerate(self.clauses[number]):
                    so_far = tightened[number][place] - stated[number][place]
                    tightened[number][place] = stated[number][place] + max(2 * so_far, row.growth(literal, moved))
        return None

    def _smallest(self, shortfalls: Sequence[Sequence[int]]) -> Change | None:
        lacking = [number for number, clause in enumerate(shortfalls) if all(each > 0 for each in clause)]
        if not lacking:
            return NO_CHANGE
        if len(lacking) == 1:
            change = _into_nearest(self.clauses[lacking[0]], shortfalls[lacking[0]])
        elif self.comparisons is not None:
            change = _into_ordering(self.comparisons, shortfalls)
        else:
            return None
        pairs = zip(self.clauses, shortfalls, strict=True)
        return change if all(_satisfies(change, clause, lacks) for clause, lacks in pairs) else None


def _into_nearest(clause: Sequence[WholeLiteral], shortfalls: Sequence[int]) -> Change:
    """Perpendicular to the nearest of a clause's halfspaces; of equally near ones the first."""
    best = 0
    for place in range(1, len(clause)):
        here, there = shortfalls[place] ** 2, shortfalls[best] ** 2
        if here * clause[best].norm_squared < there * clause[place].norm_squared:
            best = place
    literal, shortfall = clause[best], shortfalls[best]
    return Change({index: shortfall * value for index, value in literal.outputs}, literal.norm_squared)


def _into_ordering(comparisons: Comparisons, shortfalls: Sequence[Sequence[int]]) -> Change:
    """See :meth:`sidecar.gates.ordering.Ordering.smallest`."""
    gaps: dict[int, int] = {}
    for number, index in comparisons.others.items():
        (gap,) = shortfalls[number]
        gaps[index] = max(gap, gaps.get(index, gap))
    total, count = 0, 1
    for gap in sorted(gaps.values(), reverse=True):
        if gap * count <= total:
            break
        total, count = total + gap, count + 1
    sign = comparisons.sign
    moved = {index: sign * (total - gap * count) for index, gap in gaps.items() if gap * count > total}
    return Change(moved | ({comparisons.top: sign * total} if moved else {}), count * comparisons.unit)


def _satisfies(change: Change, clause: Sequence[WholeLiteral], shortfalls: Sequence[int]) -> bool:
    """Whether a clause's closure holds after a change."""
    numerators, bottom = change.numerators, change.denominator
    for literal, shortfall in zip(clause, shortfalls, strict=True):
        moved = sum(value * numerators[index] for index, value in literal.outputs if index in numerators)
        if shortfall * bottom <= moved:
            return True
    return False


class ClosedForms:
    """The closed forms of a model's gates, made when they are asked for."""

    def __init__(self, gates: Sequence[Gate], signature: ModelSignature) -> None:
        self._gates = gates
        self._signature = signature
        self._known: dict[tuple[int, ...], ClosedForm | None] = {}

    def of(self, gates: Sequence[int]) -> ClosedForm | None:
        """Of some gates jointly, by their numbers; None where their answers have none."""
        key = tuple(gates)
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = closed_form([self._gates[number] for number in gates], self._signature)
        return self._known[key]


def closed_form(gates: Sequence[Gate], signature: ModelSignature) -> ClosedForm | None:
    """The joint requirement of some gates, where answers to it may have a closed form."""
    literals = [literal for gate in gates for clause in gate.requirement.clauses for literal in clause]
    is_floating = set(signature.output_datatypes()) <= set(FLOATING_DATATYPES)
    norms = {gate.norm for gate in gates}
    if not is_floating or not 0 < len(literals) <= MAX_LITERALS or not all(each.outputs for each in literals):
        return None
    if len(norms) == 1 and Norm.L2 not in norms:  # where they differ it is L2
        return None
    clauses = [
        [whole_literal(literal, gate.margin) for literal in clause]
        for gate in gates
        for clause in gate.requirement.clauses
    ]
    unit = math.lcm(*(size for clause in clauses for literal in clause if (size := literal.compared)))
    common = tuple(
        tuple(literal.times(unit // literal.compared) if literal.compared else literal for literal in clause)
        for clause in clauses
    )
    return ClosedForm(common, _comparisons(common, unit), mentioned(literals, signature.output_datatypes()))


def _comparisons(clauses: Sequence[Sequence[WholeLiteral]], unit: int) -> Comparisons | None:
    singles = {number: clause[0] for number, clause in enumerate(clauses) if len(clause) == 1}
    if len(singles) < 2 or not all(each.compared for each in singles.values()):
        return None
    for sign in (1, -1):
        pairs = {number: sorted(each.outputs, key=lambda term: -sign * term[1]) for number, each in singles.items()}
        tops = {pair[0][0] for pair in pairs.values()}
        if len(tops) == 1:
            return Comparisons(tops.pop(), sign, unit, {number: pair[1][0] for number, pair in pairs.items()})
    return None
