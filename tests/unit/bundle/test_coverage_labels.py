"""Labels of rows: every leaf kind, overlapping regions, edges, and rows in no region."""

import dataclasses
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label, PreparedCoverage, label, label_row, prepare_coverage
from sidecar.bundle.values import Bundle
from sidecar.gates.limits import PLAIN_VALUES
from sidecar.gates.values import Action, Box, Gate, Norm, Region, Requirement
from sidecar.tensors import Datatype, ModelSignature, TensorSpec


def _prepared(bundle: Bundle) -> PreparedCoverage:
    return prepare_coverage(bundle.gates, bundle.coverage, bundle.manifest.signature)


def _labels(prepared: PreparedCoverage, gate: int, rows: list[list[float]]) -> list[Label]:
    """Labels of all rows together, having seen that each row alone gets the same."""
    inputs = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    together: npt.NDArray[np.uint8] = label(prepared, gate, inputs)
    alone = [label(prepared, gate, inputs[index : index + 1]) for index in range(len(rows))]
    assert together.dtype == np.uint8
    assert all(one.dtype == np.uint8 and one.shape == (1,) for one in alone)
    assert together.tolist() == [int(one[0]) for one in alone]
    return [Label(value) for value in together]


def test_each_leaf_gives_its_label_and_ties_go_left(bundle: Bundle) -> None:
    rows = [[0, 0], [15, 7.5], [15, 7.50001], [15.00001, 7.5], [0, 30], [49, 0]]
    expected = [Label.OPEN, Label.OPEN, Label.VIOLATING, Label.SILENT, Label.VIOLATING, Label.SILENT]
    assert _labels(_prepared(bundle), 0, rows) == expected


def test_rows_in_no_region_are_outside(bundle: Bundle) -> None:
    rows = [[-0.0001, 0], [0, 30.0001], [100.6, 0], [np.nan, 1], [np.inf, 1], [0, -np.inf]]
    assert _labels(_prepared(bundle), 0, rows) == [Label.OUTSIDE] * len(rows)


def test_in_overlapping_regions_violating_wins_over_open_over_silent(bundle: Bundle) -> None:
    silent, violating = bundle.coverage[0]
    opened = bundle.coverage[1][0]
    row = [[55.0, 10.0]]  # in both regions of the first gate; silent by the first tree
    for trees, expected in (
        ((silent, violating), Label.VIOLATING),
        ((violating, silent), Label.VIOLATING),
        ((opened, violating), Label.VIOLATING),
        ((violating, opened), Label.VIOLATING),
        ((silent, opened), Label.OPEN),
        ((opened, silent), Label.OPEN),
        ((silent, silent), Label.SILENT),
    ):
        changed = dataclasses.replace(bundle, coverage=(trees, bundle.coverage[1]))
        assert _labels(_prepared(changed), 0, row) == [expected]


def test_the_second_region_and_the_second_gate_use_their_own_trees(bundle: Bundle) -> None:
    assert _labels(_prepared(bundle), 0, [[100.5, 0.0], [75.0, 30.0]]) == [Label.VIOLATING] * 2
    assert _labels(_prepared(bundle), 1, [[0.0, 0.0], [1000.0, 100.0], [1001.0, 0.0]]) == [
        Label.OPEN,
        Label.OPEN,
        Label.OUTSIDE,
    ]


def test_cuts_play_no_part(bundle: Bundle) -> None:
    assert _labels(_prepared(bundle), 0, [[100.0, 0.0]]) == [Label.VIOLATING]  # 10 * 0 - 100 < 0: cut off


def test_a_bound_between_wire_values_is_kept_exactly(bundle: Bundle) -> None:
    just_below = float(np.float32(-1 / 3))
    just_above = float(np.nextafter(np.float32(-1 / 3), np.float32(0)))
    assert Fraction(just_below) < Fraction(-1, 3) < Fraction(just_above)
    assert _labels(_prepared(bundle), 1, [[just_below, 0], [just_above, 0]]) == [Label.OUTSIDE, Label.OPEN]


def test_a_box_beyond_the_wire_holds_nothing(bundle: Bundle) -> None:
    huge = Fraction(10) ** 400
    region = Region(Box((huge, Fraction(0)), (huge + 1, Fraction(30))))
    gates = (bundle.gates[0], dataclasses.replace(bundle.gates[1], domain=(region,)))
    prepared = prepare_coverage(gates, bundle.coverage, bundle.manifest.signature)
    assert _labels(prepared, 1, [[float(np.finfo(np.float32).max), 0]]) == [Label.OUTSIDE]


def test_no_rows_have_no_labels(bundle: Bundle) -> None:
    assert _labels(_prepared(bundle), 0, []) == []


def test_a_long_row_alone_is_labelled_as_among_others() -> None:
    size = PLAIN_VALUES  # twice as many bounds
    signature = ModelSignature((TensorSpec("x", Datatype.FP32, (size,)),), (TensorSpec("y", Datatype.FP32, (1,)),), 0)
    region = Region(Box((Fraction(0),) * size, (Fraction(1),) * size))
    gate = Gate("p", (region,), Requirement(()), Action.REFUSE, Fraction(0), Norm.L2, None)
    tree = CoverageTree(
        np.array([size - 1, LEAF, LEAF], np.int32),
        np.array([0.5, 0.0, 0.0]),
        np.array([0, Label.SILENT, Label.OPEN], np.uint8),
        np.array([0.0, 0.5, 0.0, 0.5]),
    )
    prepared = prepare_coverage([gate], [[tree]], signature)
    assert prepared.plain_boxes is None
    rows = np.zeros((3, size))
    rows[1, -1], rows[2, 0] = 0.75, 2.0
    expected = [Label.SILENT, Label.OPEN, Label.OUTSIDE]
    assert label(prepared, 0, rows).tolist() == expected
    assert [label_row(prepared, 0, row) for row in rows] == expected


def test_among_many_regions_each_row_finds_its_own(bundle: Bundle) -> None:
    tree = bundle.coverage[0][0]
    starts = range(0, 2 * PLAIN_VALUES, 2)  # every other unit of the first feature is in no region
    regions = tuple(Region(Box((Fraction(at), Fraction(0)), (Fraction(at + 1), Fraction(30)))) for at in starts)
    gate = dataclasses.replace(bundle.gates[0], domain=regions)
    prepared = prepare_coverage([gate], [[tree] * len(regions)], bundle.manifest.signature)
    rows = [[float(at) + half, 10.0] for at in (*starts[:3], *starts[-3:]) for half in (0.5, 1.5)]
    labels = _labels(prepared, 0, rows)
    assert all(one is not Label.OUTSIDE for one in labels[::2])
    assert labels[1::2] == [Label.OUTSIDE] * 6
