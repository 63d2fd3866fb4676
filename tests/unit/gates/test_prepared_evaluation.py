"""Preparation: what is refused; and evaluation at its edges: blocks, cuts, missing values, odd requirements."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sidecar.gates.limits import BLOCK_VALUES, PLAIN_VALUES
from sidecar.gates.membership import contains
from sidecar.gates.prepare import prepare
from sidecar.gates.satisfaction import satisfied, satisfies
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

NAN, INF = float("nan"), float("inf")


def judged(prepared, outputs, inputs=None):
    """Of each gate on each row, all considered."""
    outputs = np.array(outputs, dtype=np.float64)
    inputs = np.zeros((len(outputs), prepared.signature.input_size)) if inputs is None else np.array(inputs)
    considered = np.ones((len(outputs), len(prepared.gates)), dtype=np.bool_)
    return satisfied(prepared, inputs, outputs, considered).tolist()


class TestPreparationRefuses:
    def test_no_gates(self, build):
        with pytest.raises(ValueError, match="no gates"):
            prepare([], build.signature())

    def test_a_box_of_another_size(self, build):
        gate = build.gate([build.above(1, 0)], domain=(build.region([0, 0], [1, 1]),))
        with pytest.raises(ValueError, match="a box of 2 inputs; the model has 1"):
            prepare([gate], build.signature())

    def test_a_literal_on_an_output_that_is_not_there(self, build):
        with pytest.raises(ValueError, match="speaks of output 5; the model has 5"):
            prepare([build.gate([build.above(5, 0)])], build.signature())

    def test_a_literal_on_an_input_that_is_not_there(self, build):
        with pytest.raises(ValueError, match="speaks of input 1; the model has 1"):
            prepare([build.gate([build.literal({0: 1}, inputs={1: 1})])], build.signature())

    def test_a_cut_on_an_input_that_is_not_there(self, build):
        gate = build.gate([build.above(1, 0)], domain=(build.region(cuts=[build.literal({}, inputs={3: 1})]),))
        with pytest.raises(ValueError, match="speaks of input 3"):
            prepare([gate], build.signature())

    @pytest.mark.parametrize(
        ("fallback", "message"),
        [
            ([1], "a fallback of 1 values; the model has 2"),
            (["0.1", 0], "fallback value 1/10 of output 0 is no FP32; the nearest is 0.10000000149"),
            ([0, 10**40], "not representable on the wire"),
        ],
    )
    def test_a_fallback_that_cannot_be_sent(self, build, fallback, message):
        with pytest.raises(ValueError, match=message):
            prepare([build.falling_back(fallback, [build.above(1, 0)])], build.signature(outputs=2))


class TestPreparedArrays:
    def test_no_segment_is_empty(self, build):
        cut = build.region(cuts=[build.literal({}, inputs={0: 1}), build.literal({}, inputs={0: 2}, offset=1)])
        gates = [build.gate(), build.gate([build.above(1, 0)], [build.above(2, 0)], domain=(build.region(), cut))]
        prepared = prepare(gates, build.signature())
        assert prepared.gate_regions.tolist() == [0, 1, 3]
        assert prepared.cut_regions.tolist() == [2]
        assert prepared.region_cuts.tolist() == [0, 2]
        assert prepared.gate_clauses.tolist() == [0, 1, 3]
        assert prepared.clause_literals.tolist() == [0, 1, 2, 3]
        assert prepared.literals.offsets.tolist() == [0, 1, 3, 5]
        assert prepared.literals.columns.tolist() == [0, 2, 3, 2, 4]

    def test_fallbacks_stand_in_their_rows(self, build):
        gates = [build.gate([build.above(1, 0)]), build.falling_back([1, 2], [build.above(1, 0)])]
        fallbacks = prepare(gates, build.signature(outputs=2)).fallbacks
        assert np.isnan(fallbacks[0]).all()
        assert fallbacks[1].tolist() == [1.0, 2.0]


class TestSatisfaction:
    def test_an_empty_requirement_is_satisfied(self, build):
        assert judged(prepare([build.gate()], build.signature(outputs=1)), [[5.0], [NAN]]) == [[True], [True]]

    def test_ties_count_as_the_literal_says(self, build):
        gates = [build.gate([build.above(1, 0, strict=strict)]) for strict in (True, False)]
        assert judged(prepare(gates, build.signature(outputs=2)), [[1.0, 1.0]]) == [[False, True]]

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_a_missing_value_anywhere_in_a_mentioned_tensor_violates(self, build, value):
        prepared = prepare([build.gate([build.above(1, 0)])], build.signature(outputs=3))
        assert judged(prepared, [[0.0, 1.0, value], [0.0, 1.0, 2.0]]) == [[False], [True]]

    def test_a_tensor_that_no_literal_mentions_may_hold_anything(self, build):
        signature = ModelSignature(
            (TensorSpec("x", Datatype.FP32, (1,)),),
            (TensorSpec("scores", Datatype.FP32, (2,)), TensorSpec("mask", Datatype.FP32, (2,))),
            0,
        )
        gates = [build.gate([build.above(1, 0)]), build.gate([build.above(3, 2)])]
        assert judged(prepare(gates, signature), [[0.0, 1.0, NAN, 1.0], [NAN, 1.0, 2.0, 3.0]]) == [
            [True, False],
            [False, True],
        ]

    def test_a_missing_input_that_a_literal_reads_violates(self, build):
        gates = [build.gate([build.literal({0: 1}, inputs={0: 1})]), build.gate([build.literal({0: 1})])]
        assert judged(prepare(gates, build.signature(outputs=1)), [[1.0]], [[NAN]]) == [[False, True]]

    def test_overflow_in_the_filter_is_decided_exactly(self, build):
        huge = build.gate([build.literal({0: 3, 1: -3})])
        prepared = prepare([huge], build.signature(outputs=2, datatype=Datatype.FP64))
        assert judged(prepared, [[1.7e308, 1.6e308], [1.6e308, 1.7e308]]) == [[True], [False]]

    @pytest.mark.parametrize("strict", [True, False])
    def test_an_infinite_sum_decides_nothing(self, build, strict):
        """A partial sum overflows although the value is small: infinite here, negative and positive in truth."""
        gate = build.gate([build.literal({0: 1, 1: 1, 2: 1, 3: -1, 4: -1}, strict=strict)])
        prepared = prepare([gate], build.signature(outputs=5, datatype=Datatype.FP64))
        huge = [0.0, 1.7e308, 1.7e308, 1.7e308, 1.75e308]
        assert judged(prepared, [huge, [-value for value in huge]]) == [[False], [True]]

    @pytest.mark.parametrize("places", list(itertools.permutations(range(3))))
    def test_three_terms_are_not_taken_for_a_comparison(self, build, places):
        """In float64 1e30 + 1 - 1e30 is zero, in most orders: only a sum of two always has the right sign."""
        big = float(np.float32(1e30))
        gates = [build.gate([build.literal(zip(places, (1, 1, -1), strict=True), strict=s)]) for s in (True, False)]
        rows = np.zeros((3, 3))
        rows[:, places] = [[1.0, big, big], [-1.0, big, big], [0.0, big, big]]
        prepared = prepare(gates, build.signature(outputs=3))
        assert judged(prepared, rows) == [[True, True], [False, False], [False, True]]

    def test_what_underflows_is_decided_exactly(self, build):
        tiny = build.gate([build.literal({0: Fraction(1, 10**200), 1: Fraction(-1, 10**200)})])
        prepared = prepare([tiny], build.signature(outputs=2, datatype=Datatype.FP64))
        assert judged(prepared, [[3e-200, 2e-200], [2e-200, 3e-200]]) == [[True], [False]]

    def test_coefficients_beyond_float64_are_decided_exactly(self, build):
        gate = build.gate([build.literal({0: 10**400, 1: -(10**400) - 1})], [build.literal({0: Fraction(1, 10**400)})])
        assert judged(prepare([gate], build.signature(outputs=2)), [[2.0, 1.0], [1.0, 1.0]]) == [[True], [False]]

    def test_only_what_is_considered_is_judged(self, build):
        prepared = prepare([build.gate([build.above(1, 0)])] * 2, build.signature(outputs=2))
        considered = np.array([[True, False], [False, False]])
        result = satisfied(prepared, np.zeros((2, 1)), np.array([[1.0, 0.0], [1.0, 0.0]]), considered)
        assert result.tolist() == [[False, True], [True, True]]


class TestMembership:
    def test_bounds_are_closed(self, build):
        prepared = prepare([build.gate()], build.signature())
        assert contains(prepared, np.array([[-1.0], [1.0], [np.nextafter(1.0, 2.0)], [NAN], [INF]])).tolist() == [
            [True],
            [True],
            [False],
            [False],
            [False],
        ]

    def test_a_union_of_regions(self, build):
        gate = build.gate(domain=(build.region([0], [1]), build.region([2], [3])))
        prepared = prepare([gate, build.gate()], build.signature())
        assert contains(prepared, np.array([[0.5], [1.5], [2.5]])).tolist() == [
            [True, True],
            [False, False],
            [True, False],
        ]

    def test_a_cut_is_decided_exactly_on_its_line(self, build):
        """x0 = 3 x1 in tenths of inputs: no float64 sum can tell, rationals can."""
        cuts = [build.literal({}, inputs={0: Fraction(1, 10), 1: Fraction(-3, 10)}, strict=strict) for strict in (0, 1)]
        gates = [build.gate(domain=(build.region([0, 0], [9, 9], [cut]),)) for cut in cuts]
        prepared = prepare(gates, build.signature(inputs=2))
        rows = np.array([[3.0, 1.0], [np.nextafter(3.0, 4.0), 1.0], [np.nextafter(3.0, 2.0), 1.0]])
        assert contains(prepared, rows).tolist() == [[True, False], [True, True], [False, False]]

    def test_a_region_without_cuts_beside_one_with(self, build):
        cut = build.literal({}, inputs={0: 1})
        gate = build.gate(domain=(build.region([-1], [0]), build.region([-1], [1], [cut])))
        assert contains(prepare([gate], build.signature()), np.array([[-1.0], [0.0], [0.5]])).tolist() == [[True]] * 3


def test_batches_beyond_a_block_are_judged_alike(build):
    prepared = prepare([build.gate([build.above(1, 0)])], build.signature(outputs=2))
    rows = BLOCK_VALUES // 4 + 3
    outputs = np.stack([np.zeros(rows), np.arange(rows) % 2], axis=1)
    considered = contains(prepared, np.zeros((rows, 1)))
    assert considered.all()
    result = satisfied(prepared, np.zeros((rows, 1)), outputs, considered)
    assert np.array_equal(result[:, 0], np.arange(rows) % 2 == 1)


def test_no_rows_at_all(build):
    prepared = prepare([build.gate([build.above(1, 0)])], build.signature(outputs=2))
    considered = contains(prepared, np.empty((0, 1)))
    assert considered.shape == (0, 1)
    assert satisfied(prepared, np.empty((0, 1)), np.empty((0, 2)), considered).shape == (0, 1)


class TestARowAlone:
    """Small domains and requirements are judged in plain floats, larger ones and cut domains in arrays."""

    def test_small_gates_without_cuts_have_plain_tables(self, build):
        prepared = prepare([build.gate([build.above(1, 0)])], build.signature())
        assert prepared.plain_boxes is not None
        assert prepared.plain_requirements is not None

    def test_cut_and_large_domains_have_none(self, build):
        cut = build.gate([build.above(1, 0)], domain=(build.region(cuts=[build.literal({}, inputs={0: 1})]),))
        wide = build.gate([build.above(1, 0)], domain=(build.region(),) * (PLAIN_VALUES // 2 + 1))
        assert prepare([cut], build.signature()).plain_boxes is None
        assert prepare([wide], build.signature()).plain_boxes is None

    def test_large_requirements_have_none(self, build):
        wide = build.gate([build.literal(dict.fromkeys(range(PLAIN_VALUES + 1), 1))])
        prepared = prepare([wide], build.signature(outputs=PLAIN_VALUES + 1))
        assert prepared.plain_requirements is None
        assert judged(prepared, [np.ones(PLAIN_VALUES + 1)]) == [[True]]
        assert not satisfies(prepared, [0], np.zeros(1), -np.ones(PLAIN_VALUES + 1))

    def test_overflow_is_left_to_exact_arithmetic(self, build):
        largest = float(np.finfo(np.float64).max)
        signature = build.signature(outputs=3, datatype=Datatype.FP64)
        prepared = prepare([build.gate([build.literal({0: 3, 1: -3, 2: 1})])], signature)
        assert judged(prepared, [[largest, largest, 1.0]]) == [[True]]
        assert judged(prepared, [[largest, largest, -1.0]]) == [[False]]
