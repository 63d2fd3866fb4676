"""The guarantee, as a law: every row is refused, or satisfies every enforced property that contains it."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import Reason
from sidecar.gates.decide import Outcome, decide
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement, terms
from sidecar.numerics import round_to_datatype
from sidecar.tensors import FLOATING_DATATYPES, ModelSignature, TensorSpec

SMALL = st.integers(-2, 2).map(Fraction)
LITERALS = st.builds(
    Literal,
    st.dictionaries(st.integers(0, 2), SMALL, max_size=2).map(terms),
    st.dictionaries(st.just(0), SMALL, max_size=1).map(terms),
    st.one_of(SMALL, st.just(Fraction(1, 3))),
    st.booleans(),
)
CLAUSES = st.lists(LITERALS, min_size=1, max_size=2).map(tuple)
REGIONS = st.builds(
    lambda low, width: Region(Box((low,), (low + width,))), st.integers(-2, 1).map(Fraction), SMALL.map(abs)
)


@st.composite
def gates(draw) -> Gate:
    action = draw(st.sampled_from([Action.PROJECT, Action.PROJECT, Action.FALLBACK, Action.REFUSE]))
    fallback = tuple(draw(SMALL) for _ in range(3)) if action is Action.FALLBACK else None
    return Gate(
        property_id="p",
        domain=tuple(draw(st.lists(REGIONS, min_size=1, max_size=2))),
        requirement=Requirement(tuple(draw(st.lists(CLAUSES, min_size=1, max_size=2)))),
        action=action,
        margin=draw(st.sampled_from([Fraction(0), Fraction(1, 4)])),
        norm=draw(st.sampled_from([Norm.L2, Norm.L2, Norm.L1, Norm.LINF])),
        fallback=fallback,
    )


@st.composite
def situations(draw):
    """Prepared gates, their modes, and rows."""
    kind = draw(st.sampled_from(FLOATING_DATATYPES))
    signature = ModelSignature((TensorSpec("x", kind, (1,)),), (TensorSpec("y", kind, (3,)),), 0)
    prepared = prepare(draw(st.lists(gates(), min_size=1, max_size=3)), signature)
    modes = [draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF])) for _ in prepared.gates]
    finite = st.one_of(st.integers(-2, 2).map(float), st.floats(-3, 3))
    anything = st.one_of(finite, finite, finite, st.sampled_from([math.nan, math.inf, -math.inf]))

    def row(values, size):
        drawn = [draw(values) for _ in range(size)]
        return [round_to_datatype(Fraction(v), kind) if math.isfinite(v) else v for v in drawn]

    rows = draw(st.integers(1, 3))
    return (
        prepared,
        modes,
        np.array([row(finite, 1) for _ in range(rows)]),
        np.array([row(anything, 3) for _ in range(rows)]),
    )


def sent(decisions, outputs):
    """What the client would receive, by row; None where the row is refused."""
    answers = list(outputs)
    for decision in decisions.rows:
        if decision.outcome is not Outcome.UNTOUCHED:
            answers[decision.row] = decision.output
    return answers


def holds(gate, x, y) -> bool:
    mentioned = any(literal.outputs for clause in gate.requirement.clauses for literal in clause)
    if mentioned and not np.isfinite(y).all():
        return False
    return requirement_holds(gate.requirement, x, y)


@settings(max_examples=200, deadline=None)
@given(situations())
def test_every_row_sent_satisfies_every_enforced_property_that_contains_it(situation):
    prepared, modes, inputs, outputs = situation
    decisions = decide(prepared, modes, inputs, outputs)
    for x, before, after in zip(inputs, outputs, sent(decisions, outputs), strict=True):
        enforced = [
            gate
            for gate, mode in zip(prepared.gates, modes, strict=True)
            if mode is Mode.ENFORCE and any(region_contains(region, x) for region in gate.domain)
        ]
        if all(holds(gate, x, before) for gate in enforced):
            assert after is not None
            assert after.tobytes() == before.tobytes()
        elif after is not None:
            assert all(holds(gate, x, after) for gate in enforced)


@settings(max_examples=100, deadline=None)
@given(situations())
def test_a_corrected_answer_is_not_corrected_again(situation):
    prepared, modes, inputs, outputs = situation
    first = decide(prepared, modes, inputs, outputs)
    corrected = [decision for decision in first.rows if decision.outcome is Outcome.CORRECTED]
    for decision in corrected:
        x, y = inputs[decision.row][np.newaxis], decision.output[np.newaxis]
        assert all(again.outcome is Outcome.UNTOUCHED for again in decide(prepared, modes, x, y).rows)


@settings(max_examples=100, deadline=None)
@given(situations())
def test_shadow_gates_change_nothing_that_is_sent(situation):
    prepared, modes, inputs, outputs = situation
    without = [Mode.OFF if mode is Mode.SHADOW else mode for mode in modes]
    one = sent(decide(prepared, modes, inputs, outputs), outputs)
    other = sent(decide(prepared, without, inputs, outputs), outputs)
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or a.tobytes() == b.tobytes()


@settings(max_examples=100, deadline=None)
@given(situations())
def test_decisions_tell_one_story(situation):
    prepared, modes, inputs, outputs = situation
    decisions = decide(prepared, modes, inputs, outputs)
    assert not (decisions.violated & ~decisions.contained).any()
    for decision in decisions.rows:
        violated = set(np.flatnonzero(decisions.violated[decision.row]))
        assert {*decision.fired, *decision.shadow_fired} == violated
        assert all(modes[gate] is Mode.ENFORCE for gate in decision.fired)
        match decision.outcome:
            case Outcome.UNTOUCHED:
                assert not decision.fired
            case Outcome.REFUSED:
                assert decision.reason in (Reason.GATE_REFUSED, Reason.OUTPUT_NOT_FINITE, Reason.CORRECTION_FAILED)
            case Outcome.CORRECTED:
                assert decision.largest_change >= 0.0
                assert any(prepared.gates[gate].action is decision.action for gate in decision.fired)
