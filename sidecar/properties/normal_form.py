"""Formulas as flat lists: conjunctions of clauses for requirements, disjunctions of conjunctions for domains.

Multiplying ``and`` out over ``or`` can explode; the size of the result is therefore computed before any of
it is made, and a formula whose normal form is too large is refused.
"""

import itertools
from typing import Final, TypeAlias

from sidecar.gates.values import Clause, Literal, Requirement
from sidecar.properties.formulas import And, Formula, Or
from sidecar.properties.source import Complaint

MAX_PARTS: Final = 10_000
"""Clauses of one requirement, or regions of one domain."""

MAX_LITERALS: Final = 1_000_000
"""Literals in all of them together; a box of 3072 inputs takes 6144."""

Conjunct: TypeAlias = tuple[Literal, ...]
"""Literals that hold together; none of them: always."""


def conjuncts(formula: Formula) -> tuple[Conjunct, ...]:
    """Disjunctive normal form: the formula holds where all literals of some conjunct do.

    Raises:
        Complaint: larger than the limits above.
    """
    return _flat(formula, outer=Or)


def requirement(formula: Formula) -> Requirement:
    """Conjunctive normal form, repeated literals and clauses left out. The formula is not ``FALSE``.

    Raises:
        Complaint: larger than the limits above.
    """
    return _distinct(_flat(formula, outer=And))


def safe(unsafe: tuple[Conjunct, ...]) -> Requirement:
    """What keeps out of all the given conjuncts: of each, some literal fails. None of them is empty."""
    return _distinct(tuple(tuple(literal.negated() for literal in conjunct) for conjunct in unsafe))


def check_size(parts: int, literals: int) -> None:
    """Refuse a normal form that would be too large.

    Raises:
        Complaint: beyond ``MAX_PARTS`` or ``MAX_LITERALS``.
    """
    if parts > MAX_PARTS or literals > MAX_LITERALS:
        raise Complaint(
            f"multiplied out, this condition has more than {MAX_PARTS} alternatives or {MAX_LITERALS} inequalities;"
            " nest fewer and/or inside one another, or split the property"
        )


def _distinct(clauses: tuple[Clause, ...]) -> Requirement:
    return Requirement(tuple(dict.fromkeys(tuple(dict.fromkeys(clause)) for clause in clauses)))


def _flat(formula: Formula, outer: type[And] | type[Or]) -> tuple[Conjunct, ...]:
    check_size(*_size(formula, outer))
    return tuple(_expanded(formula, outer))


def _size(formula: Formula, outer: type[And] | type[Or]) -> tuple[int, int]:
    """How many groups, and literals in them all, the expansion has; capped just above the limits."""
    if isinstance(formula, Literal):
        return 1, 1
    sizes = [_size(part, outer) for part in formula.parts]
    if isinstance(formula, outer):
        return sum(count for count, _ in sizes), sum(literals for _, literals in sizes)
    groups, literals = 1, 0
    for count, inside in sizes:
        groups, literals = (
            min(groups * count, MAX_PARTS + 1),
            min(literals * count + inside * groups, MAX_LITERALS + 1),
        )
    return groups, literals


def _expanded(formula: Formula, outer: type[And] | type[Or]) -> list[Conjunct]:
    if isinstance(formula, Literal):
        return [(formula,)]
    parts = [_expanded(part, outer) for part in formula.parts]
    if isinstance(formula, outer):
        return list(itertools.chain.from_iterable(parts))
    return [tuple(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*parts)]
