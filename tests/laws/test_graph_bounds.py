"""Law: what is proved of a graph over a box holds for each point in it: in exact arithmetic, in float64, and as
onnxruntime answers it."""

import pathlib
import tempfile
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.certificate.bounds import staged
from sidecar.certificate.statements import answers_between
from sidecar.compiler.graph_backward import Known
from sidecar.compiler.graph_bounds import (
    GraphBounds,
    PreparedGraph,
    Ranges,
    bound_graph,
    enclose,
    literal_bounds,
    prepare_graph,
)
from sidecar.compiler.graph_relaxations import image, relaxed
from sidecar.compiler.graph_search import partition_graph
from sidecar.compiler.phase_bounds import PhaseBounds
from sidecar.compiler.phase_search import search_phases
from sidecar.compiler.phase_targets import literal_targets, sharpen
from sidecar.compiler.replay import answers
from sidecar.compiler.rounding import FORMATS, Floats
from sidecar.compiler.search import SearchLimits
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.dense import dense
from sidecar.network.graph import Graph, evaluated
from sidecar.network.onnx_reader import read_graph
from sidecar.network.operators.clip import Clip
from sidecar.network.operators.leaky_relu import LeakyRelu
from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import Elementwise
from sidecar.network.operators.relu import Relu
from sidecar.network.operators.sigmoid import Sigmoid
from sidecar.network.operators.tanh import Tanh
from sidecar.network.values import Model, forward
from tests.attack.arithmetics import SIMULATED
from tests.laws.random_graphs import exact_outputs, random_graph_model, served_elementwise, served_graph
from tests.laws.random_networks import exact_answer


def _read(proto: onnx.ModelProto) -> tuple[Model, Graph]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.onnx"
        path.write_bytes(proto.SerializeToString())
        return read_graph(path)


def _requirement(rng: np.random.Generator, inputs: int, spread: float = 1.0) -> Requirement:
    def literal() -> Literal:
        return Literal(
            terms({index: Fraction(int(rng.integers(-3, 4)), 3) for index in range(3)}),
            terms({int(rng.integers(inputs)): Fraction(1, 3)}),
            Fraction(int(rng.integers(-10, 11)), 10) * Fraction(spread),
            bool(rng.integers(2)),
        )

    return Requirement(tuple(tuple(literal() for _ in range(rng.integers(1, 3))) for _ in range(2)))


def _box(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    centre, radius = rng.uniform(-1, 1, size), 10.0 ** rng.uniform(-6, 0, size) * (rng.random(size) < 0.8)
    lower, upper = (centre - radius).astype(np.float32), (centre + radius).astype(np.float32)
    return lower.astype(np.float64), upper.astype(np.float64)


def _points(rng: np.random.Generator, lower: Floats, upper: Floats, count: int) -> Floats:
    unit = rng.random((count, len(lower)))
    unit[::2] = np.round(unit[::2])
    return (lower + unit * (upper - lower)).astype(np.float32).astype(np.float64).clip(lower, upper)


def _values(prepared: PreparedGraph, point: Floats, outputs: list[Fraction]) -> list[Fraction]:
    rows = prepared.rows
    return [
        sum((Fraction(a) * y for a, y in zip(rows.outputs[row], outputs, strict=True)), Fraction(rows.offset[row]))
        + sum((Fraction(c) * Fraction(x) for c, x in zip(rows.inputs[row], point, strict=True)), Fraction(0))
        for row in range(len(rows.offset))
    ]


ROWS_ROUNDED = Fraction(1, 2**40)
"""The law's literals stand as float64 rows; what rounding them changes is far below what is looked at."""


@pytest.mark.parametrize("smooth", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.3, 0.6, 3.0, 300.0]))
def test_bounds_contain_exact_and_served_answers(smooth: bool, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    model, graph = _read(random_graph_model(rng, smooth=smooth, scale=scale))
    inputs = model.signature.input_size
    prepared = prepare_graph(graph, _requirement(rng, inputs), Arithmetic.IEEE32)
    boxes = [_box(rng, inputs) for _ in range(3)]
    lower, upper = (np.stack(side) for side in zip(*boxes, strict=True))
    bounds = bound_graph(prepared, lower, upper)
    for box in range(3):
        _require_contained(model, graph, prepared, bounds, box, _points(rng, lower[box], upper[box], 3))


def _require_contained(
    model: Model, graph: Graph, prepared: PreparedGraph, bounds: GraphBounds, box: int, points: Floats
) -> None:
    for point, served, real in zip(points, answers(model, points), forward(graph, points), strict=True):
        found = [[Fraction(y) for y in served], [Fraction(y) for y in real]]
        if not any(isinstance(node.operation, Sigmoid | Tanh) for node in graph.nodes):
            found.append(exact_outputs(graph, point))
        for outputs in found:
            for row, value in enumerate(_values(prepared, point, outputs)):
                slack = ROWS_ROUNDED * (1 + abs(value))
                least, most = bounds.lower[box, row], bounds.upper[box, row]
                assert least == -np.inf or Fraction(least) <= value + slack
                assert most == np.inf or value - slack <= Fraction(most)
                if np.isfinite(bounds.constant[box, row]):
                    slope = bounds.slope[box, row]
                    form = sum((Fraction(a) * Fraction(x) for a, x in zip(slope, point, strict=True)), Fraction(0))
                    assert form + Fraction(bounds.constant[box, row]) <= value + slack


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.3, 0.6, 3.0]), steps=st.integers(0, 4))
def test_sharpened_bounds_contain_exact_and_served_answers(seed: int, scale: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    model, graph = _read(random_graph_model(rng, smooth=bool(rng.integers(2)), scale=scale))
    prepared = prepare_graph(graph, _requirement(rng, model.signature.input_size), Arithmetic.IEEE32)
    lower, upper = _box(rng, model.signature.input_size)

    def improve(known: Known, ranges: Ranges, place: int) -> None:
        sharpen(known, ranges, place, steps, lambda: None)

    plain = enclose(prepared, lower[None], upper[None])
    sharp = enclose(prepared, lower[None], upper[None], sharpen=improve)
    points = _points(rng, lower, upper, 3)
    _require_contained(model, graph, prepared, literal_bounds(prepared, sharp), 0, points)
    tensors = list(evaluated(graph, points))
    for place, (least, most) in sharp.ranges.items():
        room = 1e-9 * (1.0 + np.abs(tensors[place]))
        assert ((least <= tensors[place] + room) & (tensors[place] - room <= most)).all()
    for place in sorted(plain.ranges)[:2]:  # further on a relaxation may have changed to one that fits less
        assert (sharp.ranges[place][0] >= plain.ranges[place][0]).all()
        assert (sharp.ranges[place][1] <= plain.ranges[place][1]).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 6))
