"""Smallest changes into a polyhedron in L1 and Linf, as exact linear programs.

They are not unique. L1 takes a vertex, which moves few outputs; Linf takes, among all that are smallest, one with the
smallest L1 length, so that nothing moves without need.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Change, Halfspace
from sidecar.gates.limits import TooCostly, Work
from sidecar.gates.linear_program import Constraint, Status, maximize

_ONE = Fraction(1)


def smallest_l1(halfspaces: Sequence[Halfspace], work: Work) -> Change | None:
    """A change smallest in the sum of magnitudes; None where the halfspaces have no point in common.

    Raises:
        TooCostly: the work allowed was used up.
    """
    return _smallest_sum(halfspaces, None, work)


def smallest_linf(halfspaces: Sequence[Halfspace], work: Work) -> Change | None:
    """A change smallest in its largest magnitude; None and TooCostly as for L1."""
    # Variables: the changes, then their largest magnitude.
    size = len(_moving(halfspaces))
    program = _within(halfspaces, size + 1)
    for place in range(size):
        program += [_constraint(size + 1, {place: sign, size: _ONE}) for sign in (_ONE, -_ONE)]
    best = _minimized({size: _ONE}, size + 1, program, work)
    return None if best is None else _smallest_sum(halfspaces, best[size], work)


def _smallest_sum(halfspaces: Sequence[Halfspace], largest: Fraction | None, work: Work) -> Change | None:
    """A change with the smallest sum of magnitudes, none of them above ``largest``."""
    # Variables: the changes, then a bound on the magnitude of each.
    moving = _moving(halfspaces)
    size = len(moving)
    program = _within(halfspaces, 2 * size)
    for place in range(size):
        program += [_constraint(2 * size, {place: sign, size + place: _ONE}) for sign in (_ONE, -_ONE)]
        if largest is not None:
            program.append(_constraint(2 * size, {size + place: -_ONE}, largest))
    best = _minimized({size + place: _ONE for place in range(size)}, 2 * size, program, work)
    if best is None:
        return None
    return {index: value for index, value in zip(moving, best, strict=False) if value}


def _moving(halfspaces: Sequence[Halfspace]) -> list[int]:
    """The outputs that the halfspaces mention, ascending."""
    return sorted({index for halfspace in halfspaces for index, _ in halfspace.normal})


def _within(halfspaces: Sequence[Halfspace], variables: int) -> list[Constraint]:
    """The halfspaces as constraints, the changes being the first of so many variables."""
    places = {index: place for place, index in enumerate(_moving(halfspaces))}
    return [
        _constraint(variables, {places[index]: value for index, value in halfspace.normal}, -halfspace.shortfall)
        for halfspace in halfspaces
    ]


def _constraint(variables: int, entries: Mapping[int, Fraction], offset: Fraction = Fraction(0)) -> Constraint:
    return Constraint(tuple(entries.get(place, Fraction(0)) for place in range(variables)), offset)


def _minimized(
    objective: Mapping[int, Fraction], variables: int, program: Sequence[Constraint], work: Work
) -> tuple[Fraction, ...] | None:
    """Minimise a sum of magnitudes, which cannot be unbounded. None where nothing satisfies the program."""
    negated = [-objective.get(place, Fraction(0)) for place in range(variables)]
    solution = maximize(negated, program, work)
    if solution.status is Status.GAVE_UP:
        raise TooCostly
    return solution.point
