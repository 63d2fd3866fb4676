"""Which properties can meet on one input: the maximal sets of regions with a common point.

Boxes have Helly's property: boxes that intersect pairwise have a common point. So the sets sought are
the maximal cliques of the intersection graph, and whatever holds for each of them holds for all smaller
sets too. Cuts are ignored here: a set that only its boxes share is examined all the same, which is safe.
"""

import dataclasses
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
    """Regions of one or more gates that share ``box``.

    Args:
        members: (gate index, region index) pairs, ascending.
        box: their intersection.
    """

    members: tuple[Node, ...]
    box: Box

    def gate_indices(self) -> tuple[int, ...]:
        """The gates that meet here, ascending, each once."""
        return tuple(sorted({gate for gate, _ in self.members}))


def maximal_overlaps(gates: Sequence[Gate]) -> tuple[Overlap, ...]:
    """All maximal sets of regions whose boxes share a point; every region is in at least one.

    Raises:
        InputError: there are more than ``MAX_OVERLAPS``.
    """
    boxes = {(g, r): region.box for g, gate in enumerate(gates) for r, region in enumerate(gate.domain)}
    neighbours = {
        node: {other for other in boxes if other != node and _meet(boxes[node], boxes[other])} for node in boxes
    }
    overlaps: list[Overlap] = []
    for clique in _maximal_cliques(neighbours):
        if len(overlaps) == MAX_OVERLAPS:
            raise InputError(
                f"the properties' regions overlap in more than {MAX_OVERLAPS} different ways; "
                "merge regions or compile fewer properties into one bundle"
            )
        members = tuple(sorted(clique))
        shared = boxes[members[0]]
        for member in members[1:]:
            shared = _intersection(shared, boxes[member])
        overlaps.append(Overlap(members, shared))
    return tuple(sorted(overlaps, key=lambda overlap: overlap.members))


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