def test_bounds_of_parts_hold_for_the_points_in_them(seed: int, steps: int) -> None:
    """Whatever slopes and multipliers: each point belongs to the parts that its neurons' signs allow."""
    rng = np.random.default_rng(seed)
    model, graph = _read(random_graph_model(rng, smooth=bool(rng.integers(2))))
    inputs = model.signature.input_size
    prepared = prepare_graph(graph, _requirement(rng, inputs), Arithmetic.IEEE32)
    lower, upper = _box(rng, inputs)
    enclosure = enclose(prepared, lower[None], upper[None])
    phases = PhaseBounds(enclosure.known, enclosure.ranges, literal_targets(prepared, enclosure))
    parts = phases.whole(np.arange(len(prepared.rows.offset)))
    points = _points(rng, lower, upper, 4)
    tensors = list(evaluated(graph, points))
    signs = np.concatenate(
        [np.zeros((4, 0)), *(np.sign(tensors[each.place].reshape(4, -1)) for each in phases.splits)], axis=1
    )
    known = np.where(rng.random(signs.shape) < 0.3, signs, 0.0).astype(np.int8)
    for point, outputs, phase in zip(points, forward(graph, points), known, strict=True):
        shape = parts.phases.shape
        of_point = parts.__class__(
            np.broadcast_to(phase, shape),
            rng.uniform(0.125, 1.0, shape),
            rng.uniform(0.0, 2.0, shape) * (phase != 0),
            parts.literal,
        )
        bounded = phases.bound(of_point, steps)
        values = prepared.rows.values(point[None], outputs[None])[0]
        assert (bounded.lower <= values + 1e-9 * (1 + np.abs(values))).all()


