"""Law: what is proved over a box holds for each point in it, in exact arithmetic and in the declared one however it is
summed; and what lies between boxes is covered."""

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.bounds import Bounds, Phases, Prepared, bound, bound_again, prepare
from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.flat import flat_problem, flat_step
from sidecar.compiler.kernel_step import new_forms
from sidecar.compiler.kernels import new_work
from sidecar.compiler.search import SearchLimits, outward, partition
from sidecar.compiler.workers import Workers
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.values import forward
from sidecar.tensors import Datatype
from tests.laws.random_networks import datatype_of, exact_answer, random_network, served

Floats: TypeAlias = npt.NDArray[np.float64]
ABOUT_FP32 = [each for each in Arithmetic if datatype_of(each) is Datatype.FP32]


def _requirement(rng: np.random.Generator, inputs: int) -> Requirement:
    def literal() -> Literal:
        return Literal(
            terms({index: Fraction(int(rng.integers(-3, 4)), 7) for index in range(3)}),
            terms({index: Fraction(int(rng.integers(-2, 3)), 3) for index in range(inputs) if rng.random() < 0.3}),
            Fraction(int(rng.integers(-5, 6)), 10),
            bool(rng.integers(2)),
        )

    return Requirement(tuple(tuple(literal() for _ in range(rng.integers(1, 4))) for _ in range(rng.integers(1, 4))))


def _value(literal: Literal, point: Floats, outputs: list[Fraction]) -> Fraction:
    return sum((c * outputs[index] for index, c in literal.outputs), literal.offset) + sum(
        (c * Fraction(point[index]) for index, c in literal.inputs), Fraction(0)
    )


def _holds(requirement: Requirement, point: Floats, outputs: list[Fraction]) -> bool:
    return all(
        any(
            _value(literal, point, outputs) > 0 or (not literal.strict and _value(literal, point, outputs) == 0)
            for literal in clause
        )
        for clause in requirement.clauses
    )


def _form(slope: Floats, constant: float, point: Floats) -> Fraction | float:
    """A linear form's value, exactly; minus infinity where it says nothing."""
    if not (np.isfinite(constant) and np.isfinite(slope).all()):
        return -np.inf
    terms = (Fraction(a) * Fraction(x) for a, x in zip(slope, point, strict=True))
    return sum(terms, Fraction(constant))


def _box(rng: np.random.Generator, size: int, datatype: Datatype) -> tuple[Floats, Floats]:
    precision = np.float32 if datatype is Datatype.FP32 else np.float64
    centre, radius = rng.uniform(-1, 1, size), 10.0 ** rng.uniform(-9, 0.3, size)
    radius[rng.random(size) < 0.15] = 0.0
    lower, upper = (centre - radius).astype(precision), (centre + radius).astype(precision)
    return np.minimum(lower, upper).astype(np.float64), np.maximum(lower, upper).astype(np.float64)


def _points(rng: np.random.Generator, lower: Floats, upper: Floats, datatype: Datatype, count: int) -> Floats:
    inside = rng.uniform(lower, upper, (count, len(lower)))
    corners = np.where(rng.random(inside.shape) < 0.5, lower, upper)
    points = np.concatenate([inside, corners])
    if datatype is Datatype.FP32:
        points = points.astype(np.float32).astype(np.float64)
    return points.clip(lower, upper)


def _compiled(prepared: Prepared, lower: Floats, upper: Floats, phases: Phases) -> Bounds:
    """What the compiled step knows of the literals; upper bounds only where it looked for them."""
    problem = flat_problem(prepared, np.ones(lower.shape[1], dtype=np.bool_), np.ones(lower.shape[1]))
    batch = flat_step(problem, lower, upper, phases, np.zeros(len(lower), dtype=np.bool_))
    with Workers(problem, 1) as workers:
        workers.run(batch, falsify=True)
    return Bounds(batch.bound_lower, batch.bound_upper, batch.slope, batch.constant, batch.phases)


