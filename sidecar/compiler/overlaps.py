"""Which properties can meet on one input: sets of regions, one of each gate, whose boxes have a common point.

Boxes have Helly's property: boxes that intersect pairwise have a common point. So the largest such sets are the
maximal cliques of the graph in which regions of different gates are joined where their boxes intersect. A smaller set
may reach further than the one that it is part of: its boxes share more, or a cut is missing. What is shown of an
overlap's inputs says nothing about those that only some of its regions have in common; :func:`parts` gives those.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from sidecar.errors import InputError
from sidecar.gates.values import Box, Gate

Node: TypeAlias = tuple[int, int]
"""(gate index, region index)."""

MAX_OVERLAPS = 10_000
"""Maximal overlap sets that are examined; more than this is no property file that a person wrote."""


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Regions that share ``box``.

    Args:
        members: (gate index, region index) pairs, ascending; one for each gate that takes part.
        box: their intersection.
    """

    members: tuple[Node, ...]
    box: Box

    def gate_indices(self) -> tuple[int, ...]:
        """The gates that meet here, ascending."""
        return tuple(gate for gate, _ in self.members)


def maximal_overlaps(gates: Sequence[Gate]) -> tuple[Overlap, ...]:
    """All maximal sets of regions of different gates whose boxes share a point; every region is in at least one.

    Raises:
        InputError: there are more than ``MAX_OVERLAPS``.
    """
    boxes = {(g, r): region.box for g, gate in enumerate(gates) for r, region in enumerate(gate.domain)}
    neighbours = {
        node: {other for other in boxes if other[0] != node[0] and _meet(boxes[node], boxes[other])} for node in boxes
    }
    overlaps: list[Overlap] = []
    for clique in _maximal_cliques(neighbours):
        if len(overlaps) == MAX_OVERLAPS:
            raise too_many()
        overlaps.append(_overlap(tuple(sorted(clique)), gates))
    return tuple(sorted(overlaps, key=lambda overlap: overlap.members))


def too_many() -> InputError:
    """The error for more than ``MAX_OVERLAPS`` overlaps."""
    return InputError(
        f"the properties' regions overlap in more than {MAX_OVERLAPS} different ways; "
        "merge regions or compile fewer properties into one bundle"
    )


def parts(overlap: Overlap, gates: Sequence[Gate]) -> Iterator[Overlap]:
    """The overlaps of one region fewer that reach beyond an overlap."""
    for gate, region in overlap.members if len(overlap.members) > 1 else ():
        part = _overlap(tuple(member for member in overlap.members if member != (gate, region)), gates)
        if part.box != overlap.box or gates[gate].domain[region].cuts:
            yield part


def _overlap(members: tuple[Node, ...], gates: Sequence[Gate]) -> Overlap:
    return Overlap(
        members, functools.reduce(_intersection, (gates[gate].domain[region].box for gate, region in members))
    )


def _meet(first: Box, second: Box) -> bool:
    lower, upper = map(max, first.lower, second.lower), map(min, first.upper, second.upper)
    return all(low <= high for low, high in zip(lower, upper, strict=True))


def _intersection(first: Box, second: Box) -> Box:
    return Box(tuple(map(max, first.lower, second.lower)), tuple(map(min, first.upper, second.upper)))


def _maximal_cliques(neighbours: dict[Node, set[Node]]) -> Iterator[set[Node]]:
    """Bron and Kerbosch's algorithm with pivoting, on an explicit stack (Communications of the ACM 16, 1973)."""
    stack: list[tuple[set[Node], set[Node], set[Node]]] = [(set(), set(neighbours), set())]
    while stack:
        clique, candidates, excluded = stack.pop()
        if not candidates and not excluded:
            yield clique
            continue
        pivot = max(sorted(candidates | excluded), key=lambda node: len(candidates & neighbours[node]))
        for node in sorted(candidates - neighbours[pivot]):
            stack.append((clique | {node}, candidates & neighbours[node], excluded & neighbours[node]))
            candidates = candidates - {node}
            excluded = excluded | {node}
