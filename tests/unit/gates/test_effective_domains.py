"""Effective domains: what widening takes in, at halves, at the ends of a datatype's range, and in decimal."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.gates.effective import effective_region, wire_bounds
from sidecar.gates.exact import region_contains
from sidecar.gates.values import Box, Literal, Region
from sidecar.numerics import largest_finite, next_down, next_up, spacing
from sidecar.tensors import FLOATING_DATATYPES, Datatype

floating = pytest.mark.parametrize("datatype", FLOATING_DATATYPES)


def widened(lower, upper, datatype):
    box = effective_region(Region(Box((Fraction(lower),), (Fraction(upper),))), [datatype]).box
    return box.lower[0], box.upper[0]


class TestWidening:
    def test_a_decimal_bound_takes_in_the_float_that_clients_send(self):
        lower, upper = widened("0.6", "0.679857769", Datatype.FP32)
        assert lower == Fraction("0.6")  # the nearest float lies above it, so inside
        assert upper == Fraction(float(np.float32(0.679857769))) > Fraction("0.679857769")

    @floating
    def test_wire_values_stay_as_they_are(self, datatype):
        assert widened("-0.5", "1.5", datatype) == (Fraction("-0.5"), Fraction("1.5"))

    @floating
    def test_a_bound_half_way_takes_in_both_neighbours(self, datatype):
        half = spacing(Fraction(1), datatype) / 2
        assert widened(1 + half, 1 + half, datatype) == (1, 1 + 2 * half)

    @floating
    def test_a_bound_nearer_to_the_inside_is_not_moved(self, datatype):
        quarter = spacing(Fraction(1), datatype) / 4
        assert widened(1 - quarter / 4, 1 + quarter, datatype) == (1 - quarter / 4, 1 + quarter)

    @floating
    def test_a_bound_beyond_the_range_on_the_outside_stays(self, datatype):
        beyond = Fraction(largest_finite(datatype)) * 3
        assert widened(-beyond, beyond, datatype) == (-beyond, beyond)

    @floating
    def test_a_box_beyond_the_range_takes_in_the_largest_value(self, datatype):
        largest = Fraction(largest_finite(datatype))
        assert widened(2 * largest, 3 * largest, datatype) == (largest, 3 * largest)
        assert widened(-3 * largest, -2 * largest, datatype) == (-3 * largest, -largest)

    @pytest.mark.parametrize(
        ("bounds", "expected"),
        [
            (("2.3", "6.4"), (2, "6.4")),
            (("2.7", "6.6"), ("2.7", 7)),
            (("2.5", "6.5"), (2, 7)),
            (("2.6", "2.8"), ("2.6", 3)),
            (("2.2", "2.4"), (2, "2.4")),
            (("-500", "500"), ("-500", "500")),
            (("200", "500"), (127, "500")),
            (("-500", "-200"), ("-500", -128)),
        ],
    )
    def test_a_bound_on_an_integer_takes_in_the_nearest_integer(self, bounds, expected):
        assert widened(*bounds, Datatype.INT8) == tuple(map(Fraction, expected))

    def test_below_an_unsigned_range_zero_is_nearest(self):
        assert widened(-5, -2, Datatype.UINT8) == (-5, 0)
        assert widened("-0.3", "0.7", Datatype.BOOL) == (Fraction("-0.3"), 1)
        assert widened(3, 4, Datatype.BOOL) == (1, 4)

    def test_cuts_stay_exact(self):
        cut = Literal(outputs=(), inputs=((0, Fraction(1, 3)),), offset=Fraction(1, 7), strict=True)
        region = Region(Box((Fraction(1, 3),), (Fraction(1, 2),)), (cut,))
        assert effective_region(region, [Datatype.FP16]).cuts == (cut,)

    @settings(deadline=None)
    @given(st.sampled_from(FLOATING_DATATYPES), st.fractions(-100, 100), st.fractions(0, 5))
    def test_widening_contains_the_region_and_is_idempotent(self, datatype, low, width):
        once = effective_region(Region(Box((low,), (low + width,))), [datatype])
        assert once.box.lower[0] <= low
        assert once.box.upper[0] >= low + width
        assert effective_region(once, [datatype]) == once


class TestWireBounds:
    @floating
    def test_wire_values_between_them_are_those_in_the_box(self, datatype):
        box = Box((Fraction("0.3"),), (Fraction("0.7"),))
        (lower,), (upper,) = wire_bounds(box, [datatype])
        around = [next_down(lower, datatype), lower, next_up(lower, datatype), next_down(upper, datatype), upper]
        for value in (*around, next_up(upper, datatype)):
            assert (lower <= value <= upper) == region_contains(Region(box), [value])

    @floating
    def test_a_box_beyond_the_range_holds_no_value(self, datatype):
        largest = Fraction(largest_finite(datatype))
        (above, _), (_, below) = (
            [bound[0] for bound in wire_bounds(Box((sign * 2 * largest,), (sign * 2 * largest,)), [datatype])]
            for sign in (1, -1)
        )
        assert above == math.inf
        assert below == -math.inf

    def test_integers_inside_are_those_between_the_bounds(self):
        box = Box((Fraction("-2.5"), Fraction(3), Fraction(-9)), (Fraction("2.5"), Fraction(2**60), Fraction(9)))
        lower, upper = wire_bounds(box, [Datatype.INT16, Datatype.INT64, Datatype.BOOL])
        assert lower.tolist() == [-2, 3, 0]
        assert upper.tolist() == [2, 2**53, 1]

    @pytest.mark.parametrize("datatype", [Datatype.UINT8, Datatype.INT64])
    def test_a_box_beyond_an_integer_range_holds_no_value(self, datatype):
        (above,), _ = wire_bounds(Box((Fraction(2**60),), (Fraction(2**60),)), [datatype])
        _, (below,) = wire_bounds(Box((Fraction(-(2**60)),), (Fraction(-(2**60)),)), [datatype])
        assert (above, below) == (math.inf, -math.inf)

    def test_a_box_between_two_values_holds_none(self):
        third = Fraction(1, 3)
        lower, upper = wire_bounds(Box((third,), (third,)), [Datatype.FP32])
        assert lower > upper

    def test_each_feature_has_its_own_datatype(self):
        third = Fraction(1, 3)
        lower, upper = wire_bounds(Box((-third,) * 2, (third,) * 2), [Datatype.FP16, Datatype.FP64])
        assert upper.tolist() == [next_down(float(np.float16(1 / 3)) + 1e-9, Datatype.FP16), 1 / 3]
        assert lower.tolist() == (-upper).tolist()
