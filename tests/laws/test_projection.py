"""Projection: exact where it claims to be, near where it must round, and never out of its requirement.

Independent referees: least-distance programming by scipy's NNLS (Lawson and Hanson, Solving Least Squares Problems,
chapter 23) for L2, and scipy's linear programs for L1 and Linf, over all disjuncts enumerated.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from sidecar.gates.active_set import smallest_by_active_set
from sidecar.gates.disjuncts import search
from sidecar.gates.exact import literal_value, requirement_holds
from sidecar.gates.halfspaces import Halfspace, joint_clauses
from sidecar.gates.limits import PROJECTION_WORK, Work
from sidecar.gates.linear_program import Constraint, maximize
from sidecar.gates.ordering import as_ordering
from sidecar.gates.prepare import prepare
from sidecar.gates.projection import Obstacle, project
from sidecar.gates.smallest import smallest_change
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.numerics import ROUNDING_SLACK_ULPS, round_to_datatype, spacing
from sidecar.tensors import FLOATING_DATATYPES, ModelSignature, TensorSpec

OUTPUTS = 3
WHOLE = Region(Box((Fraction(-4),), (Fraction(4),)))
L2_ONLY = st.just(Norm.L2)
SMALL = st.integers(-3, 3).map(Fraction)
NORMALS = st.dictionaries(st.integers(0, OUTPUTS - 1), SMALL.filter(bool), min_size=1, max_size=OUTPUTS).map(terms)
SHORTFALLS = st.one_of(SMALL, st.fractions(-5, 5, max_denominator=8))
HALFSPACES = st.builds(
    lambda normal, shortfall: Halfspace(normal, sum(value * value for _, value in normal), shortfall),
    NORMALS,
    SHORTFALLS,
)
LITERALS = st.builds(
    Literal,
    NORMALS,
    st.dictionaries(st.just(0), SMALL, max_size=1).map(terms),
    st.one_of(SMALL, st.sampled_from(["0.1", "-1/3", "7.3"]).map(Fraction)),
    st.booleans(),
)
CLAUSES = st.lists(LITERALS, min_size=1, max_size=2).map(tuple)
REQUIREMENTS = st.lists(CLAUSES, min_size=1, max_size=3).map(lambda clauses: Requirement(tuple(clauses)))


def matrix(halfspaces):
    """Normals float64 (halfspace, output), shortfalls float64 (halfspace,)."""
    rows = np.zeros((len(halfspaces), OUTPUTS))
    for row, halfspace in zip(rows, halfspaces, strict=True):
        for index, value in halfspace.normal:
            row[index] = float(value)
    return rows, np.array([float(halfspace.shortfall) for halfspace in halfspaces])


def referee(halfspaces, norm) -> float:
    """The length of the smallest change; infinite where there is none."""
    normals, shortfalls = matrix(halfspaces)
    if norm is Norm.L2:
        system = np.vstack([normals.T, shortfalls])
        weights, _ = nnls(system, np.eye(OUTPUTS + 1)[-1])
        residual = system @ weights - np.eye(OUTPUTS + 1)[-1]
        return math.inf if -residual[-1] < 1e-9 else float(np.linalg.norm(residual[:-1] / residual[-1]))
    bounds = 1 if norm is Norm.LINF else OUTPUTS
    spread = np.ones((OUTPUTS, 1)) if norm is Norm.LINF else np.eye(OUTPUTS)
    rows = np.block(
        [[-normals, np.zeros((len(normals), bounds))], [np.eye(OUTPUTS), -spread], [-np.eye(OUTPUTS), -spread]]
    )
    limits = np.concatenate([-shortfalls, np.zeros(2 * OUTPUTS)])
    cost = np.concatenate([np.zeros(OUTPUTS), np.ones(bounds)])
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=[(None, None)] * len(cost), method="highs")
    return float(found.fun) if found.status == 0 else math.inf


def length(cost: Fraction, norm: Norm) -> float:
    return math.sqrt(cost) if norm is Norm.L2 else float(cost)


@settings(max_examples=100, deadline=None)
@given(st.lists(HALFSPACES, max_size=5), st.sampled_from(Norm))
def test_the_smallest_change_is_feasible_and_as_small_as_the_referees(halfspaces, norm):
    found = smallest_change(halfspaces, norm, Work(PROJECTION_WORK))
    expected = referee(halfspaces, norm) if halfspaces else 0.0
    if found is None:
        assert expected == math.inf
    else:
        assert all(halfspace.lacks(found.change) <= 0 for halfspace in halfspaces)
        assert all(found.change.values())
        assert math.isclose(length(found.cost, norm), expected, rel_tol=1e-7, abs_tol=1e-7)


@settings(deadline=None)
@given(
    st.integers(2, 7).flatmap(
        lambda size: st.lists(st.tuples(st.integers(1, size), SHORTFALLS, st.integers(1, 3)), min_size=1, max_size=8)
    ),
    st.sampled_from([1, -1]),
)
def test_the_closed_form_of_orderings_is_the_active_set_methods_answer(comparisons, sign):
    halfspaces = [
        Halfspace(terms({0: Fraction(sign * scale), index: Fraction(-sign * scale)}), Fraction(2 * scale**2), gap)
        for index, gap, scale in comparisons
    ]
    assert as_ordering(halfspaces).smallest() == smallest_by_active_set(halfspaces, Work(PROJECTION_WORK))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(HALFSPACES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4), st.sampled_from(Norm))
def test_the_search_finds_the_smallest_change_over_all_disjuncts(clauses, norm):
    found = search(clauses, norm, Work(PROJECTION_WORK))
    expected = min(referee(disjunct, norm) for disjunct in itertools.product(*clauses))
    if found is None:
        assert expected == math.inf
        return
    assert all(any(halfspace.lacks(found) <= 0 for halfspace in clause) for clause in clauses)
    magnitudes = [abs(value) for value in found.values()]
    cost = {
        Norm.L2: sum(value * value for value in magnitudes),
        Norm.L1: sum(magnitudes),
        Norm.LINF: max(magnitudes, default=0),
    }[norm]
    assert math.isclose(length(cost, norm), expected, rel_tol=1e-7, abs_tol=1e-7)


@st.composite
def problems(draw, norms=L2_ONLY):
    """Gates over one input and three outputs, a row, and the outputs' datatypes."""
    kinds = [draw(st.sampled_from(FLOATING_DATATYPES)) for _ in range(draw(st.sampled_from([1, OUTPUTS])))]
    sizes = [OUTPUTS // len(kinds)] * len(kinds)
    outputs = tuple(TensorSpec(f"y{n}", kind, (size,)) for n, (kind, size) in enumerate(zip(kinds, sizes, strict=True)))
    signature = ModelSignature((TensorSpec("x", outputs[0].datatype, (1,)),), outputs, 0)
    margins = st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 8)])
    gate = st.builds(
        Gate, st.just("p"), st.just((WHOLE,)), REQUIREMENTS, st.just(Action.PROJECT), margins, norms, st.none()
    )
    gates = draw(st.lists(gate, min_size=1, max_size=2))
    values = st.one_of(st.integers(-2, 2).map(float), st.floats(-4, 4))
    x = draw(st.sampled_from([0.0, 1.0, -0.5]))
    y = [round_to_datatype(Fraction(draw(values)), kind) for kind in signature.output_datatypes()]
    return prepare(gates, signature), np.array([x]), np.array(y)