@pytest.mark.parametrize(
    "operation",
    [
        Relu(),
        LeakyRelu(0.125),
        LeakyRelu(0.3),
        Clip(-0.5, 0.75),
        Clip(-0.3, 0.7),
        Clip(-np.inf, 1.1),
        Sigmoid(),
        Tanh(),
    ],
)
@settings(max_examples=100, deadline=None)
@given(low=st.floats(-40, 40), width=st.floats(0, 30), tiny=st.booleans(), arithmetic=st.sampled_from(Arithmetic))
def test_a_relaxation_encloses_its_function(
    operation: Elementwise, low: float, width: float, tiny: bool, arithmetic: Arithmetic
) -> None:
    """In real arithmetic, and as the declared one rounds operands that it has, bounds and results."""
    form = FORMATS[arithmetic]
    lower, upper = np.array([low]), np.array([low + width * (1e-7 if tiny else 1.0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        line = relaxed(operation, form, lower, upper)
    values = np.concatenate([np.linspace(lower[0], upper[0], 200), lower, upper, np.array([-0.5, 0.0, 0.75])])
    values = values.clip(lower, upper)
    least, most = image(operation, form, lower, upper)
    room = 1e-13 * (1 + np.abs(values))
    for results in (operation(values), served_elementwise(operation, arithmetic, values)):
        assert (line.lower_slope * values + line.lower_shift <= results + room).all()
        assert (results <= line.upper_slope * values + line.upper_shift + room).all()
        assert ((least <= results) & (results <= most)).all()


COARSE = [each for each in SIMULATED if each is not Arithmetic.IEEE32]


@pytest.mark.parametrize("smooth", [False, True])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.3, 0.6, 3.0]), arithmetic=st.sampled_from(COARSE))
def test_bounds_contain_what_coarse_arithmetic_answers(
    smooth: bool, seed: int, scale: float, arithmetic: Arithmetic
) -> None:
    """Of the graph; and of the same written out as dense layers, as the checker bounds it."""
    rng = np.random.default_rng(seed)
    model, graph = _read(random_graph_model(rng, smooth=smooth, scale=scale))
    outputs = model.signature.output_size
    each = tuple((Literal(terms({i: Fraction(1)}), (), Fraction(0), strict=False),) for i in range(outputs))
    prepared = prepare_graph(graph, Requirement(each), arithmetic)
    lower, upper = _box(rng, model.signature.input_size)
    points = _points(rng, lower, upper, 6)
    bounds = bound_graph(prepared, lower[None], upper[None])
    written_out = dense(graph)
    for _ in range(3):
        served = served_graph(graph, arithmetic, points)
        finite = np.isfinite(served).all(axis=1)
        assert ((bounds.lower <= served) & (served <= bounds.upper))[finite].all()
        assert finite.all() or np.isneginf(bounds.lower).all()
        if written_out is not None:
            least, most = answers_between(staged(written_out, arithmetic, 1), points)
            inside = ~(served < least) & ~(served > most)
            assert inside[finite].all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), few=st.booleans())
def test_a_search_tells_the_truth(seed: int, few: bool) -> None:
    """Silent and violating leaves are so; counterexamples are such; few dimensions are halved, many are not."""
    rng = np.random.default_rng(seed)
    model, graph = _read(random_graph_model(rng, smooth=bool(rng.integers(2))))
    inputs = model.signature.input_size
    requirement = _requirement(rng, inputs)
    lower, upper = _box(rng, inputs)
    if few:
        upper[2:] = lower[2:]
    box = Box(tuple(map(Fraction, lower)), tuple(map(Fraction, upper)))
    limits = SearchLimits(max_regions=60)
    points = _points(rng, lower, upper, 40)
    served = answers(model, points)
    if few:
        found = partition_graph(graph, box, requirement, Arithmetic.IEEE32, limits, lambda _: None)
        labels, counterexamples = [_label(found.tree, point) for point in points], found.counterexamples
    else:
        whole = search_phases(graph, box, requirement, Arithmetic.IEEE32, limits, lambda _: None, None)
        labels, counterexamples = [whole.label] * len(points), whole.counterexamples
    for point, outputs, label in zip(points, served, labels, strict=True):
        holds = requirement_holds(requirement, point, outputs)
        assert holds or label != Label.SILENT
        assert not holds or label != Label.VIOLATING
    for point, outputs in zip(counterexamples, forward(graph, counterexamples), strict=True):
        assert ((lower <= point) & (point <= upper)).all()
        assert not requirement_holds(requirement, point, outputs)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_written_out_as_dense_layers_is_the_same_function(seed: int) -> None:
    """In exact arithmetic; max pools and logistic functions have no such form."""
    rng = np.random.default_rng(seed)
    _, graph = _read(random_graph_model(rng, smooth=False, scale=2.0))
    written = dense(graph)
    assert (written is None) == any(isinstance(node.operation, MaxPool) for node in graph.nodes)
    if written is not None:
        for point in rng.standard_normal((2, 24)).astype(np.float32).astype(np.float64):
            assert exact_answer(written, point) == exact_outputs(graph, point)


def _label(tree: CoverageTree, point: Floats) -> int:
    node = 0
    while tree.feature[node] != LEAF:
        left = point[tree.feature[node]] <= tree.threshold[node]
        node = int(tree.left[node] if left else tree.right[node])
    return int(tree.label[node])
