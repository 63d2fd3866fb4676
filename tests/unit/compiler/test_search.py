"""The search: settles what is easy, leaves open what is not, and repeats itself exactly."""

import csv
import dataclasses
import pathlib
from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler import frontier
from sidecar.compiler.frontier import Boxes, Frontier
from sidecar.compiler.progress import Progress
from sidecar.compiler.search import Order, Partition, SearchLimits, StopReason, partition
from sidecar.compiler.split_tree import SplitTree
from sidecar.gates.effective import effective_region
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Affine, Layer, Network, Relu, forward
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.tensors import Datatype, ModelSignature, Rows, TensorSpec


def _network(inputs: int, outputs: int, *layers: Layer) -> Network:
    signature = ModelSignature(
        (TensorSpec("x", Datatype.FP32, (inputs,)),), (TensorSpec("y", Datatype.FP32, (outputs,)),), None
    )
    return Network(signature, layers)


def _dense(weight: list[list[float]], bias: list[float] | None = None) -> Affine:
    matrix = np.array(weight)
    return Affine(matrix, np.zeros(len(matrix)) if bias is None else np.array(bias), matrix.shape[1] + 1)


def _box(*sides: tuple[float | Fraction, float | Fraction]) -> Box:
    return Box(tuple(Fraction(low) for low, _ in sides), tuple(Fraction(high) for _, high in sides))


def _positive(index: int, offset: Fraction = Fraction(0), strict: bool = True) -> Literal:
    return Literal(terms({index: Fraction(1)}), (), offset, strict)


ONE = Requirement(((_positive(0),),))
IDENTITY = _network(1, 1, _dense([[1.0]]))


def _search(
    network: Network,
    box: Box,
    requirement: Requirement,
    limits: SearchLimits = SearchLimits(),  # noqa: B008
) -> Partition:
    return partition(network, box, requirement, Arithmetic.IEEE32, limits, lambda _: None)


def _label(tree: CoverageTree, point: np.ndarray) -> Label:
    node = 0
    while tree.feature[node] != LEAF:
        node = int((tree.left if point[tree.feature[node]] <= tree.threshold[node] else tree.right)[node])
    return Label(int(tree.label[node]))


def test_a_box_that_satisfies_is_one_silent_leaf() -> None:
    found = _search(IDENTITY, _box((1, 2)), ONE)
    assert (found.regions, found.stopped_by, len(found.counterexamples)) == (1, StopReason.FINISHED, 0)
    assert found.tree.label.tolist() == [Label.SILENT]
    assert found.tree.volume.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_box_that_violates_is_one_violating_leaf() -> None:
    found = _search(IDENTITY, _box((-2, -1)), ONE)
    assert found.tree.label.tolist() == [Label.VIOLATING]
    assert 1 < len(found.counterexamples) <= 48


def test_half_and_half_is_found_out() -> None:
    found = _search(IDENTITY, _box((-1, 3)), ONE)
    silent, violating, still_open = found.tree.volume[1:]
    assert (silent, violating) == (pytest.approx(0.75, abs=1e-5), pytest.approx(0.25, abs=1e-5))
    assert 0 < still_open < 1e-5
    assert (found.counterexamples <= 0).all()


def test_no_clauses_are_silent_everywhere() -> None:
    found = _search(IDENTITY, _box((-1, 3)), Requirement(()))
    assert found.tree.label.tolist() == [Label.SILENT]
    assert len(found.counterexamples) == 0


@pytest.mark.parametrize(("strict", "label"), [(True, Label.VIOLATING), (False, Label.OPEN)])
def test_a_tie_violates_a_strict_literal_only(strict: bool, label: Label) -> None:
    """The output is zero everywhere; the bounds know it only up to their smallest charge."""
    network = _network(1, 1, _dense([[-1.0]]), Relu())
    requirement = Requirement(((_positive(0, strict=strict),),))
    found = _search(network, _box((1, 2)), requirement, SearchLimits(max_regions=20))
    assert set(found.tree.label[found.tree.feature == LEAF]) <= {label, Label.OPEN}
    assert (len(found.counterexamples) > 0) == strict


def test_literals_over_inputs_count() -> None:
    larger = Literal(terms({0: Fraction(1)}), terms({0: Fraction(-1, 2)}), Fraction(0), True)
    found = _search(IDENTITY, _box((1, 2)), Requirement(((larger,),)))
    assert found.tree.label.tolist() == [Label.SILENT]


