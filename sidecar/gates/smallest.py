"""The smallest change that takes an answer into a polyhedron, exactly, in each norm.

A polyhedron is a conjunction of halfspaces, and falls into independent components. In L2 there are closed forms for one
halfspace and for orderings, and an active-set method for the rest; L1 and Linf are linear programs.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import assert_never

from sidecar.gates.active_set import smallest_by_active_set
from sidecar.gates.components import components
from sidecar.gates.exact import sum_of_products
from sidecar.gates.halfspaces import Change, Halfspace
from sidecar.gates.limits import Work
from sidecar.gates.ordering import as_ordering
from sidecar.gates.smallest_linear import smallest_l1, smallest_linf
from sidecar.gates.values import Norm


@dataclasses.dataclass(frozen=True)
class Smallest:
    """A smallest change, and what it costs: the squared length in L2, the length in L1 and Linf."""

    change: Change
    cost: Fraction


def smallest_change(halfspaces: Sequence[Halfspace], norm: Norm, work: Work) -> Smallest | None:
    """The smallest change into all halfspaces (any number); None where they have no point in common.

    Raises:
        TooCostly: the work allowed was used up.
    """
    work.spend(1 + len(halfspaces))
    whole: Change = {}
    for members in components(halfspaces):
        change = _smallest_connected(members, norm, work)
        if change is None:
            return None
        whole |= change
    return Smallest(whole, _cost(whole, norm))


def _smallest_connected(halfspaces: Sequence[Halfspace], norm: Norm, work: Work) -> Change | None:
    if all(halfspace.shortfall <= 0 for halfspace in halfspaces):
        return {}
    match norm:
        case Norm.L2:
            return _smallest_l2(halfspaces, work)
        case Norm.L1:
            return smallest_l1(halfspaces, work)
        case Norm.LINF:
            return smallest_linf(halfspaces, work)
        case _:
            assert_never(norm)


def _smallest_l2(halfspaces: Sequence[Halfspace], work: Work) -> Change | None:
    if len(halfspaces) == 1:
        return _perpendicular(halfspaces[0])
    ordering = as_ordering(halfspaces)
    return ordering.smallest() if ordering else smallest_by_active_set(halfspaces, work)


def _perpendicular(halfspace: Halfspace) -> Change:
    step = halfspace.shortfall / halfspace.norm_squared
    return {index: step * value for index, value in halfspace.normal}


def _cost(change: Change, norm: Norm) -> Fraction:
    match norm:
        case Norm.L2:
            return sum_of_products((value, value) for value in change.values())
        case Norm.L1:
            return sum((abs(value) for value in change.values()), Fraction(0))
        case Norm.LINF:
            return max((abs(value) for value in change.values()), default=Fraction(0))
        case _:
            assert_never(norm)
