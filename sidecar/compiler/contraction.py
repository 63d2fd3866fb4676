"""Which part of a box can still violate: linear lower forms cut slabs off its sides.

Where a cut should lie is a guess from float64 arithmetic without rounding control; a slab is carved off only after
``ClauseForms.positive`` has proved every clause all over it.
"""

import dataclasses
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.linear_forms import ClauseForms
from sidecar.compiler.literal_rows import Flags

Floats: TypeAlias = npt.NDArray[np.float64]

_LEAST_CUT: Final = 0.1
"""Part of a box's width that a slab must have to be worth a node of the tree."""

_SAFETY: Final = 1e-6
"""Part of a box's width by which a cut keeps away from the computed boundary, so that rounding cannot spoil it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Carving:
    """Slabs proved silent, cut off one side of some boxes.

    Args:
        feature: the dimension that is cut.
        above: the slabs lie above the thresholds (below, if not).
        carved: bool (box,); which boxes are cut.
        threshold: float64 (box,); strictly inside each box that is cut.
        kept: float64 (box,); the part of the volume that remains of each box that is cut.
    """

    feature: int
    above: bool
    carved: Flags
    threshold: Floats
    kept: Floats


def contract(
    forms: ClauseForms, lower: Floats, upper: Floats, splittable: Flags
) -> tuple[list[Carving], Floats, Floats]:
    """Carve silent slabs off boxes, one side after the other.

    Args:
        forms: of the clauses, over the boxes.
        lower: float64 (box, input).
        upper: float64 (box, input).
        splittable: bool (input,); dimensions that may be cut.

    Returns:
        The carvings in order, and the bounds of what remains.
    """
    lower, upper = lower.copy(), upper.copy()
    proved = forms.positive(lower, upper)
    carvings = []
    for feature in np.flatnonzero(splittable):
        for above in (True, False):
            threshold = _reach(forms, lower, upper, int(feature), above, proved)
            carving = _carving(forms, lower, upper, int(feature), above, threshold)
            if carving.carved.any():
                carvings.append(carving)
                side = upper if above else lower
                side[carving.carved, feature] = threshold[carving.carved]
    return carvings, lower, upper


def _reach(forms: ClauseForms, lower: Floats, upper: Floats, feature: int, above: bool, proved: Flags) -> Floats:
    """How far up (or down) along a feature an unproved clause can be violated, per box."""
    sign = 1.0 if above else -1.0
    slope = forms.slope[:, :, feature]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        least = np.minimum(forms.slope * lower[:, None, :], forms.slope * upper[:, None, :])
        rest = least.sum(axis=2) - least[:, :, feature] + forms.constant
        reach = np.where(sign * slope > 0.0, sign * (-rest / slope), np.inf)
    by_clause = np.stack([reach[:, members].min(axis=1) for members in forms.clauses], axis=1)
    furthest = np.where(proved, -np.inf, by_clause).max(axis=1)
    return np.asarray(sign * furthest + sign * _SAFETY * (upper - lower)[:, feature])


def _carving(forms: ClauseForms, lower: Floats, upper: Floats, feature: int, above: bool, threshold: Floats) -> Carving:
    low, high = lower[:, feature], upper[:, feature]
    slab_lower, slab_upper = lower.copy(), upper.copy()
    (slab_lower if above else slab_upper)[:, feature] = threshold
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        kept = (threshold - low if above else high - threshold) / (high - low)
        wanted = (low < threshold) & (threshold < high) & (kept > 0.0) & (kept < 1.0 - _LEAST_CUT)
        carved = wanted.copy()
    if wanted.any():
        carved[wanted] = forms.at(wanted).positive(slab_lower[wanted], slab_upper[wanted]).all(axis=1)
    return Carving(feature, above, carved, threshold, kept)