def test_a_combination_of_literals_proves_a_clause() -> None:
    """y0 = x and y1 = 1 - x: one of them is positive everywhere, neither is all over the box."""
    network = _network(1, 2, _dense([[1.0], [-1.0]], [0.0, 1.0]))
    found = _search(network, _box((-1, 2)), Requirement(((_positive(0), _positive(1)),)))
    assert (found.regions, found.tree.label.tolist()) == (1, [Label.SILENT])


def test_degenerate_dimensions_are_never_split() -> None:
    third = Fraction(1, 3)  # no float64: its outward box has width
    network = _network(2, 1, _dense([[1.0, 100.0]], [-33.3]))
    found = _search(network, _box((-1, 1), (third, third)), ONE, SearchLimits(minimum_volume=1e-3))
    assert set(found.tree.feature.tolist()) == {LEAF, 0}
    assert found.tree.volume.sum() == pytest.approx(1.0, abs=1e-9)


def test_a_box_without_any_width_is_one_leaf() -> None:
    for value, label in ((1, Label.SILENT), (-1, Label.VIOLATING), (0, Label.OPEN)):
        found = _search(IDENTITY, _box((value, value)), ONE)
        assert found.tree.label.tolist() == [label]


def test_what_could_overflow_stays_open() -> None:
    found = _search(IDENTITY, _box((1, Fraction(2) ** 127)), ONE, SearchLimits(max_regions=30))
    assert found.tree.volume[Label.OPEN] > 0.4
    assert _label(found.tree, np.array([2.0**126.5])) is Label.OPEN


def _bumpy() -> Network:
    rng = np.random.default_rng(5)
    sizes = [(20, 2), (20, 20), (2, 20)]
    layers: list[Layer] = []
    for outer, inner in sizes:
        weight = rng.standard_normal((outer, inner)).astype(np.float32).astype(np.float64)
        layers += [Affine(weight, rng.standard_normal(outer).astype(np.float32).astype(np.float64), inner + 1), Relu()]
    return _network(2, 2, *layers[:-1])


BUMPY, BUMPY_BOX = _bumpy(), _box((-1, 1), (-1, 1))
_MIDDLE = forward(BUMPY, np.zeros((1, 2)))[0]
LARGER = Requirement(
    ((Literal(terms({0: Fraction(1), 1: Fraction(-1)}), (), Fraction(_MIDDLE[1] - _MIDDLE[0]), True),),)
)


def _same(one: Partition, other: Partition) -> bool:
    trees = [dataclasses.astuple(found.tree) for found in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*trees, strict=True)) and one.regions == other.regions


def test_the_same_search_gives_the_same_tree() -> None:
    assert _same(_search(BUMPY, BUMPY_BOX, LARGER), _search(BUMPY, BUMPY_BOX, LARGER))


@pytest.mark.parametrize("max_regions", [1, 7, 300, 900])
def test_max_regions_is_kept_and_what_is_left_stays_open(max_regions: int) -> None:
    limits = SearchLimits(max_regions=max_regions, minimum_volume=0.0)
    found = _search(BUMPY, BUMPY_BOX, LARGER, limits)
    assert (found.regions, found.stopped_by) == (max_regions, StopReason.MAX_REGIONS)
    assert found.tree.volume[Label.OPEN] > 0
    assert _same(found, _search(BUMPY, BUMPY_BOX, LARGER, limits))


def test_the_region_count_of_a_timed_search_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    timed = _search(BUMPY, BUMPY_BOX, LARGER, SearchLimits(time_limit_seconds=40.0, minimum_volume=0.0))
    assert timed.stopped_by is StopReason.TIME_LIMIT
    repeated = _search(BUMPY, BUMPY_BOX, LARGER, SearchLimits(max_regions=timed.regions, minimum_volume=0.0))
    assert _same(timed, repeated)
    assert (timed.counterexamples == repeated.counterexamples).all()


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_does_not_matter(workers: int) -> None:
    limits = SearchLimits(max_regions=3000, minimum_volume=0.0)
    alone, shared = (
        _search(BUMPY, BUMPY_BOX, LARGER, dataclasses.replace(limits, workers=count)) for count in (1, workers)
    )
    assert _same(alone, shared)
    assert (alone.counterexamples == shared.counterexamples).all()


