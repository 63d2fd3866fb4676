"""The smallest change that takes an answer into a polyhedron, exactly, in each norm.

A polyhedron is a conjunction of halfspaces. In L2 it falls into independent components, with closed forms for one
halfspace and for orderings, and an active-set method for the rest; L1 and Linf are linear programs.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import assert_never

from sidecar.gates.active_set import smallest_by_active_set
from sidecar.gates.components import components
from sidecar.gates.halfspaces import Change, Halfspace
from sidecar.gates.ordering import as_ordering
from sidecar.gates.smallest_linear import smallest_l1, smallest_linf
from sidecar.gates.values import Norm


@dataclasses.dataclass(frozen=True)
class Smallest:
    """A smallest change, and what it costs: the squared length in L2, the length in L1 and Linf."""

    change: Change
    cost: Fraction


def smallest_change(halfspaces: Sequence[Halfspace], norm: Norm) -> Smallest | None:
    """The smallest change into all halfspaces (any number); None where they have no point in common.

    Raises:
        TooCostly: the solve reached its limit.
    """
    if all(halfspace.shortfall <= 0 for halfspace in halfspaces):
        return Smallest({}, Fraction(0))
    match norm:
        case Norm.L2:
            change = _smallest_l2(halfspaces)
        case Norm.L1:
            change = smallest_l1(halfspaces)
        case Norm.LINF:
            change = smallest_linf(halfspaces)
        case _:
            assert_never(norm)
    return None if change is None else Smallest(change, _cost(change, norm))


def _smallest_l2(halfspaces: Sequence[Halfspace]) -> Change | None:
    if len(halfspaces) == 1:
        return _perpendicular(halfspaces[0])
    whole: Change = {}
    for members in components(halfspaces):
        change = _smallest_connected(members)
        if change is None:
            return None
        whole |= change
    return whole


def _smallest_connected(halfspaces: Sequence[Halfspace]) -> Change | None:
    if all(halfspace.shortfall <= 0 for halfspace in halfspaces):
        return {}
    if len(halfspaces) == 1:
        return _perpendicular(halfspaces[0])
    ordering = as_ordering(halfspaces)
    return ordering.smallest() if ordering else smallest_by_active_set(halfspaces)


def _perpendicular(halfspace: Halfspace) -> Change:
    step = halfspace.shortfall / halfspace.norm_squared
    return {index: step * value for index, value in halfspace.normal}


def _cost(change: Change, norm: Norm) -> Fraction:
    match norm:
        case Norm.L2:
            return sum((value * value for value in change.values()), Fraction(0))
        case Norm.L1:
            return sum((abs(value) for value in change.values()), Fraction(0))
        case Norm.LINF:
            return max(abs(value) for value in change.values())
        case _:
            assert_never(norm)
