"""Nearest points of a polyhedron in L1 and Linf, as exact linear programs.

Such points are not unique. L1 takes a vertex, which moves few outputs; Linf takes, among all that are nearest, one with the
smallest L1 distance, so that nothing moves without need.
"""

from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Halfspace, Point
from sidecar.gates.limits import MAX_PROJECTION_PIVOTS, TooCostly
from sidecar.gates.linear_program import Constraint, Status, maximize


def nearest_l1(halfspaces: Sequence[Halfspace], origin: Point) -> Point | None:
    """A point nearest in the sum of absolute changes; None where the halfspaces have no point in common.

    Raises:
        TooCostly: more than ``MAX_PROJECTION_PIVOTS`` pivots.
    """
    return _smallest_sum(halfspaces, origin, largest=None)


def nearest_linf(halfspaces: Sequence[Halfspace], origin: Point) -> Point | None:
    """A point nearest in the largest absolute change; None and TooCostly as for L1."""
    # Variables: the changes, then their largest magnitude.
    size = len(origin)
    changes = _changes(halfspaces, origin, size + 1)
    limits = [_constraint(size + 1, {place: sign, size: 1}) for place in range(size) for sign in (1, -1)]
    best = _minimize({size: Fraction(1)}, size + 1, changes + limits)
    return None if best is None else _smallest_sum(halfspaces, origin, largest=best[size])


def _smallest_sum(halfspaces: Sequence[Halfspace], origin: Point, largest: Fraction | None) -> Point | None:
    """A point with the smallest sum of magnitudes of changes, none of them above ``largest``."""
    # Variables: the changes, then a bound on the magnitude of each.
    size = len(origin)
    program = _changes(halfspaces, origin, 2 * size)
    for place in range(size):
        program += [_constraint(2 * size, {place: sign, size + place: 1}) for sign in (1, -1)]
        if largest is not None:
            program.append(_constraint(2 * size, {size + place: -1}, largest))
    best = _minimize({size + place: Fraction(1) for place in range(size)}, 2 * size, program)
    if best is None:
        return None
    return {index: value + change for (index, value), change in zip(origin.items(), best, strict=False)}


def _changes(halfspaces: Sequence[Halfspace], origin: Point, variables: int) -> list[Constraint]:
    """The halfspaces, over changes from the origin in its order, as the first of so many variables."""
    places = {index: place for place, index in enumerate(origin)}
    return [
        _constraint(variables, {places[i]: value for i, value in halfspace.normal}, -halfspace.shortfall(origin))
        for halfspace in halfspaces
    ]


def _constraint(variables: int, entries: dict[int, int] | dict[int, Fraction], offset: Fraction = Fraction(0)) -> Constraint:
    return Constraint(tuple(Fraction(entries.get(place, 0)) for place in range(variables)), offset)


def _minimize(objective: dict[int, Fraction], variables: int, program: Sequence[Constraint]) -> tuple[Fraction, ...] | None:
    """Minimise a sum of magnitudes, which cannot be unbounded."""
    negated = [-objective.get(place, Fraction(0)) for place in range(variables)]
    solution = maximize(negated, program, MAX_PROJECTION_PIVOTS)
    if solution.status is Status.GAVE_UP:
        raise TooCostly
    return solution.point
