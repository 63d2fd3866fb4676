"""Linear bounds of a graph's nonlinear operations: ``a z + b <= f(z) <= s z + t`` for ``l <= z <= u``.

Slopes are chosen to be tight, and any would be sound: the shifts are the largest and the least distance of ``f`` from
the line of that slope. A piecewise linear function has those at an end or a corner, the logistic ones at an end or
where the derivative is the slope. So rounding of the slopes does not matter; that of the shifts is a few units of
roundoff of the largest magnitude involved, which is added. The declared arithmetic's own error in ``f`` is added too:
the roundings of LeakyRelu's slope, product and result, of Clip's bounds where those are kept in a coarser format, and
what is allowed a sigmoid or tanh (:data:`~sidecar.numerics.ELEMENTARY_ERROR`).

All functions here rise, so their values lie between those at the ends.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.rounding import INFLATE, TINY, Floats, Format
from sidecar.network.operators.clip import Clip
from sidecar.network.operators.leaky_relu import LeakyRelu
from sidecar.network.operators.operation import Elementwise
from sidecar.network.operators.relu import Relu
from sidecar.network.operators.sigmoid import Sigmoid
from sidecar.network.operators.tanh import Tanh
from sidecar.numerics import UNIT_ROUNDOFF_64

Flags: TypeAlias = npt.NDArray[np.bool_]

_OWN: Final = 16.0 * UNIT_ROUNDOFF_64
"""Of the magnitudes that a shift is computed from, what its few roundings come to."""

_ELEMENTARY: Final = 2.0**-30
"""What a sigmoid or tanh of ours may err by: numpy's tanh errs by a few units in the last place, and a stationary point
that is wrong by ``d`` changes the distance from a line by less than ``d ** 2``, where ``d`` is below ``2 ** -16`` as
long as the slope is above ``2 ** -40``; below that the function is that close to its limit."""

_CANDIDATES: Final = np.linspace(0.0, 1.0, 9)


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxed:
    """Linear bounds of one operation, each float64 (box, *shape).

    Args:
        lower_slope, lower_shift: ``a`` and ``b``. upper_slope, upper_shift: ``s`` and ``t``.
    """

    lower_slope: Floats
    lower_shift: Floats
    upper_slope: Floats
    upper_shift: Floats


def image(operation: Elementwise, form: Format, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Between which values the results lie, the declared arithmetic's error included."""
    low, high = operation(lower), operation(upper)
    error = served_error(operation, form, lower)
    return low - error, high + error


def served_error(operation: Elementwise, form: Format, lower: Floats) -> Floats:
    """By how much a served result, and float64's, may differ from the function's, for operands of ``lower`` or more."""
    match operation:
        case Relu():
            return np.zeros_like(lower)
        case Clip(least, most):
            kept = max(0.0 if _is_short(bound) else abs(bound) for bound in (least, most))
            return np.full_like(lower, (kept * form.kept + form.underflow) * INFLATE if form.kept and kept else 0.0)
        case LeakyRelu(alpha):
            size = np.maximum(-lower, 0.0)
            error = alpha * size * (form.relative(2, 1) + _OWN) + 10.0 * form.underflow * (1.0 + size)
            return np.where(lower < 0.0, error, 0.0)
        case Sigmoid() | Tanh():
            return np.full_like(lower, form.elementary + _ELEMENTARY)
        case _:
            raise NotImplementedError(f"no bounds for {type(operation).__name__}")


def _is_short(bound: float) -> bool:
    """Whether a number needs no rounding in any format: few significant bits, no large or small exponent."""
    mantissa, exponent = math.frexp(bound)
    return bound == 0.0 or math.isinf(bound) or ((mantissa * 2.0**8).is_integer() and -13 <= exponent <= 14)


def undecided(operation: Elementwise, lower: Floats, upper: Floats) -> Flags:
    """Where tighter bounds of the operand would give a tighter relaxation."""
    match operation:
        case Relu() | LeakyRelu():
            return np.asarray((lower < 0.0) & (upper > 0.0))
        case Clip(least, most):
            return np.asarray(((lower < least) & (upper > least)) | ((lower < most) & (upper > most)))
        case _:
            return np.asarray(lower < upper)


def relaxed(operation: Elementwise, form: Format, lower: Floats, upper: Floats) -> Relaxed:
    """Linear bounds for operands in ``[lower, upper]``; not finite where those are not."""
    error = served_error(operation, form, lower)
    match operation:
        case Relu():
            slopes = _convex(lower, upper, 0.0)
            corners: tuple[float, ...] = (0.0,)
        case LeakyRelu(alpha):
            slopes = _convex(lower, upper, alpha)
            corners = (0.0,)
        case Clip(least, most):
            slopes = _clipped(lower, upper, least, most)
            corners = (least, most)
        case _:
            return _logistic(operation, lower, upper, error)
    below, above = slopes
    return Relaxed(
        below,
        _distances(operation, below, lower, upper, corners)[0] - error,
        above,
        _distances(operation, above, lower, upper, corners)[1] + error,
    )