@pytest.mark.parametrize("bounded", [bound, bound_again, _compiled])
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([0.0, 1.0, 3.0, 8.0, 14.0, 25.0]),
    arithmetic=st.sampled_from(Arithmetic),
)
def test_bounds_contain_exact_and_served_values(
    bounded: Callable[[Prepared, Floats, Floats, Phases], Bounds], seed: int, spread: float, arithmetic: Arithmetic
) -> None:
    datatype = datatype_of(arithmetic)
    rng = np.random.default_rng(seed)
    network = random_network(rng, datatype, spread)
    inputs = network.signature.input_size
    requirement = _requirement(rng, inputs)
    prepared = prepare(network, requirement, arithmetic)
    literals = list(dict.fromkeys(literal for clause in requirement.clauses for literal in clause))
    lower, upper = _box(rng, inputs, datatype)
    outer = bounded(prepared, lower[None], upper[None], np.zeros((1, prepared.hidden), np.int8))
    part_lower, part_upper = np.sort(_points(rng, lower, upper, datatype, 1), axis=0)
    inner = bounded(prepared, part_lower[None], part_upper[None], outer.phases)
    for bounds, low, high in ((outer, lower, upper), (inner, part_lower, part_upper)):
        points = _points(rng, low, high, datatype, 3)
        answered = served(network, points, arithmetic, rng, 3)
        for index, point in enumerate(points):
            answers = [exact_answer(network, point)]
            answers += [[Fraction(y) for y in each[index]] for each in answered if np.isfinite(each[index]).all()]
            for answer in answers:
                values = [_value(literal, point, answer) for literal in literals]
                for position, value in enumerate(values):
                    least, most = bounds.lower[0, position], bounds.upper[0, position]
                    assert least == -np.inf or Fraction(least) <= value
                    assert most == np.inf or value <= Fraction(most)
                    assert _form(bounds.slope[0, position], bounds.constant[0, position], point) <= value
        assert np.isneginf(bounds.lower).all() or all(np.isfinite(each).all() for each in answered)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 0.5, 1.0]), arithmetic=st.sampled_from(Arithmetic))
