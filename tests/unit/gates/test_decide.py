"""Decisions on rows: precedence, overlaps, modes, missing values, and the check that nothing passes by."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from sidecar.errors import Reason
from sidecar.gates.decide import Outcome, decide, decide_in_steps, recheck
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Box, Mode, Norm, Region
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

ENFORCE, SHADOW, OFF = Mode.ENFORCE, Mode.SHADOW, Mode.OFF
NAN = float("nan")


@pytest.fixture
def decided(build):
    """Decide one row of outputs at input 0; gives its decision, or None where nothing fired."""

    def run(values, *gates, modes=None, datatype=Datatype.FP32):
        prepared = prepare(gates, build.signature(outputs=len(values), datatype=datatype))
        modes = modes or [ENFORCE] * len(gates)
        decisions = decide(prepared, modes, np.zeros((1, 1)), np.array([values], dtype=np.float64))
        assert len(decisions.rows) <= 1
        return decisions.rows[0] if decisions.rows else None

    return run


@pytest.fixture
def rising(build):
    """y1 > y0, by projection."""
    return build.gate([build.above(1, 0)])


class TestOutcomes:
    def test_a_row_that_satisfies_has_no_decision(self, decided, rising):
        assert decided([0.0, 1.0], rising) is None

    def test_a_projected_row(self, decided, rising):
        decision = decided([1.0, 0.0], rising)
        assert decision.outcome is Outcome.CORRECTED
        assert (decision.row, decision.fired, decision.action, decision.reason) == (0, (0,), Action.PROJECT, None)
        assert decision.output[0] < decision.output[1]
        assert decision.largest_change == np.abs(decision.output - [1.0, 0.0]).max()

    def test_a_refused_row(self, build, decided):
        decision = decided([1.0, 0.0], build.gate([build.above(1, 0)], action=Action.REFUSE))
        assert (decision.outcome, decision.reason) == (Outcome.REFUSED, Reason.GATE_REFUSED)
        assert decision.output is None
        assert decision.largest_change == 0.0

    def test_a_row_that_falls_back(self, build, decided):
        decision = decided([1.0, 0.0], build.falling_back([2, 3], [build.above(1, 0)]))
        assert (decision.outcome, decision.action) == (Outcome.CORRECTED, Action.FALLBACK)
        assert decision.output.tolist() == [2.0, 3.0]
        assert decision.largest_change == 3.0

    def test_a_correction_that_cannot_be_made_is_refused(self, build, decided):
        decision = decided([1.0, 0.0], build.gate([build.above(1, 0)], [build.above(0, 1)]))
        assert (decision.outcome, decision.reason) == (Outcome.REFUSED, Reason.CORRECTION_FAILED)

    def test_rows_of_a_batch_are_decided_apart(self, build, rising):
        prepared = prepare([rising], build.signature(outputs=2))
        inputs = np.array([[0.0], [5.0], [0.0], [0.5]])
        outputs = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [2.0, 2.0]])
        decisions = decide(prepared, [ENFORCE], inputs, outputs)
        assert decisions.contained[:, 0].tolist() == [True, False, True, True]
        assert decisions.violated[:, 0].tolist() == [False, False, True, True]
        assert [decision.row for decision in decisions.rows] == [2, 3]


class TestPrecedence:
    def test_refuse_before_fallback_before_project(self, build, decided, rising):
        falling_back = build.falling_back([2, 3], [build.above(1, 0)])
        refusing = build.gate([build.above(1, 0)], action=Action.REFUSE)
        assert decided([1.0, 0.0], rising, falling_back).output.tolist() == [2.0, 3.0]
        assert decided([1.0, 0.0], rising, falling_back, refusing).reason is Reason.GATE_REFUSED

    def test_an_action_counts_only_where_its_gate_fires(self, build, decided, rising):
        positive = build.gate([build.literal({0: 1})], action=Action.REFUSE)
        assert decided([1.0, 0.0], rising, positive).outcome is Outcome.CORRECTED

    def test_projection_keeps_the_gates_that_did_not_fire(self, build, decided, rising):
        """Alone, the nearest answer would lower y0 below 1; the other gate, whatever its action, forbids it."""
        bounded = build.gate([build.literal({0: 1}, offset=-1, strict=False)], action=Action.REFUSE)
        decision = decided([1.0, 0.0], rising, bounded)
        assert decision.output[0] >= 1.0
        assert decision.output[1] > decision.output[0]
        assert decision.fired == (0,)

    def test_a_fallback_that_another_property_forbids_is_not_sent(self, build, decided):
        falling_back = build.falling_back([2, 3], [build.above(1, 0)])
        small = build.gate([build.literal({1: -1}, offset=1)])
        assert decided([0.5, 0.0], falling_back, small).reason is Reason.CORRECTION_FAILED

    def test_of_several_fallbacks_the_first_that_satisfies_all_is_sent(self, build, decided):
        high = build.falling_back([2, 3], [build.above(1, 0)])
        low = build.falling_back([-1, 0], [build.above(1, 0)], [build.literal({1: -1}, offset=1)])
        assert decided([0.5, 0.0], high, low).output.tolist() == [-1.0, 0.0]


class TestModes:
    def test_shadow_gates_are_reported_and_never_influence(self, build, decided, rising):
        contradicting = build.gate([build.literal({0: 1}, offset=-50)], action=Action.REFUSE)
        alone = decided([1.0, 0.0], rising)
        both = decided([1.0, 0.0], rising, contradicting, modes=[ENFORCE, SHADOW])
        assert both.output.tolist() == alone.output.tolist()
        assert (both.fired, both.shadow_fired) == ((0,), (1,))

    def test_a_row_on_which_only_a_shadow_gate_fires_is_untouched(self, decided, rising):
        decision = decided([1.0, 0.0], rising, modes=[SHADOW])
        assert (decision.outcome, decision.fired, decision.shadow_fired) == (Outcome.UNTOUCHED, (), (0,))
        assert decision.action is decision.reason is decision.output is None
        assert decision.largest_change == 0.0

    def test_a_gate_that_is_off_is_silent_and_asks_nothing(self, build, rising):
        prepared = prepare([rising, build.gate([build.above(0, 1)])], build.signature(outputs=2))
        decisions = decide(prepared, [ENFORCE, OFF], np.zeros((1, 1)), np.array([[1.0, 0.0]]))
        assert decisions.contained.tolist() == [[True, True]]
        assert decisions.violated.tolist() == [[True, False]]
        assert decisions.rows[0].outcome is Outcome.CORRECTED


class TestMissingValues:
    @pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
    def test_they_are_never_projected(self, decided, rising, value):
        decision = decided([value, 0.0], rising)
        assert (decision.outcome, decision.reason) == (Outcome.REFUSED, Reason.OUTPUT_NOT_FINITE)

    @pytest.mark.parametrize("value", [NAN, math.inf])
    def test_they_fall_back(self, build, decided, value):
        decision = decided([value, 3.0], build.falling_back([2, 3], [build.above(1, 0)]))
        assert decision.output.tolist() == [2.0, 3.0]
        assert decision.largest_change == math.inf

    def test_a_refusing_gate_refuses_for_its_own_reason(self, build, decided):
        decision = decided([NAN, 0.0], build.gate([build.above(1, 0)], action=Action.REFUSE))
        assert decision.reason is Reason.GATE_REFUSED

    def test_in_a_tensor_that_no_property_reads_they_pass_unchanged(self, rising):
        signature = ModelSignature(
            (TensorSpec("x", Datatype.FP32, (1,)),),
            (TensorSpec("scores", Datatype.FP32, (2,)), TensorSpec("mask", Datatype.FP16, (1,))),
            0,
        )
        decisions = decide(prepare([rising], signature), [ENFORCE], np.zeros((1, 1)), np.array([[1.0, 0.0, NAN]]))
        output = decisions.rows[0].output
        assert output[0] < output[1]
        assert math.isnan(output[2])
        assert decisions.rows[0].largest_change < 1.0


class TestRecheck:
    def test_it_does_not_care_how_an_answer_was_made(self, build, rising):
        prepared = prepare([rising], build.signature(outputs=2))
        x = np.zeros(1)
        assert recheck(prepared, [0], x, np.array([0.0, 1.0]))
        assert not recheck(prepared, [0], x, np.array([1.0, 1.0]))
        assert not recheck(prepared, [0], x, np.array([0.0, math.inf]))
        assert recheck(prepared, [], x, np.array([1.0, 0.0]))

    def test_values_that_the_wire_cannot_carry_do_not_pass(self, build, rising):
        prepared = prepare([rising], build.signature(outputs=2))
        assert not recheck(prepared, [0], np.zeros(1), np.array([0.0, 0.1]))

    def test_the_margin_is_where_projection_aims_not_what_is_required(self, build, decided):
        wide = build.gate([build.above(1, 0)], margin=Fraction(1, 2))
        assert decided([0.0, 0.25], wide) is None
        decision = decided([0.25, 0.0], wide)
        assert decision.output[1] - decision.output[0] >= 0.5


class TestSteps:
    """Where whoever drives the steps may turn to something else."""

    @staticmethod
    def _stops(prepared, modes, rows):
        count = len(rows)
        steps = decide_in_steps(prepared, modes, np.ones((count, 1), np.bool_), np.zeros((count, 1)), np.array(rows))
        return list(steps)

    def test_a_row_alone_is_corrected_without_a_stop_where_that_takes_no_search(self, build, rising):
        assert self._stops(prepare([rising], build.signature(outputs=2)), [ENFORCE], [[1.0, 0.0]]) == []

    def test_a_search_is_a_stop(self, build):
        prepared = prepare([build.gate([build.above(1, 0)], norm=Norm.L1)], build.signature(outputs=2))
        assert self._stops(prepared, [ENFORCE], [[1.0, 0.0]]) == [1]

    @pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
    def test_so_is_each_row_of_a_batch_that_an_enforced_gate_fires_on(self, build, norm):
        prepared = prepare([build.gate([build.above(1, 0)], norm=norm)], build.signature(outputs=2))
        rows = [[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
        assert self._stops(prepared, [ENFORCE], rows) == [2, 1]
        assert self._stops(prepared, [SHADOW], rows) == []


def test_rows_of_many_values_are_decided_as_small_ones(build):
    """More than what is looked at value by value: nothing depends on which."""
    size = 300
    signature = ModelSignature(
        (TensorSpec("x", Datatype.FP32, (size,)),), (TensorSpec("y", Datatype.FP32, (size,)),), batch_axis=None
    )
    few = build.gate([build.above(1, 0)])
    box = Box((few.domain[0].box.lower[0],) * size, (few.domain[0].box.upper[0],) * size)
    prepared = prepare([dataclasses.replace(few, domain=(Region(box),))], signature)
    assert prepared.plain_boxes is None
    outputs = np.zeros((1, size))
    outputs[0, 0] = 1.0
    (row,) = decide(prepared, [ENFORCE], np.zeros((1, size)), outputs).rows
    assert row.outcome is Outcome.CORRECTED
    assert row.largest_change == np.abs(row.output - outputs[0]).max()
    assert not recheck(prepared, [0], np.zeros(size), outputs[0])
