"""From inequalities on inputs to regions: a box, and cuts for what is no bound on a single feature.

A region errs on the wide side: strict inequalities become closed ones, since guarding a boundary that
nobody asked for is safe, and leaving one out is not. Bounds that nobody states come from the features'
declared ranges; a stated bound replaces the range's bound on that side.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from sidecar.gates.values import Box, Literal, Region
from sidecar.properties.normal_form import Conjunct, check_size
from sidecar.properties.rationals import bounded
from sidecar.properties.source import Complaint
from sidecar.properties.vocabulary import Feature

EMPTY_DOMAIN: Final = "empty domain: no input meets these conditions; check the bounds against each other"


def regions(domain: Sequence[Conjunct], features: Sequence[Feature]) -> tuple[Region, ...]:
    """The union of regions that the conjuncts describe; empty ones are left out, so there may be none.

    A region is known to be empty when its bounds contradict each other, or when one of its cuts misses its
    box; cuts that only together leave nothing are kept, which is safe.

    Args:
        domain: literals over inputs only.
        features: one for each position of the input row.

    Raises:
        Complaint: a feature has no bound on some side, or a stated bound lies outside the declared range
            that would complete it; too many regions of too many features.
    """
    check_size(len(domain), len(domain) * len(features))
    found = (_region(conjunct, features) for conjunct in domain)
    return tuple(dict.fromkeys(region for region in found if region is not None))


def _region(conjunct: Conjunct, features: Sequence[Feature]) -> Region | None:
    lower: dict[int, Fraction] = {}
    upper: dict[int, Fraction] = {}
    cuts: dict[Literal, None] = {}
    for literal in conjunct:
        if len(literal.inputs) > 1:
            cuts[dataclasses.replace(literal, strict=False)] = None
        else:
            _narrow(literal, lower, upper)
    if any(lower[position] > upper[position] for position in lower.keys() & upper.keys()):
        return None
    sides = [_sides(feature, lower.get(feature.position), upper.get(feature.position)) for feature in features]
    box = Box(tuple(low for low, _ in sides), tuple(high for _, high in sides))
    if any(_largest(cut, box) < 0 for cut in cuts):
        return None
    return Region(box, tuple(cuts))


def _narrow(literal: Literal, lower: dict[int, Fraction], upper: dict[int, Fraction]) -> None:
    """Take ``coefficient * x + offset >= 0`` into the bounds."""
    ((position, coefficient),) = literal.inputs
    bound = bounded(-literal.offset / coefficient)
    if coefficient > 0:
        lower[position] = max(bound, lower.get(position, bound))
    else:
        upper[position] = min(bound, upper.get(position, bound))


def _sides(feature: Feature, low: Fraction | None, high: Fraction | None) -> tuple[Fraction, Fraction]:
    """Both bounds of a feature in wire units, completed from its range."""
    if low is not None and high is not None:
        return low, high
    ends = feature.wire_range()
    if ends is None:
        raise Complaint(_unbounded(feature, low, high), feature.position)
    completed = ends[0] if low is None else low, ends[1] if high is None else high
    if completed[0] > completed[1]:
        stated = completed[0] if high is None else completed[1]
        raise Complaint(_outside(feature, feature.wire.to_physical(stated)), feature.position)
    return completed


def _unbounded(feature: Feature, low: Fraction | None, high: Fraction | None) -> str:
    first, second = ("lower", "upper") if feature.wire.scale > 0 else ("upper", "lower")
    missing = " and no ".join(side for side, bound in ((first, low), (second, high)) if bound is None)
    return (
        f"{feature.name} has no {missing} bound; state one here, or (in YAML) declare its range under inputs, as in"
        " range: [0, 150]"
    )


def _outside(feature: Feature, stated: Fraction) -> str:
    declared = "" if feature.range is None else f" [{float(feature.range.lower):g}, {float(feature.range.upper):g}]"
    return (
        f"{feature.name} is bounded by {float(stated):g} {feature.unit}".rstrip()
        + f", outside its declared range{declared}; widen the range, or bound it on both sides"
    )


def _largest(cut: Literal, box: Box) -> Fraction:
    """The largest value of the cut's left-hand side over the box."""
    ends = (max(c * box.lower[position], c * box.upper[position]) for position, c in cut.inputs)
    return sum(ends, cut.offset)