def test_compiled_bounds_are_those_of_the_reference(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    """Up to rounding, in parts of boxes too; a second look is only taken where the first decides nothing."""
    datatype = datatype_of(arithmetic)
    rng = np.random.default_rng(seed)
    network = random_network(rng, datatype, spread)
    prepared = prepare(network, _requirement(rng, network.signature.input_size), arithmetic)
    boxes = [_box(rng, network.signature.input_size, datatype) for _ in range(7)]
    lower, upper = (np.stack(side) for side in zip(*boxes, strict=True))
    phases = np.zeros((len(boxes), prepared.hidden), dtype=np.int8)
    for _ in range(2):
        first, again = (look(prepared, lower, upper, phases) for look in (bound, bound_again))
        compiled = _compiled(prepared, lower, upper, phases)
        assert np.isfinite(first.lower).all()
        rows = prepared.rows
        undecided = ~(rows.all_have(first.lower > 0.0) | rows.one_lacks(compiled.upper < 0.0))
        reference = Bounds(
            np.where(undecided[:, None], again.lower, first.lower),
            first.upper,
            np.where(undecided[:, None, None], again.slope, first.slope),
            np.where(undecided[:, None], again.constant, first.constant),
            first.phases,
        )
        scale = 1.0 + np.abs(reference.slope).sum(axis=2) + np.abs(reference.constant)
        assert (np.abs(compiled.lower - reference.lower) <= 1e-9 * scale).all()
        kept = np.abs(again.lower - first.lower) > 1e-9 * scale  # of two forms with one bound either may be kept
        assert (np.abs(compiled.constant - reference.constant)[kept] <= 1e-9 * scale[kept]).all()
        assert (np.abs(compiled.slope - reference.slope).max(axis=2)[kept] <= 1e-9 * scale[kept]).all()
        looked_for = np.isfinite(compiled.upper)
        assert (np.abs(compiled.upper - reference.upper)[looked_for] <= 1e-9 * scale[looked_for]).all()
        assert (compiled.phases == reference.phases).all()
        phases, quarter = first.phases, (upper - lower) * 0.25
        lower, upper = lower + quarter, upper - quarter


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 0.5, 3.0, 14.0]), arithmetic=st.sampled_from(Arithmetic)
)
def test_what_a_step_settles_or_carves_off_is_so(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    """And each form of a clause is below the best of its literals, all over the box."""
    datatype = datatype_of(arithmetic)
    rng = np.random.default_rng(seed)
    network = random_network(rng, datatype, spread)
    inputs = network.signature.input_size
    requirement = _requirement(rng, inputs)
    lower, upper = _box(rng, inputs, datatype)
    prepared = prepare(network, requirement, arithmetic)
    problem = flat_problem(prepared, upper > lower, upper - lower)
    forms, phases = new_forms(problem), np.zeros((1, prepared.hidden), np.int8)
    batch = flat_step(problem, lower[None], upper[None], phases, np.ones(1, dtype=np.bool_))
    compiled_step()(problem, new_work(problem), forms, batch, 0, 1, True)
    is_split = batch.feature[0] >= 0
    points = _points(rng, lower, upper, datatype, 8)
    answered = served(network, points, arithmetic, rng, 1)[0]
    for point, finite in zip(points, answered, strict=True):
        left = (batch.lower[0] <= point).all() and (point <= batch.upper[0]).all()
        answers = [exact_answer(network, point)]
        answers += [[Fraction(y) for y in finite]] if np.isfinite(finite).all() else []
        for outputs in answers:
            best = [max(_value(literal, point, outputs) for literal in clause) for clause in requirement.clauses]
            holds = _holds(requirement, point, outputs)
            assert holds or batch.label[0] != Label.SILENT
            assert not holds or batch.label[0] != Label.VIOLATING
            assert left or min(best) > 0
            for clause, most in enumerate(best if is_split else []):
                for form in forms.clause_form[forms.start[clause] : forms.start[clause + 1]]:
                    assert _form(forms.slope[form], forms.constant[form], point) <= most


def _label(tree: CoverageTree, point: Floats) -> tuple[int, int]:
    node = 0
    while tree.feature[node] != LEAF:
        left = point[tree.feature[node]] <= tree.threshold[node]
        node = int(tree.left[node] if left else tree.right[node])
    return int(tree.label[node]), node


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 0.5, 3.0]), arithmetic=st.sampled_from(ABOUT_FP32))
def test_leaves_tell_the_truth_about_every_point(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, Datatype.FP32, spread)
    inputs = network.signature.input_size
    requirement = _requirement(rng, inputs)
    lower, upper = _box(rng, inputs, Datatype.FP32)
    box = Box(tuple(map(Fraction, lower)), tuple(map(Fraction, upper)))
    found = partition(network, box, requirement, arithmetic, SearchLimits(None, 300, 1e-4), lambda _: None)
    assert found.tree.volume.sum() == pytest.approx(1.0, abs=1e-9)
    points = _points(rng, lower, upper, Datatype.FP32, 30)
    thresholds = found.tree.threshold[found.tree.feature != LEAF].astype(np.float32).astype(np.float64)
    on_edges = points[: len(thresholds)].copy()
    on_edges[np.arange(len(on_edges)), found.tree.feature[found.tree.feature != LEAF][: len(on_edges)]] = thresholds[
        : len(on_edges)
    ]
    points = np.concatenate([points, on_edges.clip(lower, upper)])
    answered = served(network, points, arithmetic, rng, 1)[0]
    for point, answer in zip(points, answered, strict=True):
        label, _ = _label(found.tree, point)
        if not np.isfinite(answer).all():
            assert label == Label.OPEN
            continue
        for outputs in (exact_answer(network, point), [Fraction(value) for value in answer]):
            holds = _holds(requirement, point, outputs)
            assert label in (Label.SILENT, Label.VIOLATING, Label.OPEN)
            assert label != Label.SILENT or holds
            assert label != Label.VIOLATING or not holds
    for point, outputs in zip(found.counterexamples, forward(network, found.counterexamples), strict=True):
        assert (lower <= point).all()
        assert (point <= upper).all()
        assert (point.astype(np.float32) == point).all()
        assert not requirement_holds(requirement, point, outputs)


def test_outward_contains_the_exact_box() -> None:
    box = Box((Fraction(1, 3), Fraction(-(10**400))), (Fraction(2, 3), Fraction(1, 2)))
    lower, upper = outward(box)
    assert Fraction(lower[0]) < Fraction(1, 3)
    assert Fraction(2, 3) < Fraction(upper[0])
    assert (lower[1], upper[1]) == (-np.inf, 0.5)
