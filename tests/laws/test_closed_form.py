"""Corrections in closed form are, bit by bit, those that the search in rational numbers finds."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import sidecar.gates.closed_form as closed_form_module
from sidecar.gates.closed_form import MAX_KNOWN, MAX_LITERALS, ClosedForms, closed_form
from sidecar.gates.prepare import prepare
from sidecar.gates.projection import Obstacle, project, project_by_search
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.numerics import next_down, next_up, round_to_datatype, spacing, spacing_exponent
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, TensorSpec

OUTPUTS = 4
WHOLE = Region(Box((Fraction(-4),), (Fraction(4),)))
SMALL = st.integers(-3, 3).map(Fraction)
OFFSETS = st.one_of(st.just(Fraction(0)), SMALL, st.fractions(-2, 2, max_denominator=12))
INPUT_TERMS = st.dictionaries(st.just(0), SMALL, max_size=1).map(terms)
ANY_LITERAL = st.builds(
    Literal,
    st.dictionaries(st.integers(0, OUTPUTS - 1), SMALL.filter(bool), min_size=1, max_size=3).map(terms),
    INPUT_TERMS,
    OFFSETS,
    st.booleans(),
)


def _comparison(higher: int, lower: int, size: Fraction, offset: Fraction, strict: bool) -> Literal:
    return Literal(terms({higher: size, lower: -size}), (), offset, strict)


SIZES = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 3)])
PAIRS = st.tuples(st.integers(0, OUTPUTS - 1), st.integers(0, OUTPUTS - 1)).filter(lambda pair: pair[0] != pair[1])
COMPARISON = st.builds(lambda pair, *rest: _comparison(*pair, *rest), PAIRS, SIZES, OFFSETS, st.booleans())
ALTERNATIVES = st.lists(st.one_of(COMPARISON, ANY_LITERAL), min_size=1, max_size=4).map(tuple)


@st.composite
def orderings(draw) -> tuple[tuple[Literal, ...], ...]:
    """One output above or below several others."""
    top, sign = draw(st.integers(0, OUTPUTS - 1)), draw(st.sampled_from([1, -1]))
    others = [index for index in range(OUTPUTS) if index != top]
    chosen = draw(st.lists(st.sampled_from(others), min_size=1, max_size=4))
    size, strict = draw(SIZES), draw(st.booleans())
    pairs = [(top, other) if sign == 1 else (other, top) for other in chosen]
    return tuple((_comparison(*pair, size, draw(OFFSETS), strict),) for pair in pairs)


REQUIREMENTS = st.one_of(
    orderings(),
    ALTERNATIVES.map(lambda clause: (clause,)),
    st.lists(ALTERNATIVES, min_size=1, max_size=3).map(tuple),
    st.tuples(orderings(), ALTERNATIVES).map(lambda pair: (*pair[0], pair[1])),
).map(Requirement)
MARGINS = st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 10), Fraction(1)])
NORMS = st.sampled_from([Norm.L2, Norm.L2, Norm.L2, Norm.L1])


def _gate(requirement: Requirement, margin: Fraction = Fraction(0), norm: Norm = Norm.L2) -> Gate:
    return Gate("p", (WHOLE,), requirement, Action.PROJECT, margin, norm, None)


def _prepared(gates, datatype: Datatype):
    return prepare(
        gates,
        ModelSignature(
            (TensorSpec("x", Datatype.FP64, (1,)),), (TensorSpec("y", datatype, (OUTPUTS,)),), batch_axis=None
        ),
    )


@st.composite
def answers(draw, datatype: Datatype) -> np.ndarray:
    """Values of the datatype, often ties or neighbours of each other."""
    base = draw(st.sampled_from([0.0, -0.0, 1.0, 0.1, -0.3, 2.0**-14, 1000.0, 3e-7]))
    values = []
    for _ in range(OUTPUTS):
        value = round_to_datatype(Fraction(draw(st.one_of(st.just(base), st.floats(-3, 3)))), datatype)
        step = draw(st.sampled_from([None, None, next_up, next_down]))
        values.append(value if step is None else step(value, datatype))
    return np.array(values)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_closed_form_gives_the_bits_of_the_search(data):
    datatype = data.draw(st.sampled_from([*FLOATING_DATATYPES, Datatype.FP32]))
    gates = data.draw(st.lists(st.builds(_gate, REQUIREMENTS, MARGINS, NORMS), min_size=1, max_size=3))
    prepared, numbers = _prepared(gates, datatype), tuple(range(len(gates)))
    inputs, outputs = [data.draw(st.sampled_from([0.0, 0.1, -1.0, 2.5]))], data.draw(answers(datatype))
    form = prepared.closed_forms.of(numbers)
    moved = None if form is None else form.nearest(inputs, outputs.tolist())
    event(f"closed form: {moved is not None}")
    if moved is None:
        return
    searched = project_by_search(prepared, numbers, inputs, outputs)
    expected = outputs.copy()
    expected[list(moved)] = list(moved.values())
    assert searched.obstacle is None
    assert searched.output.tobytes() == expected.tobytes()
    assert project(prepared, numbers, inputs, outputs).output.tobytes() == expected.tobytes()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
@pytest.mark.parametrize(
    "clauses",
    [
        lambda strict: tuple((_comparison(0, other, Fraction(1), Fraction(0), strict),) for other in (1, 2, 3)),
        lambda strict: tuple((_comparison(other, 0, Fraction(1), Fraction(0), strict),) for other in (1, 2, 3)),
        lambda strict: (tuple(_comparison(other, 0, Fraction(1), Fraction(0), strict) for other in (1, 2, 3)),),
    ],
    ids=["the largest", "the smallest", "not the largest"],
)
def test_the_commonest_requirements_have_one(clauses, datatype: Datatype, strict: bool):
    prepared = _prepared([_gate(Requirement(clauses(strict)))], datatype)
    rng = np.random.default_rng(1)
    for _ in range(20):
        outputs = np.array([round_to_datatype(Fraction(value), datatype) for value in rng.normal(size=OUTPUTS)])
        moved = prepared.closed_forms.of((0,)).nearest([0.0], outputs.tolist())
        expected = project_by_search(prepared, (0,), [0.0], outputs).output
        outputs[list(moved)] = list(moved.values())
        assert outputs.tobytes() == expected.tobytes()


def test_the_end_of_a_datatypes_range_is_an_obstacle_as_ever():
    largest = 65504.0
    literal = _comparison(0, 1, Fraction(1), Fraction(-(10**6)), strict=False)
    prepared = _prepared([_gate(Requirement(((literal,),)))], Datatype.FP16)
    outputs = np.array([largest, 0.0, 0.0, 0.0])
    assert project(prepared, (0,), [0.0], outputs).obstacle is Obstacle.OUT_OF_RANGE
    assert project_by_search(prepared, (0,), [0.0], outputs).obstacle is Obstacle.OUT_OF_RANGE


def test_a_requirement_thinner_than_the_datatype_is_left_to_the_search():
    third = Fraction(1, 3)
    clauses = tuple((Literal(terms({0: sign}), (), -sign * third, False),) for sign in (Fraction(1), Fraction(-1)))
    prepared = _prepared([_gate(Requirement(clauses))], Datatype.FP32)
    outputs = np.zeros(OUTPUTS)
    assert prepared.closed_forms.of((0,)).nearest([0.0], outputs.tolist()) is None
    assert project(prepared, (0,), [0.0], outputs).obstacle is not None


def test_what_does_not_hold_after_so_many_rounds_is_left_to_the_search(monkeypatch):
    monkeypatch.setattr(
        closed_form_module, "MAX_GROWTH_ROUNDS", 1
    )  # of which no requirement is known that uses them up
    prepared = _prepared([_gate(Requirement(((_comparison(1, 0, Fraction(1), Fraction(0), True),),)))], Datatype.FP32)
    assert prepared.closed_forms.of((0,)).nearest([0.0], [1.0, 0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize(
    ("literals", "norm", "datatype"),
    [
        ([_comparison(0, 1, Fraction(1), Fraction(0), False)] * (MAX_LITERALS + 1), Norm.L2, Datatype.FP32),
        ([Literal((), terms({0: Fraction(1)}), Fraction(0), False)], Norm.L2, Datatype.FP32),
        ([_comparison(0, 1, Fraction(1), Fraction(0), False)], Norm.LINF, Datatype.FP32),
        ([_comparison(0, 1, Fraction(1), Fraction(0), False)], Norm.L2, Datatype.INT32),
    ],
    ids=["too many", "inputs only", "another norm", "integers"],
)
def test_what_has_none(literals, norm: Norm, datatype: Datatype):
    signature = ModelSignature(
        (TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", datatype, (OUTPUTS,)),), batch_axis=None
    )
    assert closed_form([_gate(Requirement((tuple(literals),)), norm=norm)], signature) is None


def test_only_so_many_are_kept():
    literal = _comparison(0, 1, Fraction(1), Fraction(0), strict=False)
    signature = ModelSignature(
        (TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (OUTPUTS,)),), batch_axis=None
    )
    forms = ClosedForms([_gate(Requirement(((literal,),)))] * 2, signature)
    first = forms.of((0,))
    assert forms.of((0,)) is first
    for count in range(2, MAX_KNOWN + 2):
        forms.of((1,) * count)
    assert forms.of((0,)) == first
    assert forms.of((0,)) is not first


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(FLOATING_DATATYPES))
def test_a_spacings_exponent_is_its_logarithm(value: float, datatype: Datatype):
    assert spacing(Fraction(value), datatype) == Fraction(2) ** spacing_exponent(value, datatype)