def _convex(lower: Floats, upper: Floats, flat: float) -> tuple[Floats, Floats]:
    """Slopes for ``max(z, flat * z)``."""
    unstable, active = (lower < 0.0) & (upper > 0.0), lower >= 0.0
    chord = (upper - flat * lower) / (upper - lower)
    return (
        np.where(np.where(unstable, upper > -lower, active), 1.0, flat),
        np.where(unstable, chord, np.where(active, 1.0, flat)),
    )


def _clipped(lower: Floats, upper: Floats, least: float, most: float) -> tuple[Floats, Floats]:
    """Slopes for a clipped value: lines through an end's value and a corner, or flat ones, whichever lie closer."""
    low, high = lower.clip(least, most), upper.clip(least, most)
    chord = np.where(upper > lower, (high - low) / (upper - lower), 0.0)
    rising = np.where(most > lower, (most - low) / (most - lower), 0.0)  # from the low end to the upper corner
    falling = np.where(upper > least, (high - least) / (upper - least), 0.0)  # from the high end to the lower one
    above = np.where(upper <= most, chord, np.where(upper - most < most - lower, rising, 0.0))
    below = np.where(lower >= least, chord, np.where(least - lower < upper - least, falling, 0.0))
    inside = (lower >= least) & (upper <= most)
    return np.where(inside, 1.0, below), np.where(inside, 1.0, above)


def _distances(
    operation: Elementwise, slope: Floats, lower: Floats, upper: Floats, corners: Sequence[float]
) -> tuple[Floats, Floats]:
    """The least and the largest of ``f(z) - slope * z`` over the interval, for a piecewise linear function."""
    ends = [lower, upper, *(lower.clip(corner, None).clip(None, upper) for corner in corners if np.isfinite(corner))]
    found = [operation(point) - slope * point for point in ends]
    charge = np.maximum(np.abs(lower), np.abs(upper)) * (1.0 + slope) * _OWN * INFLATE + TINY
    charge = np.where(_is_line(operation, slope, lower, upper), 0.0, charge)
    return np.minimum.reduce(found) - charge, np.maximum.reduce(found) + charge


def _is_line(operation: Elementwise, slope: Floats, lower: Floats, upper: Floats) -> Flags:
    """Where the function is the line itself, without any shift: then nothing was rounded."""
    match operation:
        case Clip(least, most):
            return np.asarray((lower >= least) & (upper <= most) & (slope == 1.0))
        case _:
            return np.asarray(
                ((lower >= 0.0) & (slope == 1.0)) | ((upper <= 0.0) & (slope == operation(np.array(-1.0)) * -1.0))
            )


def _logistic(operation: Elementwise, lower: Floats, upper: Floats, error: Floats) -> Relaxed:
    """Of several slopes those whose line lies closest at the middle."""
    middle, width = 0.5 * (lower + upper), upper - lower
    chord = np.where(width > 1e-12, (operation(upper) - operation(lower)) / width, 0.0)
    flattest = np.minimum(operation.slope(lower), operation.slope(upper))
    tried = [flattest + share * (chord - flattest) for share in _CANDIDATES] + [operation.slope(middle)]
    best_below = best_above = np.full_like(lower, np.inf)
    result = [np.zeros_like(lower) for _ in range(4)]
    for candidate in tried:
        slope = candidate.clip(0.0, 1.0)
        least, largest = _stationary(operation, slope, lower, upper, error)
        below, above = -least - slope * middle, largest + slope * middle
        for place, better, shift in ((0, below < best_below, least), (2, above < best_above, largest)):
            result[place] = np.where(better, slope, result[place])
            result[place + 1] = np.where(better, shift, result[place + 1])
        best_below, best_above = np.minimum(below, best_below), np.minimum(above, best_above)
    known = np.isfinite(best_below) & np.isfinite(best_above)
    return Relaxed(*(np.where(known, each, np.nan) for each in result))


def _stationary(
    operation: Elementwise, slope: Floats, lower: Floats, upper: Floats, error: Floats
) -> tuple[Floats, Floats]:
    """As :func:`_distances`, for tanh or the sigmoid, its error included."""
    scale = 2.0 if isinstance(operation, Sigmoid) else 1.0  # sigmoid(z) = 1/2 + tanh(z / 2) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        stationary = scale * np.arctanh(np.sqrt(np.maximum(1.0 - scale * scale * slope, 0.0)))
    points = [lower, upper, stationary.clip(lower, upper), (-stationary).clip(lower, upper)]
    found = [operation(point) - slope * point for point in points]
    charge = np.maximum(np.abs(lower), np.abs(upper)) * slope * _OWN + error
    return np.minimum.reduce(found) - charge, np.maximum.reduce(found) + charge