def condition(halfspaces) -> float:
    """How far a nearest point moves, at most, when halfspaces (normals of length one) are tightened by one."""
    normals, _ = matrix(halfspaces)
    normals = np.unique(normals / np.linalg.norm(normals, axis=1, keepdims=True), axis=0)
    worst = 1.0
    for size in range(2, OUTPUTS + 1):
        for subset in itertools.combinations(normals, size):
            smallest = np.linalg.svd(np.array(subset), compute_uv=False)[-1]
            if smallest > 1e-9:
                worst = max(worst, math.sqrt(size) / smallest)
    return worst


@settings(max_examples=100, deadline=None)
@given(problems(norms=st.sampled_from([Norm.L2, Norm.L2, Norm.L1, Norm.LINF])))
def test_what_is_projected_satisfies_exactly_and_moves_nothing_else(problem):
    prepared, x, y = problem
    everything = range(len(prepared.gates))
    result = project(prepared, everything, x, y)
    if result.output is None:
        assert result.obstacle in (Obstacle.CONTRADICTION, Obstacle.NO_WIRE_VALUES)
        return
    assert result.obstacle is None
    assert all(requirement_holds(gate.requirement, x, result.output) for gate in prepared.gates)
    for value, kind in zip(result.output, prepared.signature.output_datatypes(), strict=True):
        assert round_to_datatype(Fraction(value), kind) == value
    mentioned = {
        index
        for gate in prepared.gates
        for clause in gate.requirement.clauses
        for literal in clause
        for index, _ in literal.outputs
    }
    for index in set(range(OUTPUTS)) - mentioned:
        assert result.output[index].tobytes() == y[index].tobytes()