def test_either_order_settles_the_same_volume() -> None:
    """Whatever comes first, what a box's bounds prove is the same."""
    found = [
        _search(BUMPY, BUMPY_BOX, LARGER, SearchLimits(minimum_volume=1e-4, order=order)).tree.volume for order in Order
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_a_counterexample_may_end_the_search() -> None:
    seen: list[Rows] = []

    def ends(points: Rows) -> bool:
        seen.append(points)
        return len(points) > 0

    found = partition(BUMPY, BUMPY_BOX, LARGER, Arithmetic.IEEE32, SearchLimits(), lambda _: None, ends)
    whole = _search(BUMPY, BUMPY_BOX, LARGER)
    assert found.stopped_by is StopReason.COUNTEREXAMPLE
    assert found.regions < whole.regions
    assert all(not requirement_holds(LARGER, x, y) for x, y in zip(seen[-1], forward(BUMPY, seen[-1]), strict=True))


def test_no_time_leaves_everything_open() -> None:
    found = _search(BUMPY, BUMPY_BOX, LARGER, SearchLimits(time_limit_seconds=0.0))
    assert (found.regions, found.tree.label.tolist()) == (0, [Label.OPEN])


def test_progress_is_reported_and_ends_with_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    seen: list[Progress] = []
    found = partition(BUMPY, BUMPY_BOX, LARGER, Arithmetic.IEEE32, SearchLimits(), seen.append)
    assert len(seen) > 2
    assert [each.regions for each in seen] == sorted(each.regions for each in seen)
    last = seen[-1]
    assert (last.regions, last.pending) == (found.regions, 0)
    assert last.settled == pytest.approx(1.0)
    assert (last.silent, last.violating, last.open) == pytest.approx(tuple(found.tree.volume[1:]))


def test_a_planted_spike_is_not_proved_away() -> None:
    """y = 1 - 2 * spike, where the spike is 1 only within 1e-3 of a point of the cube: a 1e-9th of the volume."""
    at, width = np.array([0.3, -0.7, 0.55], dtype=np.float32).astype(np.float64), 2.0**-10
    distance = _dense(np.concatenate([np.eye(3), -np.eye(3)]).tolist(), [*-at, *at])
    spike = _dense([[-1.0 / width] * 6], [1.0])
    network = _network(3, 1, distance, Relu(), spike, Relu(), _dense([[-2.0]], [1.0]))
    found = _search(network, _box((-1, 1), (-1, 1), (-1, 1)), ONE, SearchLimits(minimum_volume=1e-12))
    assert _label(found.tree, at) is not Label.SILENT
    assert len(found.counterexamples) > 0
    assert (np.abs(found.counterexamples - at).max(axis=1) < width).all()
    assert found.tree.volume[Label.SILENT] > 0.99


def test_counterexamples_are_exact_wire_values_inside_the_box() -> None:
    box = _box((Fraction("-0.1"), Fraction("0.3")), (Fraction("-0.7"), Fraction("0.7")))
    found = _search(BUMPY, box, LARGER)
    rows = found.counterexamples
    assert len(rows) == len(np.unique(rows, axis=0)) > 10
    assert (rows.astype(np.float32) == rows).all()
    for row, output in zip(rows, forward(BUMPY, rows), strict=True):
        assert all(low <= Fraction(x) <= high for low, x, high in zip(box.lower, row, box.upper, strict=True))
        assert not requirement_holds(LARGER, row, output)


def test_a_box_without_wire_values_has_no_counterexamples() -> None:
    narrow = _box((Fraction(-1, 3), Fraction(-1, 3)))
    found = _search(IDENTITY, narrow, ONE)
    assert found.tree.label.tolist() == [Label.VIOLATING]
    assert found.counterexamples.shape == (0, 1)


def test_the_frontier_gives_the_largest_first_and_keeps_phases() -> None:
    rng = np.random.default_rng(0)
    count = 40
    boxes = Boxes(
        lower=rng.random((count, 2)),
        upper=rng.random((count, 2)),
        node=np.arange(count),
        size=2.0 ** -rng.integers(0, 5, count),
        phases=rng.integers(-1, 2, (count, 11)).astype(np.int8),
    )
    waiting = Frontier(boxes)
    sizes, seen = [], []
    while len(waiting):
        taken = waiting.take(7)
        sizes += taken.size.tolist()
        seen += taken.node.tolist()
        assert (taken.phases == boxes.phases[taken.node]).all()
        assert (taken.lower == boxes.lower[taken.node]).all()
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(seen) == list(range(count))


def test_the_frontier_may_give_the_smallest_first() -> None:
    size = np.array([0.5, 0.25, 0.125])
    boxes = Boxes(np.zeros((3, 1)), np.ones((3, 1)), np.arange(3), size, np.zeros((3, 0), np.int8))
    waiting = Frontier(boxes, smallest_first=True)
    assert [waiting.take(1).node.tolist() for _ in range(3)] == [[2], [1], [0]]


def test_a_full_frontier_gives_the_smallest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "MOST_WAITING", 2)
    boxes = Boxes(
        np.zeros((3, 1)), np.ones((3, 1)), np.arange(3), np.array([0.5, 0.25, 0.125]), np.zeros((3, 0), np.int8)
    )
    waiting = Frontier(boxes)
    assert [waiting.take(1).node.tolist() for _ in range(3)] == [[2], [0], [1]]


