"""What makes a coverage tree acceptable: a finite tree that says of its region's box what it claims to say.

Every node is reached once, every split divides the box that it splits, no leaf is further from the root
than labelling should walk, and the volumes by label follow from the leaves.
"""

from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.limits import MAX_COVERAGE_DEPTH
from sidecar.gates.values import Box
from sidecar.numerics import VOLUME_TOLERANCE, largest_finite, largest_not_above, smallest_not_below
from sidecar.tensors import Datatype

_LARGEST: Final = Fraction(largest_finite(Datatype.FP64))


def check_tree(tree: CoverageTree, box: Box) -> None:
    """Raises ValueError, got and expected in the message, for a tree that does not divide the box."""
    _check_nodes(tree, inputs=len(box.lower))
    _check_links(tree)
    volume = leaf_volumes(tree, box)
    if not np.allclose(tree.volume, volume, rtol=0.0, atol=VOLUME_TOLERANCE):
        raise ValueError(f"volumes {tree.volume.tolist()} by label, the leaves have {volume.tolist()}")


def _check_nodes(tree: CoverageTree, inputs: int) -> None:
    """Each node by itself. That it splits or has a label, one of the two, is how trees are written."""
    if not len(tree.feature):
        raise ValueError("a tree without nodes, expected at least a root")
    _refuse_where(tree.feature >= inputs, f"splits none of the {inputs} features")
    _refuse_where(~np.isfinite(tree.threshold), "has a threshold that is not finite")


def _check_links(tree: CoverageTree) -> None:
    """There is a place for each inner node's two children, and it is behind the node: so all nodes are one tree."""
    (inner,) = (tree.feature != LEAF).nonzero()
    if len(tree.feature) != 2 * len(inner) + 1:
        raise ValueError(f"{len(tree.feature)} nodes, expected {2 * len(inner) + 1}: the root, and two for each split")
    if (tree.left[inner] <= inner).any():
        raise ValueError("a child before its parent, expected children after their parents")


def _refuse_where(wrong: npt.NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        raise ValueError(f"node {int(wrong.argmax())} {what}")


def leaf_volumes(tree: CoverageTree, box: Box) -> npt.NDArray[np.float64]:
    """Shares of the box by label, shape (4,), as ``CoverageTree.volume`` states them.

    Raises:
        ValueError: a split that leaves one side empty, or a leaf too far from the root.
    """
    volume = np.zeros(len(Label))
    bounds = _bounds_outwards(box)
    feature_of, threshold_of, label_of = tree.feature.tolist(), tree.threshold.tolist(), tree.label.tolist()
    left_of, right_of = tree.left.tolist(), tree.right.tolist()
    # A visit enters a node after one feature's bounds became those of the node; without a node it only
    # restores what the bounds were before the parent split them.
    visits: list[tuple[int | None, float, int, int, tuple[float, float]]] = [(0, 1.0, 0, 0, bounds[0])]
    while visits:
        node, share, depth, split, bounds[split] = visits.pop()
        if node is None:
            continue
        if depth > MAX_COVERAGE_DEPTH:
            raise ValueError(f"node {node} lies {depth} splits deep, expected at most {MAX_COVERAGE_DEPTH}")
        feature, threshold = feature_of[node], threshold_of[node]
        if feature == LEAF:
            volume[label_of[node]] += share
            continue
        low, high = bounds[feature]
        if not low < threshold < high:
            raise ValueError(f"node {node} splits feature {feature} at {threshold}, expected between {low} and {high}")
        # Halves, because the width of a box may exceed the largest float64.
        left_share = share * ((threshold / 2 - low / 2) / (high / 2 - low / 2))
        visits += (
            (None, 0.0, depth, feature, (low, high)),
            (right_of[node], share - left_share, depth + 1, feature, (threshold, high)),
            (left_of[node], left_share, depth + 1, feature, (low, threshold)),
        )
    return volume


def _bounds_outwards(box: Box) -> list[tuple[float, float]]:
    """The box in float64, rounded outwards; bounds beyond float64's range end there."""
    return [
        (largest_not_above(max(low, -_LARGEST), Datatype.FP64), smallest_not_below(min(high, _LARGEST), Datatype.FP64))
        for low, high in zip(box.lower, box.upper, strict=True)
    ]
