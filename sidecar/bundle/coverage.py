"""The coverage map: which parts of a gate's domain are proved silent or violating, and which are open.

One split tree per region of the gate's domain. It labels what happened and never decides what is sent:
a wrong map could mislabel a correction, not let a violation through.
"""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt


class Label(enum.IntEnum):
    """What is proved of a leaf, or of a row. ``OUTSIDE`` is a row in no region; leaves are never that."""

    OUTSIDE = 0
    SILENT = 1
    VIOLATING = 2
    OPEN = 3


LEAF = -1
"""In ``CoverageTree.feature``: this node is a leaf."""


@dataclasses.dataclass(frozen=True, eq=False)
class CoverageTree:
    """A binary split tree over one region's box, as flat arrays of equal length; node 0 is the root.

    Args:
        feature: int32; the feature that an inner node splits, ``LEAF`` for a leaf.
        threshold: float64; rows with ``x[feature] <= threshold`` go left. Finite; 0.0 at leaves.
        left, right: int32; the children, both > the node's own index; 0 at leaves.
        label: uint8; a :class:`Label` at leaves, 0 at inner nodes.
        volume: float64, shape (4,), by :class:`Label`: share of the region's box, index 0 unused.
            Dimensions of zero width count as width one.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    label: npt.NDArray[np.uint8]
    volume: npt.NDArray[np.float64]