def test_equal_siblings_merge_and_children_follow_parents() -> None:
    tree = SplitTree()
    one = np.zeros(1, dtype=np.intp)
    left, right = tree.split(one, one, np.array([0.5]), np.array([0.25]))
    inner_left, inner_right = tree.split(right, one, np.array([0.75]), np.array([0.5]))
    tree.settle(left, Label.SILENT)
    tree.settle(np.concatenate([inner_left, inner_right]), Label.VIOLATING)
    finished = tree.finished()
    assert finished.feature.tolist() == [0, LEAF, LEAF]
    assert (finished.left.tolist(), finished.right.tolist()) == ([1, 0, 0], [2, 0, 0])
    assert finished.label.tolist() == [0, Label.SILENT, Label.VIOLATING]
    assert finished.volume.tolist() == [0.0, 0.25, 0.75, 0.0]


def test_a_tree_grows_beyond_its_first_table() -> None:
    tree = SplitTree()
    nodes = np.zeros(1, dtype=np.intp)
    for _ in range(12):
        halves = tree.split(nodes, np.zeros(len(nodes), np.intp), np.zeros(len(nodes)), np.full(len(nodes), 0.5))
        nodes = np.concatenate(halves)
    tree.settle(nodes[::2], Label.SILENT)
    finished = tree.finished()
    inner = finished.feature != LEAF
    assert (finished.left[inner] > np.flatnonzero(inner)).all()
    assert finished.volume.sum() == pytest.approx(1.0)


FAST = [
    (1, 1, 1),
    (1, 1, 3),
    (1, 7, 3),
    (1, 9, 7),
    (2, 1, 2),
    (2, 9, 8),
    (3, 3, 9),
    (4, 5, 10),
    (5, 3, 2),
    (1, 7, 4),
    (2, 2, 3),
]


@pytest.mark.parametrize(("first", "second", "number"), FAST)
def test_acas_xu_verdicts_are_those_of_the_competition(
    first: int, second: int, number: int, acasxu: pathlib.Path
) -> None:
    name, prop = f"ACASXU_run2a_{first}_{second}_batch_2000.onnx", f"prop_{number}.vnnlib"
    with (acasxu / "verdicts.csv").open() as file:
        (expected,) = [
            row["verdict"] for row in csv.DictReader(file) if (row["network"], row["property"]) == (name, prop)
        ]
    network = read_model(acasxu / name).network
    limits = SearchLimits(max_regions=20_000 if expected == "holds" else 500, minimum_volume=0.0)
    (stated,) = read_vnnlib(acasxu / prop, network.signature).properties
    for region in stated.domain:
        box = effective_region(region, network.signature.input_datatypes()).box
        found = _search(network, box, stated.requirement, limits)
        assert (found.tree.volume[Label.SILENT] == 1.0) == (expected == "holds")
        assert (len(found.counterexamples) > 0) == (expected == "violated")


def test_a_box_that_violates_all_over_is_settled_at_once(acasxu: pathlib.Path) -> None:
    network = read_model(acasxu / "ACASXU_run2a_1_7_batch_2000.onnx").network
    (stated,) = read_vnnlib(acasxu / "prop_3.vnnlib", network.signature).properties
    box = effective_region(stated.domain[0], network.signature.input_datatypes()).box
    found = _search(network, box, stated.requirement)
    assert (found.regions, found.tree.volume[Label.VIOLATING]) == (1, 1.0)
