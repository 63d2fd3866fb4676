"""Every tolerance, rounding rule and error bound, each with its unit and its reason.

Rounding real (rational) numbers to wire datatypes lives here too. All of it is exact integer arithmetic:
a rational is laid on the grid of a datatype's values, and the neighbours on that grid are compared. An integer
datatype's values are those that can be judged, ``tensors.INTEGER_RANGES``.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.tensors import INTEGER_RANGES, Datatype

DEFAULT_MARGIN: Final = Fraction(0)
"""How far inside a requirement `project` aims, in units of a literal's value, where the property does not say.

Zero moves an answer as little as possible: strict literals are then met by the rounding rule alone
(the margin grows until the values rounded to the wire datatype satisfy exactly)."""

UNIT_ROUNDOFF_64: Final = 2.0**-53
"""Largest relative error of one float64 operation, rounding to nearest."""

UNIT_ROUNDOFF_32: Final = 2.0**-24
"""Largest relative error of one float32 operation, rounding to nearest."""

UNIT_ROUNDOFF_16: Final = 2.0**-11
"""Largest relative error of one float16 operation, rounding to nearest."""

UNIT_ROUNDOFF_BF16: Final = 2.0**-8
"""Largest relative error of rounding to bfloat16, to nearest."""

UNIT_ROUNDOFF_TF32: Final = 2.0**-10
"""Largest relative error of keeping TF32's eleven significant bits, in whatever direction: kernels that hand float32 to
a tensor core as it is have the other bits cut off."""

UNIT_ROUNDOFF_ACCUMULATED: Final = 2.0**-21
"""Relative error allowed, for each term, where an accelerator adds up in float32.

Tensor cores align the addends of a block, what was added up before among them, to the largest and cut off what lies
below its 24 bits: 2**-23 of the largest for each addend. The block's result is cut off again, which is 2**-23 of it.
Over blocks of one term or more that is no more than three times 2**-23 for each term of the whole sum; this allows
four."""

ELEMENTARY_ERROR: Final = 2.0**-20
"""Absolute error that proofs allow a served sigmoid or tanh, whose values have no prescribed rounding.

onnxruntime's float32 kernels, rational approximations, were seen to err by up to 3.3e-7 (eight million inputs from -30
to 30); this is nearly three times that. A server that errs by more computes outside the declared arithmetic."""

ELEMENTARY_ERROR_16: Final = 2.0**-8
"""The same where float16 is all that is computed in: eight units in the last place below one, for an exponential, a sum
and a quotient."""

SOFTMAX_ERROR: Final = 2.0**-16
"""Relative error that proofs allow a served softmax of up to a thousand values, besides values below 2**-126 becoming
anything from zero to there.

Half of it is what onnxruntime's was seen to stay below, in a test: its operands' differences are rounded, which at
eighty apart changes the exponential by some 2**-18. A server that errs by more computes outside the declared
arithmetic."""

SMALLEST_NORMAL_64: Final = 2.0**-1022
"""Absolute error allowed for each float64 operation that may underflow.

Gradual underflow loses 2**-1075 at most. A library that switches the thread to flush-to-zero loses up to
this much, and the filters that use it stay sound even then."""

FIRST_GROWTH: Final = Fraction(17, 16)
"""First growth of `project`'s margin, as a multiple of the largest change that rounding a point to its wire
datatypes can make to a literal's value. A little above one, so that two half-way cases that both round
towards the boundary do not end on it."""

MAX_GROWTH_ROUNDS: Final = 24
"""How often `project` may grow margins (each time at least doubling) before it gives up.

Two or three rounds suffice unless a requirement is thinner than the datatype's spacing; then no number does."""

ROUNDING_SLACK_ULPS: Final = 4
"""Excess of `project`'s distance over the exact one, as a multiple of ``condition * |ulp|``.

``|ulp|`` is the Euclidean length of the wire spacings at the moved outputs, each at its largest magnitude: before,
after, or exact. ``condition`` is how far the nearest point moves, at most, when every literal (scaled to a normal of
length one) is tightened by one: 1 for a single literal. Reason: rounding moves a literal's value by at most half a
spacing per output; growth stops at the first that exceeds that, so at most twice it, and twice that where a larger
binade is met; rounding itself adds half a spacing: 2 * 2 * 1/2 + 1/2 < 4."""

VOLUME_TOLERANCE: Final = 1e-6
"""By how much a coverage tree's stated volumes (shares of a box) may differ from those of its leaves.

Covers the order of summation and bounds widened to wire values; volumes are for reports only."""


@dataclasses.dataclass(frozen=True)
class _Format:
    """A binary floating-point format: significand bits (the hidden one included), exponents of normal numbers."""

    precision: int
    min_exponent: int
    max_exponent: int


_FORMATS: Final = {
    Datatype.FP16: _Format(precision=11, min_exponent=-14, max_exponent=15),
    Datatype.BF16: _Format(precision=8, min_exponent=-126, max_exponent=127),
    Datatype.FP32: _Format(precision=24, min_exponent=-126, max_exponent=127),
    Datatype.FP64: _Format(precision=53, min_exponent=-1022, max_exponent=1023),
}

_BELOW_ALL_SPACINGS: Final = Fraction(1, 2**1075)
"""Half the smallest distance between two float64 values."""


class _GridPosition(NamedTuple):
    """``|value| = (steps + remainder / divisor) * 2**exponent`` with ``0 <= remainder < divisor``."""

    steps: int
    remainder: int
    divisor: int
    exponent: int


def round_to_datatype(value: Fraction, datatype: Datatype) -> float:
    """The datatype's value nearest to a rational, ties to even, as float64.

    Raises:
        OverflowError: the nearest value, exponents unlimited, exceeds the largest finite one; of an integer datatype,
            the nearest whole number lies outside its range.
    """
    return round_ratio(value.numerator, value.denominator, datatype)


