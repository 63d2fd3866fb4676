"""The coverage map: which parts of a gate's domain are proved silent or violating, and which are open.

One split tree per region of the gate's domain. It labels what happened and never decides what is sent:
a wrong map could mislabel a correction, not let a violation through. :func:`prepare_coverage` lays all the
trees of a bundle out as flat arrays, :func:`label` reads only these; what makes a tree acceptable is
:mod:`sidecar.bundle.coverage_rules`' business.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.gates.effective import wire_bounds
from sidecar.gates.limits import PLAIN_VALUES
from sidecar.gates.one_row import PlainBox, in_box
from sidecar.gates.values import Gate
from sidecar.tensors import ModelSignature, Rows


class Label(enum.IntEnum):
    """What is proved of a leaf, or of a row. ``OUTSIDE`` is a row in no region; leaves are never that."""

    OUTSIDE = 0
    SILENT = 1
    VIOLATING = 2
    OPEN = 3


LABELS: Final = tuple(Label)
"""By their numbers."""

_RANK: Final = np.array([0, 1, 3, 2], dtype=np.uint8)
"""By :class:`Label`: which one counts where a row lies in the boxes of several regions, the highest. Exchanging two
values, it is its own inverse.

A silent leaf says that no input *of its region* violates, and cuts may be what takes the input out of the region; so
silent counts only where every region says it. A violating leaf lies within its region's cuts and counts at once."""

LEAF = -1
"""In ``CoverageTree.feature``: this node is a leaf."""


