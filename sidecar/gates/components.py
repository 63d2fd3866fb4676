"""Halfspaces that share no output do not concern each other: their smallest changes are found apart.

Bounds on many outputs, or orderings among different ones, fall into small pieces with closed forms.
"""

from collections.abc import Sequence

from sidecar.gates.halfspaces import Halfspace


def components(halfspaces: Sequence[Halfspace]) -> list[list[Halfspace]]:
    """The halfspaces in groups; two that mention a common output are in the same one, directly or by others."""
    groups: list[tuple[set[int], list[Halfspace]]] = []
    for halfspace in halfspaces:
        mentioned = {index for index, _ in halfspace.normal}
        touched = [group for group in groups if not mentioned.isdisjoint(group[0])]
        groups = [group for group in groups if mentioned.isdisjoint(group[0])]
        outputs = mentioned.union(*(group[0] for group in touched))
        groups.append((outputs, [*(member for group in touched for member in group[1]), halfspace]))
    return [members for _, members in groups]