def round_ratio(numerator: int, denominator: int, datatype: Datatype) -> float:
    """The same of ``numerator / denominator``, which need not be in lowest terms; the denominator is positive."""
    if datatype in INTEGER_RANGES:
        return _within_range(round(Fraction(numerator, denominator)), datatype)
    position = _locate(numerator, denominator, datatype)
    twice = 2 * position.remainder
    up = twice > position.divisor or (twice == position.divisor and position.steps % 2 == 1)
    magnitude = _magnitude(position.steps + up, position.exponent, datatype)
    return -magnitude if numerator < 0 else magnitude


def round_array(values: Sequence[Fraction], datatypes: Sequence[Datatype]) -> npt.NDArray[np.float64]:
    """Each value rounded to its own datatype, float64 of shape (n,). Raises OverflowError as above."""
    return np.array([round_to_datatype(value, kind) for value, kind in zip(values, datatypes, strict=True)])


def largest_not_above(value: Fraction, datatype: Datatype) -> float:
    """The datatype's largest finite value that is <= ``value``.

    Raises:
        OverflowError: even the most negative finite value is above.
    """
    largest = largest_finite(datatype)
    if value >= largest:
        return largest
    if datatype in INTEGER_RANGES:
        return _within_range(math.floor(value), datatype)
    position = _locate(value.numerator, value.denominator, datatype)
    away_from_zero = value < 0 and position.remainder > 0
    return math.copysign(_magnitude(position.steps + away_from_zero, position.exponent, datatype), value)


def smallest_not_below(value: Fraction, datatype: Datatype) -> float:
    """The datatype's smallest finite value that is >= ``value``.

    Raises:
        OverflowError: even the largest finite value is below.
    """
    if datatype in INTEGER_RANGES:
        return _within_range(max(math.ceil(value), INTEGER_RANGES[datatype][0]), datatype)
    return -largest_not_above(-value, datatype)


def next_up(value: float, datatype: Datatype) -> float:
    """The datatype's smallest finite value above a finite float64. Raises OverflowError where there is none."""
    return smallest_not_below(Fraction(value) + _BELOW_ALL_SPACINGS, datatype)


def next_down(value: float, datatype: Datatype) -> float:
    """The datatype's largest finite value below a finite float64. Raises OverflowError where there is none."""
    return largest_not_above(Fraction(value) - _BELOW_ALL_SPACINGS, datatype)


def largest_finite(datatype: Datatype) -> float:
    """The datatype's largest finite value."""
    if datatype in INTEGER_RANGES:
        return float(INTEGER_RANGES[datatype][1])
    form = _FORMATS[datatype]
    return math.ldexp(2**form.precision - 1, form.max_exponent - form.precision + 1)


def smallest_finite(datatype: Datatype) -> float:
    """The datatype's smallest finite value: the most negative one, or zero where there are none."""
    return float(INTEGER_RANGES[datatype][0]) if datatype in INTEGER_RANGES else -largest_finite(datatype)


def spacing(value: Fraction, datatype: Datatype) -> Fraction:
    """Distance between the datatype's neighbouring values around ``value`` (one ulp), exponents unlimited above.

    Where ``value`` is a power of two it is the spacing above it, the larger of the two. Between integers it is one.
    """
    if datatype in INTEGER_RANGES:
        return Fraction(1)
    exponent = _spacing_exponent(abs(value.numerator), value.denominator, _FORMATS[datatype])
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


def spacing_exponent(value: float, datatype: Datatype) -> int:
    """The exponent of a floating-point datatype's spacing (:func:`spacing`, a power of two) around a finite value."""
    form = _FORMATS[datatype]
    exponent = math.frexp(value)[1] - 1 if value else form.min_exponent
    return max(exponent, form.min_exponent) - form.precision + 1


def gamma(operations: int) -> float:
    """An upper bound, in float64, of ``n u / (1 - n u)``: the relative error of n roundings one after another.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1.
    """
    exact = Fraction(operations, 2**53 - operations)
    return smallest_not_below(exact, Datatype.FP64)


def _within_range(value: int, datatype: Datatype) -> float:
    smallest, largest = INTEGER_RANGES[datatype]
    if not smallest <= value <= largest:
        raise OverflowError(f"the value lies outside {datatype}'s range, {smallest} to {largest}")
    return float(value)


def _locate(numerator: int, denominator: int, datatype: Datatype) -> _GridPosition:
    """Where a rational's magnitude lies on the datatype's grid."""
    dividend, divisor = abs(numerator), denominator
    exponent = _spacing_exponent(dividend, divisor, _FORMATS[datatype])
    if exponent >= 0:
        divisor <<= exponent
    else:
        dividend <<= -exponent
    steps, remainder = divmod(dividend, divisor)
    return _GridPosition(steps, remainder, divisor, exponent)


def _spacing_exponent(numerator: int, denominator: int, form: _Format) -> int:
    exponent = form.min_exponent if numerator == 0 else max(_floor_log2(numerator, denominator), form.min_exponent)
    return exponent - form.precision + 1


def _floor_log2(numerator: int, denominator: int) -> int:
    exponent = numerator.bit_length() - denominator.bit_length()  # or one too many
    reached = numerator >= denominator << exponent if exponent >= 0 else numerator << -exponent >= denominator
    return exponent if reached else exponent - 1


def _magnitude(steps: int, exponent: int, datatype: Datatype) -> float:
    if steps.bit_length() + exponent > _FORMATS[datatype].max_exponent + 1:
        raise OverflowError(f"the value exceeds the largest finite {datatype}, {largest_finite(datatype)!r}")
    return math.ldexp(steps, exponent)