@dataclasses.dataclass(frozen=True, eq=False)
class CoverageTree:
    """A binary split tree over one region's box, as flat arrays of equal length, level by level from the root.

    So the order of the nodes says which are whose children: the first inner node's are 1 and 2, the next one's 3 and 4.

    Args:
        feature: int32; the feature that an inner node splits, ``LEAF`` for a leaf.
        threshold: float64; rows with ``x[feature] <= threshold`` go left. Finite; 0.0 at leaves.
        label: uint8; a :class:`Label` at leaves, 0 at inner nodes.
        volume: float64, shape (4,), by :class:`Label`: share of the region's box, index 0 unused.
            Dimensions of zero width count as width one.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    label: npt.NDArray[np.uint8]
    volume: npt.NDArray[np.float64]

    @functools.cached_property
    def left(self) -> npt.NDArray[np.int32]:
        """Each inner node's left child; 0 at leaves."""
        inner = self.feature != LEAF
        return np.where(inner, 2 * np.cumsum(inner) - 1, 0).astype(np.int32)

    @functools.cached_property
    def right(self) -> npt.NDArray[np.int32]:
        """Each inner node's right child; 0 at leaves."""
        return np.where(self.feature != LEAF, self.left + 1, 0).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedCoverage:
    """All trees of a bundle in one set of flat arrays; regions and nodes are numbered through.

    Args:
        first_region: int64 (gate + 1,); gate ``g`` has regions ``first_region[g]`` to ``first_region[g + 1] - 1``.
        lower, upper: float64 (region, input); the smallest and largest wire values of each region's box.
        root: int64 (region,); the node where the region's tree starts.
        feature, threshold, left, right, label: one entry per node as in :class:`CoverageTree`; the
            children of inner nodes count in the numbering of all nodes.
    """

    first_region: npt.NDArray[np.int64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    root: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    label: npt.NDArray[np.uint8]

    @functools.cached_property
    def plain_boxes(self) -> tuple[PlainBox, ...] | None:
        """Each region's box, for rows that come alone; None where they are so many that arrays are the faster way."""
        if 2 * self.lower.size > PLAIN_VALUES:
            return None
        bounds = zip(self.lower.tolist(), self.upper.tolist(), strict=True)
        return tuple(tuple(zip(lower, upper, strict=True)) for lower, upper in bounds)


def prepare_coverage(
    gates: Sequence[Gate], coverage: Sequence[Sequence[CoverageTree]], signature: ModelSignature
) -> PreparedCoverage:
    """The flat arrays that :func:`label` reads, from an accepted bundle's gates, coverage and signature."""
    datatypes = signature.input_datatypes()
    bounds = [wire_bounds(region.box, datatypes) for gate in gates for region in gate.domain]
    trees = [tree for of_gate in coverage for tree in of_gate]
    root = np.cumsum([0, *(len(tree.feature) for tree in trees)])[:-1]
    return PreparedCoverage(
        first_region=np.cumsum([0, *(len(of_gate) for of_gate in coverage)]),
        lower=np.array([lower for lower, _ in bounds]),
        upper=np.array([upper for _, upper in bounds]),
        root=root,
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.concatenate([tree.left + first for tree, first in zip(trees, root, strict=True)]).astype(np.int32),
        right=np.concatenate([tree.right + first for tree, first in zip(trees, root, strict=True)]).astype(np.int32),
        label=np.concatenate([tree.label for tree in trees]),
    )


def label(prepared: PreparedCoverage, gate_index: int, inputs: Rows) -> npt.NDArray[np.uint8]:
    """The :class:`Label` of each row with respect to one gate.

    Cuts are not looked at: what the trees say of a box is true on both sides of them.

    Args:
        prepared: all gates' trees.
        gate_index: the gate's place in the bundle.
        inputs: rows as they came over the wire, shape (rows, inputs).

    Returns:
        uint8 (rows,). A row in the boxes of several regions is violating if one of them says so, else open if one
        of them says so, else silent; a row in no region's box (any row with a NaN, too) is outside.
    """
    if len(inputs) == 1:
        return np.array([label_row(prepared, gate_index, inputs[0])], dtype=np.uint8)
    rank = np.zeros(len(inputs), dtype=np.uint8)
    for region in _regions(prepared, gate_index):
        inside = np.flatnonzero(((inputs >= prepared.lower[region]) & (inputs <= prepared.upper[region])).all(axis=1))
        found = _labels_in_tree(prepared, int(prepared.root[region]), inputs[inside])
        rank[inside] = np.maximum(rank[inside], _RANK[found])
    return _RANK[rank]


def label_row(prepared: PreparedCoverage, gate_index: int, row: npt.NDArray[np.float64]) -> int:
    """As :func:`label` for one row, without the fixed costs of array operations on each level."""
    regions = _regions(prepared, gate_index)
    if prepared.plain_boxes is None:
        lower, upper = (bounds[regions.start : regions.stop] for bounds in (prepared.lower, prepared.upper))
        around = (regions.start + np.flatnonzero(((lower <= row) & (row <= upper)).all(axis=1))).tolist()
    else:
        values = row.tolist()
        around = [region for region in regions if in_box(prepared.plain_boxes[region], values)]
    labels = [_leaf_label(prepared, prepared.root.item(region), row) for region in around]
    if len(labels) == 1:
        return labels[0]
    return max(labels, key=_RANK.item, default=Label.OUTSIDE)


def _regions(prepared: PreparedCoverage, gate_index: int) -> range:
    return range(prepared.first_region.item(gate_index), prepared.first_region.item(gate_index + 1))


def _labels_in_tree(prepared: PreparedCoverage, root: int, inputs: Rows) -> npt.NDArray[np.uint8]:
    """Labels of the leaves that the rows fall into; all rows descend together, one level per turn."""
    node = np.full(len(inputs), root)
    moving = np.arange(len(inputs))
    while True:
        moving = moving[prepared.feature[node[moving]] != LEAF]
        if not len(moving):
            labels: npt.NDArray[np.uint8] = prepared.label[node]
            return labels
        at = node[moving]
        goes_left = inputs[moving, prepared.feature[at]] <= prepared.threshold[at]
        node[moving] = np.where(goes_left, prepared.left[at], prepared.right[at])


def _leaf_label(prepared: PreparedCoverage, root: int, row: npt.NDArray[np.float64]) -> int:
    # ``item`` gives plain Python numbers, several times as fast as arithmetic on array scalars.
    feature_of, threshold_of = prepared.feature.item, prepared.threshold.item
    left_of, right_of, value_of = prepared.left.item, prepared.right.item, row.item
    node = root
    while (feature := feature_of(node)) != LEAF:
        node = left_of(node) if value_of(feature) <= threshold_of(node) else right_of(node)
    return prepared.label.item(node)
