"""Grows a coverage tree while a search splits boxes, and gives it its final form.

Nodes are numbered as they come into being, so children stand after their parent. A leaf that nobody settled is open.
"""

import dataclasses
import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

Nodes: TypeAlias = npt.NDArray[np.void]
"""Of dtype :data:`NODE`."""

NODE: Final = np.dtype(
    [("feature", np.int32), ("threshold", np.float64), ("left", np.int32), ("label", np.uint8), ("share", np.float64)]
)
"""One node; its right child is ``left + 1``. ``share`` of the root box counts at leaves."""


class SplitTree:
    """A growing tree. Node 0 is the root, an open leaf with the whole volume at first.

    ``nodes`` are those of another one, which this one goes on from.
    """

    def __init__(self, nodes: Nodes | None = None) -> None:
        self._nodes = np.array([(LEAF, 0.0, 0, Label.OPEN, 1.0)], dtype=NODE) if nodes is None else nodes.copy()
        self._count = len(self._nodes)

    @property
    def nodes(self) -> Nodes:
        """Its nodes, in the order in which they came into being."""
        return self._nodes[: self._count]

    def shares(self, nodes: Indices) -> Floats:
        """Each node's share of the root box's volume."""
        return np.asarray(self._nodes["share"][nodes])

    def split(self, nodes: Indices, feature: Indices, threshold: Floats, left_part: Floats) -> tuple[Indices, Indices]:
        """Split leaves; rows with ``x[feature] <= threshold`` go left.

        ``left_part`` is the left child's part of its parent's volume. Returns the left and the right children.
        """
        first, self._count = self._count, self._count + 2 * len(nodes)
        self._reserve(self._count)
        left = first + 2 * np.arange(len(nodes))
        table = self._nodes
        left_share = table["share"][nodes] * left_part
        table["feature"][first : self._count] = LEAF
        table["label"][first : self._count] = Label.OPEN
        table["share"][left], table["share"][left + 1] = left_share, table["share"][nodes] - left_share
        table["feature"][nodes], table["threshold"][nodes], table["left"][nodes] = feature, threshold, left
        table["label"][nodes] = Label.OUTSIDE
        return left, left + 1

    def settle(self, nodes: Indices, label: Label) -> None:
        """Label leaves."""
        self._nodes["label"][nodes] = label

    def finished(self) -> CoverageTree:
        """The tree with equally labelled sibling leaves merged, numbered level by level."""
        nodes = self.nodes.copy()
        _merge(nodes)
        return _as_tree(nodes)

    def unmerged(self) -> CoverageTree:
        """The tree as it was split, numbered level by level."""
        return _as_tree(self.nodes)

    def _reserve(self, count: int) -> None:
        if count > len(self._nodes):
            grown = np.zeros(2 ** math.ceil(math.log2(count)), dtype=NODE)
            grown[: len(self._nodes)] = self._nodes
            self._nodes = grown


def merged(nodes: Nodes, volume: Floats) -> CoverageTree:
    """Nodes as a tree with equally labelled sibling leaves merged, numbered level by level; its volumes are given."""
    _merge(nodes)
    return dataclasses.replace(_as_tree(nodes), volume=volume)


def _as_tree(nodes: Nodes) -> CoverageTree:
    kept = nodes[_by_level(nodes)]
    leaf = kept["feature"] == LEAF
    volume = np.bincount(kept["label"][leaf], weights=kept["share"][leaf], minlength=len(Label))
    return CoverageTree(
        feature=kept["feature"].copy(),
        threshold=np.where(leaf, 0.0, kept["threshold"]),
        label=kept["label"].copy(),
        volume=volume.astype(np.float64),
    )


def _merge(nodes: Nodes) -> None:
    """Make leaves of inner nodes whose two leaves say the same, until there are none."""
    while True:
        (inner,) = np.nonzero(nodes["feature"] != LEAF)
        left = nodes["left"][inner]
        leaves = (nodes["feature"][left] == LEAF) & (nodes["feature"][left + 1] == LEAF)
        merged = leaves & (nodes["label"][left] == nodes["label"][left + 1])
        if not merged.any():
            return
        parent, child = inner[merged], left[merged]
        nodes["label"][parent] = nodes["label"][child]
        nodes["share"][parent] = nodes["share"][child] + nodes["share"][child + 1]
        nodes["feature"][parent] = LEAF


def _by_level(nodes: Nodes) -> Indices:
    """The nodes that are left, level by level."""
    level = np.zeros(1, dtype=np.intp)
    order: list[Indices] = []
    while len(level):
        order.append(level)
        children = nodes["left"][level[nodes["feature"][level] != LEAF]].astype(np.intp)
        level = np.stack([children, children + 1], axis=1).reshape(-1)
    return np.concatenate(order)
