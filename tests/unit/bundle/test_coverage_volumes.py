"""Volumes of leaves in boxes of all widths."""

from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.coverage_rules import check_tree, leaf_volumes
from sidecar.gates.values import Box


def _one_split(feature: int, threshold: float) -> CoverageTree:
    """Silent left, open right."""
    return CoverageTree(
        feature=np.array([feature, LEAF, LEAF], np.int32),
        threshold=np.array([threshold, 0.0, 0.0]),
        label=np.array([0, Label.SILENT, Label.OPEN], np.uint8),
        volume=np.array([0.0, 0.25, 0.0, 0.75]),
    )


def test_a_dimension_of_zero_width_counts_as_width_one() -> None:
    box = Box((Fraction(5), Fraction(0)), (Fraction(5), Fraction(4)))
    check_tree(_one_split(1, 1.0), box)


def test_a_dimension_of_zero_width_cannot_be_split() -> None:
    box = Box((Fraction(5), Fraction(0)), (Fraction(5), Fraction(4)))
    with pytest.raises(ValueError, match=r"splits feature 0 at 5\.0"):
        check_tree(_one_split(0, 5.0), box)


def test_a_box_wider_than_the_largest_float_has_volumes() -> None:
    largest = Fraction(float(np.finfo(np.float64).max))
    for bound in (largest, largest * 2):
        volume = leaf_volumes(_one_split(0, float(-largest / 2)), Box((-bound,), (bound,)))
        np.testing.assert_allclose(volume, [0.0, 0.25, 0.0, 0.75])
