"""Effective domains: a stated domain, widened to what its bounds are on the wire.

A person writes a bound in decimal; the client sends the wire datatype's nearest value, which may lie just
outside. So each bound is widened to include the datatype's finite value nearest to it. It is never narrowed: more
inputs under a gate is the safe side. Cuts are relations between values rather than values, and stay as stated.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sidecar.gates.values import Box, Region
from sidecar.numerics import largest_finite, largest_not_above, smallest_finite, smallest_not_below
from sidecar.tensors import Datatype


def effective_region(region: Region, datatypes: Sequence[Datatype]) -> Region:
    """The region with each bound widened to its nearest wire value. Exact rationals.

    A bound half-way between two wire values takes in both. A bound beyond the datatype's finite range is nearest to
    the last finite value on its side, so a box that lies wholly beyond takes in that value (what a saturating
    client sends), and no effective box is empty of wire values.

    Args:
        region: as stated.
        datatypes: of each value of an input row.
    """
    box = region.box
    return Region(
        box=Box(
            lower=tuple(_widened_down(bound, kind) for bound, kind in zip(box.lower, datatypes, strict=True)),
            upper=tuple(_widened_up(bound, kind) for bound, kind in zip(box.upper, datatypes, strict=True)),
        ),
        cuts=region.cuts,
    )


def wire_bounds(box: Box, datatypes: Sequence[Datatype]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The smallest and the largest wire values inside a box, float64 of shape (n,) each.

    For finite wire values, lying between them is the same as lying in the box. Where a box holds no wire value of
    some feature, the bounds cross (or are infinite), and no finite value lies between them.
    """
    lower = [_smallest_inside(bound, kind) for bound, kind in zip(box.lower, datatypes, strict=True)]
    upper = [_largest_inside(bound, kind) for bound, kind in zip(box.upper, datatypes, strict=True)]
    return np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64)


def _widened_up(upper: Fraction, datatype: Datatype) -> Fraction:
    if upper >= largest_finite(datatype):
        return upper
    if upper < smallest_finite(datatype):
        return Fraction(smallest_finite(datatype))
    below, above = _neighbours(upper, datatype)
    return above if above - upper <= upper - below else upper


def _widened_down(lower: Fraction, datatype: Datatype) -> Fraction:
    if lower <= smallest_finite(datatype):
        return lower
    if lower > largest_finite(datatype):
        return Fraction(largest_finite(datatype))
    below, above = _neighbours(lower, datatype)
    return below if lower - below <= above - lower else lower


def _neighbours(bound: Fraction, datatype: Datatype) -> tuple[Fraction, Fraction]:
    return Fraction(largest_not_above(bound, datatype)), Fraction(smallest_not_below(bound, datatype))


def _largest_inside(upper: Fraction, datatype: Datatype) -> float:
    return largest_not_above(upper, datatype) if upper >= smallest_finite(datatype) else -math.inf


def _smallest_inside(lower: Fraction, datatype: Datatype) -> float:
    return smallest_not_below(lower, datatype) if lower <= largest_finite(datatype) else math.inf