def can_hold_strictly(disjunct, x, y) -> bool:
    """Whether some change satisfies (literal, halfspace) pairs, strict ones strictly: maximise their least value."""
    constraints = [Constraint((*[Fraction(0)] * OUTPUTS, Fraction(-1)), Fraction(1))]
    for literal, halfspace in disjunct:
        normal = [dict(halfspace.normal).get(index, Fraction(0)) for index in range(OUTPUTS)]
        constraints.append(Constraint((*normal, Fraction(0)), -halfspace.shortfall))
        if literal.strict:
            constraints.append(Constraint((*normal, Fraction(-1)), literal_value(literal, x, y)))
    best = maximize([Fraction(0)] * OUTPUTS + [Fraction(1)], constraints)
    return best.value is not None and best.value > 0


def exact_change(clauses, x, y):
    """The smallest change into the closure of what satisfies the clauses, by enumeration; None where nothing does.

    A disjunct that only its closure satisfies (y > 0 and y <= 0) is no way to satisfy the requirement.
    """
    choices = [
        list(zip([one for one in clause.literals if one.outputs], clause.halfspaces, strict=True)) for clause in clauses
    ]
    found = [
        smallest_change([halfspace for _, halfspace in disjunct], Norm.L2, Work(PROJECTION_WORK))
        for disjunct in itertools.product(*choices)
        if can_hold_strictly(disjunct, x, y)
    ]
    return min((one for one in found if one is not None), key=lambda one: one.cost, default=None)


@settings(max_examples=80, deadline=None)
@given(problems())
def test_its_distance_exceeds_the_exact_one_by_no_more_than_the_stated_slack(problem):
    prepared, x, y = problem
    clauses = joint_clauses(prepared.gates, x, y)
    exact = exact_change(clauses, x, y)
    output = project(prepared, range(len(prepared.gates)), x, y).output
    if exact is None:
        assert output is None
    assume(output is not None)
    exact_point = [Fraction(value) + exact.change.get(index, 0) for index, value in enumerate(y)]
    spacings = [
        max(spacing(Fraction(before), kind), spacing(Fraction(after), kind), spacing(ideal, kind))
        for before, after, ideal, kind in zip(
            y, output, exact_point, prepared.signature.output_datatypes(), strict=True
        )
    ]
    halfspaces = [halfspace for clause in clauses for halfspace in clause.halfspaces]
    ulp = math.hypot(*map(float, spacings))
    slack = ROUNDING_SLACK_ULPS * ulp * (condition(halfspaces) if halfspaces else 1.0)
    moved = math.hypot(*(float(Fraction(a) - Fraction(b)) for a, b in zip(output, y, strict=True)))
    assert moved <= math.sqrt(exact.cost) * (1 + 2**-50) + slack


@settings(max_examples=50, deadline=None)
@given(problems())
def test_an_answer_that_satisfies_with_its_margin_is_not_moved(problem):
    prepared, x, y = problem
    comfortable = all(
        any(
            literal_value(literal, x, y) >= gate.margin and (literal_value(literal, x, y) > 0 or not literal.strict)
            for literal in clause
        )
        for gate in prepared.gates
        for clause in gate.requirement.clauses
    )
    assume(comfortable)
    assert project(prepared, range(len(prepared.gates)), x, y).output.tobytes() == y.tobytes()
