"""The point of a polyhedron that is nearest to a given one, exactly, in each norm.

A polyhedron is a conjunction of halfspaces. In L2 there are closed forms for one halfspace and for
orderings (one score above or below several others), and an active-set method for the rest; L1 and Linf are linear
programs.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from sidecar.gates.active_set import nearest_by_active_set
from sidecar.gates.halfspaces import Halfspace, Point
from sidecar.gates.nearest_linear import nearest_l1, nearest_linf
from sidecar.gates.ordering import as_ordering
from sidecar.gates.values import Norm


@dataclasses.dataclass(frozen=True)
class Nearest:
    """A nearest point, and what it costs: the squared distance in L2, the distance in L1 and Linf."""

    point: Point
    cost: Fraction


_Method: TypeAlias = Callable[[Sequence[Halfspace], Point], Point | None]
_Cost: TypeAlias = Callable[[Point, Point], Fraction]


def nearest_point(halfspaces: Sequence[Halfspace], origin: Point, norm: Norm) -> Nearest | None:
    """The nearest point to ``origin`` within all halfspaces; None where they have no point in common.

    Args:
        halfspaces: any number; none gives the origin.
        origin: a value for every output that a halfspace mentions.

    Raises:
        TooCostly: the solve reached its limit.
    """
    method, cost = _METHODS[norm]
    point = method(halfspaces, origin)
    return None if point is None else Nearest(point, cost(point, origin))


def _nearest_l2(halfspaces: Sequence[Halfspace], origin: Point) -> Point | None:
    violated = [halfspace for halfspace in halfspaces if halfspace.shortfall(origin) > 0]
    if not violated:
        return origin
    if len(halfspaces) == 1:
        return _foot(violated[0], origin)
    ordering = as_ordering(halfspaces)
    return ordering.nearest(origin) if ordering else nearest_by_active_set(halfspaces, origin)


def _foot(halfspace: Halfspace, origin: Point) -> Point:
    """The foot of the perpendicular from a point outside."""
    step = halfspace.shortfall(origin) / halfspace.norm_squared
    return {**origin, **{index: origin[index] + step * value for index, value in halfspace.normal}}


def _squared(point: Point, origin: Point) -> Fraction:
    return sum(((point[index] - value) ** 2 for index, value in origin.items()), Fraction(0))


def _absolute(point: Point, origin: Point) -> Fraction:
    return sum((abs(point[index] - value) for index, value in origin.items()), Fraction(0))


def _largest(point: Point, origin: Point) -> Fraction:
    return max((abs(point[index] - value) for index, value in origin.items()), default=Fraction(0))


_METHODS: Final[dict[Norm, tuple[_Method, _Cost]]] = {
    Norm.L2: (_nearest_l2, _squared),
    Norm.L1: (nearest_l1, _absolute),
    Norm.LINF: (nearest_linf, _largest),
}
