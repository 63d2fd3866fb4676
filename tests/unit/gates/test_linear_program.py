"""The exact simplex method: textbook programs, every status, and scipy as referee."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from sidecar.gates.limits import Work
from sidecar.gates.linear_program import Constraint, Solution, Status, maximize


def at_least(offset, *coefficients) -> Constraint:
    """``coefficients . v + offset >= 0``"""
    return Constraint(tuple(map(Fraction, coefficients)), Fraction(offset))


def test_a_textbook_program():
    """Chvatal's opening example: 5 a + 4 b + 3 c, optimum 13 at (2, 0, 1)."""
    constraints = [at_least(5, -2, -3, -1), at_least(11, -4, -1, -2), at_least(8, -3, -4, -2)]
    constraints += [at_least(0, 1, 0, 0), at_least(0, 0, 1, 0), at_least(0, 0, 0, 1)]
    assert maximize([Fraction(5), Fraction(4), Fraction(3)], constraints) == Solution(
        Status.OPTIMAL, (Fraction(2), Fraction(0), Fraction(1)), Fraction(13)
    )


def test_variables_are_free():
    solution = maximize([Fraction(-1)], [at_least(7, 1)])
    assert (solution.point, solution.value) == ((Fraction(-7),), Fraction(7))


def test_answers_are_exact():
    solution = maximize([Fraction(1)], [at_least(1, -3)])
    assert solution.value == Fraction(1, 3)


def test_contradictory_constraints_are_infeasible():
    assert maximize([Fraction(0)], [at_least(-2, 1), at_least(1, -1)]) == Solution(Status.INFEASIBLE)


def test_a_single_point_is_feasible():
    solution = maximize([Fraction(1), Fraction(1)], [at_least(-1, 1, 0), at_least(1, -1, 0), at_least(2, 0, -1)])
    assert solution.point == (Fraction(1), Fraction(2))


def test_an_objective_without_bound():
    assert maximize([Fraction(1)], [at_least(-2, 1)]) == Solution(Status.UNBOUNDED)
    assert maximize([Fraction(1)], []) == Solution(Status.UNBOUNDED)


def test_no_objective_and_no_constraints():
    assert maximize([Fraction(0)], []) == Solution(Status.OPTIMAL, (Fraction(0),), Fraction(0))


def test_redundant_equalities_leave_no_artificial_variable_behind():
    """Feasible only where both of two dependent equalities hold: the first phase ends with a degenerate basis."""
    equalities = [at_least(-3, 1, 1), at_least(3, -1, -1), at_least(-6, 2, 2), at_least(6, -2, -2)]
    solution = maximize([Fraction(1), Fraction(0)], [*equalities, at_least(0, 0, 1)])
    assert solution.point == (Fraction(3), Fraction(0))


def test_beales_cycling_program_ends():
    """Cycles for ever under the largest-coefficient rule; Bland's rule ends it. Optimum 1/20."""
    objective = [Fraction(3, 4), Fraction(-150), Fraction(1, 50), Fraction(-6)]
    constraints = [
        at_least(0, Fraction(-1, 4), 60, Fraction(1, 25), -9),
        at_least(0, Fraction(-1, 2), 90, Fraction(1, 50), -3),
        at_least(1, 0, 0, -1, 0),
        *(at_least(0, *(int(place == axis) for place in range(4))) for axis in range(4)),
    ]
    assert maximize(objective, constraints).value == Fraction(1, 20)


def test_the_limit_on_work_is_kept():
    box = [at_least(1, *(-int(place == axis) for place in range(4))) for axis in range(4)]
    objective = [Fraction(1)] * 4
    assert maximize(objective, box, Work(120)) == Solution(Status.GAVE_UP)
    assert maximize(objective, box).status is Status.OPTIMAL


def test_a_constraint_of_another_size_is_refused():
    with pytest.raises(ValueError, match="needs 2 coefficients"):
        maximize([Fraction(1)] * 2, [at_least(0, 1)])


small = st.integers(-4, 4).map(Fraction)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda n: st.tuples(
            st.lists(small, min_size=n, max_size=n),
            st.lists(st.builds(Constraint, st.tuples(*[small] * n), small), max_size=7),
        )
    )
)
def test_scipy_agrees(program):
    objective, constraints = program
    solution = maximize(objective, constraints)
    rows = -np.array([[float(value) for value in one.coefficients] for one in constraints]).reshape(-1, len(objective))
    offsets = np.array([float(one.offset) for one in constraints])
    free = [(None, None)] * len(objective)
    cost = -np.array([float(value) for value in objective])
    feasible = linprog(0 * cost, A_ub=rows, b_ub=offsets, bounds=free, method="highs").status == 0
    referee = linprog(cost, A_ub=rows, b_ub=offsets, bounds=free, method="highs")
    match solution.status:
        case Status.INFEASIBLE:
            assert not feasible
        case Status.UNBOUNDED:
            assert feasible
            assert referee.status in (2, 3, 4)
        case Status.OPTIMAL:
            assert referee.status == 0
            assert float(solution.value) == pytest.approx(-referee.fun, abs=1e-9)
            for one in constraints:
                assert sum(a * b for a, b in zip(one.coefficients, solution.point, strict=True)) + one.offset >= 0
