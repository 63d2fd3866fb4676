"""Nearest point of a polyhedron in L2: a dual active-set method in exact rational arithmetic.

Exactness is what makes it simple: no tolerance says whether a constraint is violated or a normal dependent on
others, and each full step raises the distance, so the method ends with the nearest point or with proof that there is none.

Source: Goldfarb and Idnani, A numerically stable dual method for solving strictly convex quadratic programs,
Mathematical Programming 27 (1983), section 3, with the identity as Hessian.
"""

from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Halfspace, Point
from sidecar.gates.limits import MAX_ACTIVE_SET_STEPS, TooCostly
from sidecar.gates.values import Terms


def nearest_by_active_set(halfspaces: Sequence[Halfspace], origin: Point) -> Point | None:
    """The point nearest to ``origin``; None where the halfspaces have no point in common.

    Raises:
        TooCostly: more than ``MAX_ACTIVE_SET_STEPS`` steps.
    """
    solve = _Solve(origin)
    while (entering := _farthest(halfspaces, solve.point)) is not None:
        if not solve.make_active(entering):
            return None
    return solve.point


def _farthest(halfspaces: Sequence[Halfspace], point: Point) -> Halfspace | None:
    """The violated halfspace farthest from the point; None where all hold."""
    distances = [
        (shortfall * shortfall / halfspace.norm_squared, number)
        for number, halfspace in enumerate(halfspaces)
        if (shortfall := halfspace.shortfall(point)) > 0
    ]
    return halfspaces[max(distances)[1]] if distances else None


class _Solve:
    """The state of one solve: ``point`` is nearest within the active halfspaces, all of them tight.

    ``point - origin = sum of multipliers * normals``, multipliers >= 0, active normals linearly independent.
    """

    def __init__(self, origin: Point) -> None:
        self.point = dict(origin)
        self.active: list[Halfspace] = []
        self.multipliers: list[Fraction] = []
        self.steps_left = MAX_ACTIVE_SET_STEPS

    def make_active(self, entering: Halfspace) -> bool:
        """Move until ``entering`` is tight, dropping what blocks the way. False where the halfspaces exclude each other."""
        pressure = Fraction(0)
        while True:
            self._spend()
            weights = _weights(self.active, entering)
            direction = _residual(self.active, weights, entering)
            length_squared = sum((value * value for value in direction.values()), Fraction(0))
            blocking = self._blocking(weights)
            full = entering.shortfall(self.point) / length_squared if length_squared else None
            if full is not None and (blocking is None or full <= blocking[0]):
                self._move(full, direction, weights)
                self.active.append(entering)
                self.multipliers.append(pressure + full)
                return True
            if blocking is None:
                return False
            step, leaving = blocking
            self._move(step, direction, weights)
            pressure += step
            del self.active[leaving], self.multipliers[leaving]

    def _spend(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise TooCostly

    def _blocking(self, weights: list[Fraction]) -> tuple[Fraction, int] | None:
        """The longest step that keeps all multipliers >= 0, and the active halfspace that then leaves."""
        pairs = enumerate(zip(self.multipliers, weights, strict=True))
        return min(((multiplier / weight, place) for place, (multiplier, weight) in pairs if weight > 0), default=None)

    def _move(self, step: Fraction, direction: dict[int, Fraction], weights: list[Fraction]) -> None:
        for index, value in direction.items():
            self.point[index] += step * value
        self.multipliers = [
            multiplier - step * weight for multiplier, weight in zip(self.multipliers, weights, strict=True)
        ]


def _weights(active: Sequence[Halfspace], entering: Halfspace) -> list[Fraction]:
    """The combination of the active normals that is nearest to the entering one (least squares)."""
    gram = [[_dot(one.normal, other.normal) for other in active] for one in active]
    return _solved(gram, [_dot(one.normal, entering.normal) for one in active])


def _residual(active: Sequence[Halfspace], weights: Sequence[Fraction], entering: Halfspace) -> dict[int, Fraction]:
    """The entering normal's part orthogonal to the active normals, nonzero entries only."""
    residual = dict(entering.normal)
    for halfspace, weight in zip(active, weights, strict=True):
        for index, value in halfspace.normal:
            residual[index] = residual.get(index, Fraction(0)) - weight * value
    return {index: value for index, value in residual.items() if value}


def _dot(one: Terms, other: Terms) -> Fraction:
    others = dict(other)
    return sum((value * others[index] for index, value in one if index in others), Fraction(0))


def _solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination without pivoting: a Gram matrix of independent vectors is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for place, pivot_row in enumerate(rows):
        pivot = pivot_row[place]
        pivot_row[:] = [value / pivot for value in pivot_row]
        for other in rows:
            factor = other[place]
            if other is not pivot_row and factor:
                other[:] = [value - factor * change for value, change in zip(other, pivot_row, strict=True)]
    return [row[-1] for row in rows]
