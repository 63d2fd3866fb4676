"""Rounding to wire datatypes, against brute force and against independent implementations."""

import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.numerics import (
    gamma,
    largest_finite,
    largest_not_above,
    next_down,
    next_up,
    round_array,
    round_to_datatype,
    smallest_finite,
    smallest_not_below,
    spacing,
)
from sidecar.tensors import FLOATING_DATATYPES, INTEGER_RANGES, Datatype

NUMPY_TYPE = {
    Datatype.FP16: np.dtype(np.float16),
    Datatype.BF16: np.dtype(ml_dtypes.bfloat16),
    Datatype.FP32: np.dtype(np.float32),
    Datatype.FP64: np.dtype(np.float64),
}
SMALLEST = {
    Datatype.FP16: Fraction(1, 2**24),
    Datatype.BF16: Fraction(1, 2**133),
    Datatype.FP32: Fraction(1, 2**149),
    Datatype.FP64: Fraction(1, 2**1074),
}
datatypes = st.sampled_from(FLOATING_DATATYPES)


def nonnegative_finite(datatype: Datatype) -> list[float]:
    """All finite values of a 16-bit datatype that are not negative, ascending. A law below mirrors them."""
    patterns = np.arange(1 << 15, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = patterns.view(NUMPY_TYPE[datatype]).astype(np.float64)
    return [float(value) for value in values[np.isfinite(values)]]


def same_bits(one: float, other: float) -> bool:
    return one == other and math.copysign(1, one) == math.copysign(1, other)


@st.composite
def rationals(draw, datatype: Datatype) -> Fraction:
    """Rationals in the datatype's range, often close to its values and half-way between them."""
    sign = draw(st.sampled_from([-1, 1]))
    form = np.finfo(np.float64) if datatype is Datatype.FP64 else ml_dtypes.finfo(NUMPY_TYPE[datatype])
    exponent = draw(st.integers(form.minexp - form.nmant - 2, form.maxexp - 1))
    mantissa = Fraction(draw(st.integers(0, 2 ** (form.nmant + 2))), 2 ** (form.nmant + 2))
    nudge = draw(st.sampled_from([0, 1, -1])) * Fraction(1, 3**40)
    value = sign * (1 + mantissa / 2 + nudge / 4) * Fraction(2) ** exponent
    limit = Fraction(largest_finite(datatype))
    return min(max(value, -limit), limit)


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
class TestEveryValueOfASixteenBitDatatype:
    def test_its_values_stay_and_the_next_is_the_next_value(self, datatype):
        values = nonnegative_finite(datatype)
        for value, above in itertools.pairwise(values):
            assert round_to_datatype(Fraction(value), datatype) == value
            assert next_up(value, datatype) == above

    def test_between_neighbours_the_nearer_wins_and_ties_go_to_even(self, datatype):
        for pattern, (below, above) in enumerate(itertools.pairwise(nonnegative_finite(datatype))):
            low, high = Fraction(below), Fraction(above)
            middle, nudge = (low + high) / 2, (high - low) / 1024
            assert round_to_datatype(middle, datatype) == (below if pattern % 2 == 0 else above)
            assert round_to_datatype(middle - nudge, datatype) == below
            assert round_to_datatype(middle + nudge, datatype) == above


class TestAgainstIndependentImplementations:
    @settings(deadline=None)
    @given(st.floats(-65519, 65519))
    def test_fp16_is_rounded_as_numpy_rounds(self, value):
        expected = float(np.float16(value))
        rounded = round_to_datatype(Fraction(value), Datatype.FP16)
        assert same_bits(rounded, expected) or (rounded == expected == value == 0)  # a rational zero has no sign

    @settings(deadline=None)
    @given(st.floats(width=32, allow_nan=False, allow_infinity=False))
    def test_bf16_is_rounded_as_ml_dtypes_rounds(self, value):
        expected = float(ml_dtypes.bfloat16(value))
        if math.isinf(expected):
            with pytest.raises(OverflowError):
                round_to_datatype(Fraction(value), Datatype.BF16)
        else:
            assert round_to_datatype(Fraction(value), Datatype.BF16) == expected

    @settings(deadline=None)
    @given(st.floats(allow_nan=False, allow_infinity=False))
    @example(float(np.finfo(np.float32).max) * (1 + 2**-25))
    def test_fp32_is_rounded_as_numpy_rounds(self, value):
        with np.errstate(over="ignore", under="ignore"):
            expected = float(np.float32(value))
        if math.isinf(expected):
            with pytest.raises(OverflowError):
                round_to_datatype(Fraction(value), Datatype.FP32)
        else:
            assert round_to_datatype(Fraction(value), Datatype.FP32) == expected

    @settings(deadline=None)
    @given(rationals(Datatype.FP64))
    def test_fp64_is_rounded_as_python_rounds_a_fraction(self, value):
        assert round_to_datatype(value, Datatype.FP64) == float(value)

    @settings(deadline=None)
    @given(datatypes, st.floats(width=16, allow_nan=False, allow_infinity=False))
    def test_neighbours_are_numpys(self, datatype, value):
        if datatype is Datatype.BF16:
            value = float(ml_dtypes.bfloat16(value))
        kind = NUMPY_TYPE[datatype].type
        if abs(value) < largest_finite(datatype):
            assert next_up(value, datatype) == float(np.nextafter(kind(value), kind(math.inf)))
            assert next_down(value, datatype) == float(np.nextafter(kind(value), kind(-math.inf)))


class TestLaws:
    @settings(max_examples=300, deadline=None)
    @given(st.data(), datatypes)
    def test_rounded_lies_between_the_neighbours_and_no_neighbour_is_nearer(self, data, datatype):
        value = data.draw(rationals(datatype))
        rounded = Fraction(round_to_datatype(value, datatype))
        below, above = Fraction(largest_not_above(value, datatype)), Fraction(smallest_not_below(value, datatype))
        assert below <= value <= above
        assert above - below <= spacing(value, datatype)
        assert rounded in (below, above)
        assert abs(rounded - value) == min(value - below, above - value)

    @settings(deadline=None)
    @given(st.data(), datatypes)
    def test_the_values_found_belong_to_the_datatype(self, data, datatype):
        value = data.draw(rationals(datatype))
        for found in (
            round_to_datatype(value, datatype),
            largest_not_above(value, datatype),
            smallest_not_below(value, datatype),
        ):
            assert float(np.array(found).astype(NUMPY_TYPE[datatype])) == found

    @settings(deadline=None)
    @given(st.data(), datatypes)
    def test_signs_mirror(self, data, datatype):
        value = data.draw(rationals(datatype))
        assert same_bits(round_to_datatype(-value, datatype), -round_to_datatype(value, datatype)) or value == 0
        assert smallest_not_below(-value, datatype) == -largest_not_above(value, datatype)

    @settings(deadline=None)
    @given(st.data(), datatypes)
    def test_next_up_is_adjacent_even_from_a_value_that_the_datatype_does_not_have(self, data, datatype):
        value = data.draw(st.floats(-60000, 60000))
        above = next_up(value, datatype)
        assert above > value
        assert next_down(above, datatype) <= value
        assert next_down(value, datatype) == -next_up(-value, datatype)


@pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
class TestEdges:
    def test_the_largest_finite_value(self, datatype):
        expected = ml_dtypes.finfo(NUMPY_TYPE[datatype]).max if datatype is not Datatype.FP64 else np.finfo(float).max
        assert largest_finite(datatype) == float(expected)
        assert smallest_finite(datatype) == -float(expected)

    def test_beyond_the_last_half_spacing_rounding_overflows(self, datatype):
        largest = Fraction(largest_finite(datatype))
        half = spacing(largest, datatype) / 2
        assert round_to_datatype(largest + half * Fraction(999, 1000), datatype) == largest
        for value in (largest + half, -largest - half, largest**2):
            with pytest.raises(OverflowError, match=f"largest finite {datatype}"):
                round_to_datatype(value, datatype)

    def test_bounds_beyond_the_range(self, datatype):
        largest = largest_finite(datatype)
        beyond = Fraction(largest) + 1
        assert largest_not_above(beyond, datatype) == largest
        assert smallest_not_below(-beyond, datatype) == -largest
        with pytest.raises(OverflowError):
            largest_not_above(-beyond, datatype)
        with pytest.raises(OverflowError):
            smallest_not_below(beyond, datatype)
        with pytest.raises(OverflowError):
            next_up(largest, datatype)
        with pytest.raises(OverflowError):
            next_down(-largest, datatype)

    def test_subnormals_and_zero(self, datatype):
        smallest = SMALLEST[datatype]
        assert next_up(0.0, datatype) == smallest
        assert next_down(0.0, datatype) == -smallest
        assert next_up(-float(smallest), datatype) == 0.0
        assert spacing(Fraction(0), datatype) == smallest
        assert same_bits(round_to_datatype(smallest / 2, datatype), 0.0)
        assert same_bits(round_to_datatype(-smallest / 2, datatype), -0.0)
        assert round_to_datatype(smallest * Fraction(3, 2), datatype) == 2 * smallest

    def test_spacing_doubles_at_a_power_of_two(self, datatype):
        one = spacing(Fraction(1), datatype)
        assert spacing(1 - one / 4, datatype) == one / 2
        assert spacing(Fraction(2), datatype) == 2 * one
        assert spacing(Fraction(-1), datatype) == one
        assert spacing(Fraction(2**40), datatype) == one * 2**40


@pytest.mark.parametrize("datatype", INTEGER_RANGES)
class TestIntegerDatatypes:
    def test_the_ends_of_the_range(self, datatype):
        assert (smallest_finite(datatype), largest_finite(datatype)) == INTEGER_RANGES[datatype]

    def test_halves_go_to_even(self, datatype):
        assert round_to_datatype(Fraction(1, 2), datatype) == 0
        assert round_to_datatype(Fraction(1, 2) + Fraction(1, 10**30), datatype) == 1
        largest = INTEGER_RANGES[datatype][1]
        assert round_to_datatype(largest - Fraction(1, 3), datatype) == largest

    def test_an_integer_stays_and_its_neighbours_are_one_away(self, datatype):
        for value in (0, 1):
            assert round_to_datatype(Fraction(value), datatype) == value
            assert largest_not_above(Fraction(value), datatype) == value
            assert smallest_not_below(Fraction(value), datatype) == value
        assert (next_up(0.0, datatype), next_down(1.0, datatype)) == (1, 0)
        assert spacing(Fraction(10**6, 7), datatype) == 1

    def test_zero_has_no_sign(self, datatype):
        for value in (Fraction(-1, 3), Fraction(0), Fraction(1, 3)):
            assert same_bits(round_to_datatype(value, datatype), 0.0)
        assert same_bits(smallest_not_below(Fraction(0), datatype), 0.0)
        assert same_bits(largest_not_above(Fraction(0), datatype), 0.0)

    def test_beyond_the_range(self, datatype):
        smallest, largest = INTEGER_RANGES[datatype]
        assert largest_not_above(Fraction(10**30), datatype) == largest
        assert smallest_not_below(Fraction(-(10**30)), datatype) == smallest
        for outside in (smallest - Fraction(2, 3), largest + Fraction(2, 3), Fraction(10**30)):
            with pytest.raises(OverflowError, match=f"outside {datatype}'s range"):
                round_to_datatype(outside, datatype)
        with pytest.raises(OverflowError):
            largest_not_above(smallest - Fraction(1, 10**30), datatype)
        with pytest.raises(OverflowError):
            smallest_not_below(largest + Fraction(1, 10**30), datatype)
        with pytest.raises(OverflowError):
            next_up(float(largest), datatype)
        with pytest.raises(OverflowError):
            next_down(float(smallest), datatype)


def test_round_array_rounds_each_value_to_its_own_datatype():
    third = Fraction(1, 3)
    rounded = round_array([third, third], [Datatype.FP32, Datatype.FP16])
    assert rounded.dtype == np.float64
    assert rounded.tolist() == [float(np.float32(1 / 3)), float(np.float16(1 / 3))]


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_gamma_is_an_upper_bound_and_a_tight_one(operations):
    exact = Fraction(operations, 2**53) / (1 - Fraction(operations, 2**53))
    bound = Fraction(gamma(operations))
    assert exact <= bound <= exact * (1 + Fraction(1, 2**51))
