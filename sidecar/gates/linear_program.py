"""A small linear program solver in exact rational arithmetic.

The simplex method on dictionaries with Bland's rule, so it cannot cycle and its answers are theorems, for the few
variables and constraints that a projection or a question of joint satisfiability has. Nothing here is fast.

Source: Chvatal, Linear Programming (1983), chapters 2 and 3.
"""

import dataclasses
import enum
from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.limits import PROGRAM_WORK, TooCostly, Work


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


def maximize(objective: Sequence[Fraction], constraints: Sequence[Constraint], work: Work | None = None) -> Solution:
    """Maximise ``objective . v`` over free (unbounded, signed) variables v under constraints.

    Args:
        objective: one coefficient per variable.
        constraints: each with as many coefficients.
        work: what may be spent, ``PROGRAM_WORK`` by default; beyond it the status is ``GAVE_UP``.

    Raises:
        ValueError: a constraint has another number of coefficients.
    """
    if any(len(constraint.coefficients) != len(objective) for constraint in constraints):
        raise ValueError(f"every constraint needs {len(objective)} coefficients, as many as the objective")
    program = _Dictionary(objective, constraints, work or Work(PROGRAM_WORK))
    try:
        if not program.find_feasible():
            return Solution(Status.INFEASIBLE)
        if not program.improve():
            return Solution(Status.UNBOUNDED)
    except TooCostly:
        return Solution(Status.GAVE_UP)
    point = program.point()
    return Solution(Status.OPTIMAL, point, sum((a * b for a, b in zip(objective, point, strict=True)), Fraction(0)))


class _Dictionary:
    """Chvatal's dictionary: each basic variable as an affine function of the nonbasic ones, all of them >= 0.

    Nonnegative variables stand for free ones as ``v_i = p_i - q`` with one q for all. Variables by number:
    0 to n - 1 the p, n the q, then the slacks, and last the artificial variable of the first phase.
    ``rows[basic] = [constant, coefficient of each variable]``, dense; coefficients of basic variables are zero.
    The first of ``objectives`` is what is being maximised; the others are only kept in step.
    """

    def __init__(self, objective: Sequence[Fraction], constraints: Sequence[Constraint], work: Work) -> None:
        self.variables = len(objective)
        self.artificial = self.variables + 1 + len(constraints)
        self.work = work
        self.objectives = [self._affine(objective, Fraction(0))]
        self.rows: dict[int, list[Fraction]] = {
            self.variables + 1 + number: self._affine(constraint.coefficients, constraint.offset)
            for number, constraint in enumerate(constraints)
        }

    def _affine(self, coefficients: Sequence[Fraction], constant: Fraction) -> list[Fraction]:
        row = [constant, *coefficients, -sum(coefficients, Fraction(0))]
        return row + [Fraction(0)] * (self.artificial + 2 - len(row))

    def find_feasible(self) -> bool:
        """Phase one: add the artificial variable to every row, and see whether it can be zero."""
        worst = min(self.rows, key=lambda basic: self.rows[basic][0], default=None)
        if worst is None or self.rows[worst][0] >= 0:
            return True
        for row in self.rows.values():
            row[1 + self.artificial] = Fraction(1)
        against = self._affine([Fraction(0)] * self.variables, Fraction(0))
        against[1 + self.artificial] = Fraction(-1)
        self.objectives.insert(0, against)
        self._pivot(self.artificial, worst)
        self.improve()
        if self.objectives[0][0] < 0:
            return False
        self._drop_artificial()
        return True

    def _drop_artificial(self) -> None:
        """Take it out for good; it is zero, so that another variable can stand for it where it is basic."""
        if self.artificial in self.rows:
            row = self.rows[self.artificial]
            self._pivot(next(number for number, value in enumerate(row[1:]) if value), self.artificial)
        del self.objectives[0]
        for row in (*self.rows.values(), *self.objectives):
            row[1 + self.artificial] = Fraction(0)

    def improve(self) -> bool:
        """Pivot by Bland's rule until no variable improves the objective. False where it is unbounded."""
        while (entering := self._entering()) is not None:
            leaving = self._leaving(entering)
            if leaving is None:
                return False
            self._pivot(entering, leaving)
        return True

    def _entering(self) -> int | None:
        return next((number for number, value in enumerate(self.objectives[0][1:]) if value > 0), None)

    def _leaving(self, entering: int) -> int | None:
        column = 1 + entering
        limits = [(-row[0] / row[column], basic) for basic, row in self.rows.items() if row[column] < 0]
        return min(limits)[1] if limits else None

    def _pivot(self, entering: int, leaving: int) -> None:
        """Solve the leaving variable's row for the entering variable, and put the result into all other rows."""
        self.work.spend(len(self.rows) * len(self.objectives[0]))
        column = 1 + entering
        row = self.rows.pop(leaving)
        solved = [-value / row[column] for value in row]
        solved[column] = Fraction(0)
        solved[1 + leaving] = 1 / row[column]
        for other in (*self.rows.values(), *self.objectives):
            scale = other[column]
            if scale:
                other[column] = Fraction(0)
                other[:] = [value + scale * change for value, change in zip(other, solved, strict=True)]
        self.rows[entering] = solved

    def point(self) -> tuple[Fraction, ...]:
        """The free variables at the current vertex."""
        value = [self.rows[number][0] if number in self.rows else Fraction(0) for number in range(self.variables + 1)]
        return tuple(p - value[self.variables] for p in value[: self.variables])
