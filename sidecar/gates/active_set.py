"""Smallest change in L2 into a polyhedron: a dual active-set method in exact rational arithmetic.

Exactness is what makes it simple: no tolerance says whether a constraint is violated or a normal dependent on
others, and each full step raises the distance, so the method ends with the smallest change or with proof that there
is none.

Source: Goldfarb and Idnani, A numerically stable dual method for solving strictly convex quadratic programs,
Mathematical Programming 27 (1983), section 3, with the identity as Hessian.
"""

from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.exact import sum_of_products
from sidecar.gates.halfspaces import Change, Halfspace
from sidecar.gates.limits import Work
from sidecar.gates.values import Terms

_ZERO = Fraction(0)


def smallest_by_active_set(halfspaces: Sequence[Halfspace], work: Work) -> Change | None:
    """The smallest change into all halfspaces; None where they have no point in common.

    Raises:
        TooCostly: the work allowed was used up.
    """
    solve = _Solve(work)
    while (entering := _farthest(halfspaces, solve.change)) is not None:
        work.spend(len(halfspaces))
        if not solve.make_active(entering):
            return None
    return {index: value for index, value in solve.change.items() if value}


def _farthest(halfspaces: Sequence[Halfspace], change: Change) -> Halfspace | None:
    """The violated halfspace that is farthest away; None where all hold."""
    distances = [
        (lacking * lacking / halfspace.norm_squared, number)
        for number, halfspace in enumerate(halfspaces)
        if (lacking := halfspace.lacks(change)) > 0
    ]
    return halfspaces[max(distances)[1]] if distances else None


class _Solve:
    """The state of one solve: ``change`` is the smallest one into the active halfspaces, all of them tight.

    ``change = sum of multipliers * normals``, multipliers >= 0, active normals linearly independent.
    """

    def __init__(self, work: Work) -> None:
        self.change: Change = {}
        self.active: list[Halfspace] = []
        self.multipliers: list[Fraction] = []
        self.work = work

    def make_active(self, entering: Halfspace) -> bool:
        """Move until ``entering`` is tight, dropping what blocks the way.

        Returns False where the halfspaces exclude each other.
        """
        pressure = _ZERO
        while True:
            self.work.spend(1 + len(self.active) ** 3)
            weights = _weights(self.active, entering)
            direction = _residual(self.active, weights, entering)
            blocking = self._blocking(weights)
            if direction:
                full = entering.lacks(self.change) / sum_of_products((value, value) for value in direction.values())
                if blocking is None or full <= blocking[0]:
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

    def _blocking(self, weights: list[Fraction]) -> tuple[Fraction, int] | None:
        """The longest step that keeps all multipliers >= 0, and the active halfspace that then leaves."""
        pairs = enumerate(zip(self.multipliers, weights, strict=True))
        return min(((multiplier / weight, place) for place, (multiplier, weight) in pairs if weight > 0), default=None)

    def _move(self, step: Fraction, direction: Change, weights: list[Fraction]) -> None:
        for index, value in direction.items():
            self.change[index] = self.change.get(index, _ZERO) + step * value
        self.multipliers = [
            multiplier - step * weight for multiplier, weight in zip(self.multipliers, weights, strict=True)
        ]


def _weights(active: Sequence[Halfspace], entering: Halfspace) -> list[Fraction]:
    """The combination of the active normals that is nearest to the entering one (least squares)."""
    gram = [[_dot(one.normal, other.normal) for other in active] for one in active]
    return _solved(gram, [_dot(one.normal, entering.normal) for one in active])


def _residual(active: Sequence[Halfspace], weights: Sequence[Fraction], entering: Halfspace) -> Change:
    """The entering normal's part orthogonal to the active normals; empty where it depends on them."""
    residual = dict(entering.normal)
    for halfspace, weight in zip(active, weights, strict=True):
        for index, value in halfspace.normal:
            residual[index] = residual.get(index, _ZERO) - weight * value
    return {index: value for index, value in residual.items() if value}


def _dot(one: Terms, other: Terms) -> Fraction:
    others = dict(other)
    return sum_of_products((value, others[index]) for index, value in one if index in others)


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
