"""A small linear program solver in exact rational arithmetic.

The simplex method on dictionaries with Bland's rule, so it cannot cycle and its answers are theorems, for the few
variables and constraints that a projection or a question of joint satisfiability has. Nothing here is fast.

Source: Chvatal, Linear Programming (1983), chapters 2 and 3.
"""

import dataclasses
import enum
from collections.abc import Sequence
from fractions import Fraction

MAX_PIVOTS = 20_000
"""Pivots in one solve before it gives up; far beyond what a projection needs, so that work stays bounded."""


class Status(enum.StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    GAVE_UP = "gave_up"


@dataclasses.dataclass(frozen=True)
class Constraint:
    """``coefficients . v + offset >= 0``."""

    coefficients: tuple[Fraction, ...]
    offset: Fraction


@dataclasses.dataclass(frozen=True)
class Solution:
    """The end of a solve.

    Args:
        status: see :class:`Status`.
        point: an optimal point, exactly; None unless optimal.
        value: the objective there; None unless optimal.
    """

    status: Status
    point: tuple[Fraction, ...] | None = None
    value: Fraction | None = None


def maximize(
    objective: Sequence[Fraction], constraints: Sequence[Constraint], max_pivots: int = MAX_PIVOTS
) -> Solution:
    """Maximise ``objective . v`` over free (unbounded, signed) variables v under constraints.

    Args:
        objective: one coefficient per variable.
        constraints: each with as many coefficients.

    Raises:
        ValueError: a constraint has another number of coefficients.
    """
    if any(len(constraint.coefficients) != len(objective) for constraint in constraints):
        raise ValueError(f"every constraint needs {len(objective)} coefficients, as many as the objective")
    program = _Dictionary(objective, constraints, max_pivots)
    try:
        if not program.find_feasible():
            return Solution(Status.INFEASIBLE)
        if not program.improve():
            return Solution(Status.UNBOUNDED)
    except _GaveUp:
        return Solution(Status.GAVE_UP)
    point = program.point()
    return Solution(Status.OPTIMAL, point, sum((a * b for a, b in zip(objective, point, strict=True)), Fraction(0)))


class _GaveUp(Exception):
    """The pivots are used up."""


class _Dictionary:
    """Chvatal's dictionary: each basic variable as an affine function of the nonbasic ones, all of them >= 0.

    Nonnegative variables stand for free ones as ``v_i = p_i - q`` with one q for all. Variables by number:
    0 to n - 1 the p, n the q, then the slacks, and last the artificial variable of the first phase.
    ``rows[basic] = [constant, coefficient of each variable]``, dense; coefficients of basic variables are zero.
    """

    def __init__(self, objective: Sequence[Fraction], constraints: Sequence[Constraint], max_pivots: int) -> None:
        self.variables = len(objective)
        self.artificial = self.variables + 1 + len(constraints)
        self.pivots_left = max_pivots
        self.objective = self._affine(objective, Fraction(0))
        self.rows: dict[int, list[Fraction]] = {
            self.variables + 1 + number: self._affine(constraint.coefficients, constraint.offset)
            for number, constraint in enumerate(constraints)
        }

    def _affine(self, coefficients: Sequence[Fraction], constant: Fraction) -> list[Fraction]:
        row = [constant, *coefficients, -sum(coefficients, Fraction(0))]
        return row + [Fraction(0)] * (self.artificial + 2 - len(row))

    def find_feasible(self) -> bool:
        """Phase one: minimise the artificial variable that is added to every row."""
        worst = min(self.rows, key=lambda basic: self.rows[basic][0], default=None)
        if worst is None or self.rows[worst][0] >= 0:
            return True
        for row in self.rows.values():
            row[1 + self.artificial] = Fraction(1)
        saved, self.objective = self.objective, self._affine([Fraction(0)] * self.variables, Fraction(0))
        self.objective[1 + self.artificial] = Fraction(-1)
        swap = [saved]
        self._pivot(self.artificial, worst, swap)
        self._run(swap)
        if self.objective[0] < 0:
            return False
        self._drop_artificial(swap)
        self.objective = swap[0]
        return True

    def _drop_artificial(self, also: list[list[Fraction]]) -> None:
        if self.artificial in self.rows:
            row = self.rows[self.artificial]
            entering = next((number - 1 for number in range(1, len(row)) if row[number] != 0), None)
            if entering is None:
                del self.rows[self.artificial]
            else:
                self._pivot(entering, self.artificial, also)
        for row in (*self.rows.values(), *also):
            row[1 + self.artificial] = Fraction(0)

    def improve(self) -> bool:
        """Phase two. False where the objective is unbounded."""
        return self._run([])

    def _run(self, also: list[list[Fraction]]) -> bool:
        """Pivot by Bland's rule until no variable improves the objective."""
        while (entering := self._entering()) is not None:
            leaving = self._leaving(entering)
            if leaving is None:
                return False
            self._pivot(entering, leaving, also)
        return True

    def _entering(self) -> int | None:
        return next((number - 1 for number in range(1, len(self.objective)) if self.objective[number] > 0), None)

    def _leaving(self, entering: int) -> int | None:
        limits = [
            (-row[0] / row[1 + entering], basic) for basic, row in self.rows.items() if row[1 + entering] < 0
        ]
        return min(limits, default=(None, None))[1]

    def _pivot(self, entering: int, leaving: int, also: list[list[Fraction]]) -> None:
        """Solve the leaving row for the entering variable, and put it into all other rows."""
        self.pivots_left -= 1
        if self.pivots_left < 0:
            raise _GaveUp
        row = self.rows.pop(leaving)
        factor = row[1 + entering]
        solved = [-value / factor for value in row]
        solved[1 + entering] = Fraction(0)
        solved[1 + leaving] = 1 / factor
        for other in (*self.rows.values(), self.objective, *also):
            scale = other[1 + entering]
            if scale:
                other[1 + entering] = Fraction(0)
                other[:] = [value + scale * change for value, change in zip(other, solved, strict=True)]
        self.rows[entering] = solved

    def point(self) -> tuple[Fraction, ...]:
        """The free variables at the current vertex."""
        value = [self.rows[number][0] if number in self.rows else Fraction(0) for number in range(self.variables + 1)]
        return tuple(p - value[self.variables] for p in value[: self.variables])
