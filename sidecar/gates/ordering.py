"""Closed form for orderings: one score must stand above (or below) several others, each by its own gap.

The commonest requirement there is ("the best is COC"), and the one that has as many halfspaces as a classifier has
classes.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Change, Halfspace


@dataclasses.dataclass(frozen=True)
class Ordering:
    """``sign * (change[top] - change[index]) >= gap`` for each index and gap of ``gaps``."""

    top: int
    sign: int
    gaps: dict[int, Fraction]

    def smallest(self) -> Change:
        """The smallest change in L2: the top meets those that stand too high at their common mean, the others stay.

        From the highest down, one belongs to that pool while it stands above the mean of the pool so far.
        """
        total, count = Fraction(0), 1
        for gap in sorted(self.gaps.values(), reverse=True):
            if gap * count <= total:
                break
            total, count = total + gap, count + 1
        level = total / count
        moved = {index: self.sign * (level - gap) for index, gap in self.gaps.items() if gap > level}
        return {**moved, self.top: self.sign * level} if moved else {}


def as_ordering(halfspaces: Sequence[Halfspace]) -> Ordering | None:
    """Halfspaces (at least one) read as an ordering, where they are one."""
    pairs = [_as_comparison(halfspace) for halfspace in halfspaces]
    comparisons = [pair for pair in pairs if pair is not None]
    if len(comparisons) < len(pairs):
        return None
    higher, lower = ([pair[side] for pair in comparisons] for side in (0, 1))
    if len(set(higher)) == 1:
        return Ordering(higher[0], 1, _gaps(lower, halfspaces))
    if len(set(lower)) == 1:
        return Ordering(lower[0], -1, _gaps(higher, halfspaces))
    return None


def _as_comparison(halfspace: Halfspace) -> tuple[int, int] | None:
    """(higher, lower) where the halfspace compares two outputs with coefficients c and -c, c > 0."""
    if len(halfspace.normal) != 2:
        return None
    (first, a), (second, b) = halfspace.normal
    if a + b != 0:
        return None
    return (first, second) if a > 0 else (second, first)


def _gaps(others: Sequence[int], halfspaces: Sequence[Halfspace]) -> dict[int, Fraction]:
    """The gap to each of the others; the widest where one is compared more than once."""
    gaps: dict[int, Fraction] = {}
    for index, halfspace in zip(others, halfspaces, strict=True):
        gap = halfspace.shortfall / abs(halfspace.normal[0][1])
        gaps[index] = max(gap, gaps.get(index, gap))
    return gaps
