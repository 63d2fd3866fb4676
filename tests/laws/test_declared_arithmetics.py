"""Law: what each declared arithmetic can do to a product, the search and the checker charge, and not much more."""

import dataclasses
import pathlib
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import helper

from sidecar.bundle.values import Arithmetic
from sidecar.certificate import bounds as checker
from sidecar.certificate.statements import answers_between
from sidecar.compiler import rounding as search
from sidecar.compiler.certified_answers import certified_answers
from sidecar.compiler.graph_relaxations import image
from sidecar.compiler.replay import answers
from sidecar.errors import InputError, NegativeAnswer
from sidecar.network.dense import MOST_CHECKED, dense, graph_of
from sidecar.network.graph import Graph
from sidecar.network.onnx_reader import read_graph
from sidecar.network.operators.clip import Clip
from sidecar.network.values import Affine, Model, Network, Relu
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.attack.arithmetics import simulated
from tests.laws.onnx_models import model_of
from tests.laws.random_graphs import served_graph
from tests.laws.random_networks import datatype_of

COARSE = [each for each in Arithmetic if each not in (Arithmetic.IEEE32, Arithmetic.IEEE64)]
REACHED = {Arithmetic.TF32: 0.9, Arithmetic.BF16: 0.6, Arithmetic.FP16: 0.6, Arithmetic.IEEE16: 0.5}
"""Share of what is charged that some product is seen to suffer. Sixteen bits round the same value twice where hardly
anything is added in between; and not all can be at their worst at once."""


def _searched(network: Network, arithmetic: Arithmetic, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return certified_answers(network, arithmetic, inputs)


def _searched_as_graph(network: Network, arithmetic: Arithmetic, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return certified_answers(graph_of(network), arithmetic, inputs)


def _checked(network: Network, arithmetic: Arithmetic, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return answers_between(checker.staged(network, arithmetic, 1), inputs)


BOUNDED = pytest.mark.parametrize("bounded", [_searched, _searched_as_graph, _checked])


def _one_product(factor: float, bias: float) -> Network:
    specs = (TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (1,)),)
    return Network(ModelSignature(*specs, None), (Affine(np.array([[factor]]), np.array([bias]), 2),))


@BOUNDED
@pytest.mark.parametrize("arithmetic", COARSE)
def test_roundings_of_one_product_are_charged(
    bounded: Callable[..., tuple[np.ndarray, np.ndarray]], arithmetic: Arithmetic
) -> None:
    rng = np.random.default_rng(5)
    worst = 0.0
    for seed in range(40):
        factor, bias = float(np.float32(rng.uniform(1.0, 1.2))), float(np.float32(rng.uniform(0.0, 1e-3)))
        network = _one_product(factor, bias)
        inputs = rng.uniform(1.0, 1.2, (256, 1)).astype(np.float32).astype(np.float64)
        lower, upper = bounded(network, arithmetic, inputs)
        answers = np.concatenate([simulated(network, arithmetic, seed + turn)(inputs) for turn in range(4)], axis=1)
        assert ((lower <= answers) & (answers <= upper)).all()
        exact = inputs * factor + bias
        worst = max(worst, float((np.abs(answers - exact) / np.maximum(upper - exact, exact - lower)).max()))
    assert REACHED[arithmetic] < worst <= 1.0


@BOUNDED
@pytest.mark.parametrize("arithmetic", COARSE)
def test_underflow_is_charged(bounded: Callable[..., tuple[np.ndarray, np.ndarray]], arithmetic: Arithmetic) -> None:
    """Numbers between zero and the smallest that the format has become one of the two."""
    rng = np.random.default_rng(6)
    smallest = {Arithmetic.FP16: 2.0**-24, Arithmetic.IEEE16: 2.0**-24}.get(arithmetic, 2.0**-149)
    for seed in range(20):
        factor = float(np.float32(rng.uniform(0.1, 3.0) * smallest))
        network = _one_product(factor, float(np.float32(smallest * rng.uniform(0.1, 0.9))))
        inputs = rng.uniform(-4.0, 4.0, (64, 1)).astype(np.float32).astype(np.float64)
        lower, upper = bounded(network, arithmetic, inputs)
        answers = simulated(network, arithmetic, seed)(inputs)
        assert ((lower <= answers) & (answers <= upper)).all()


@BOUNDED
@pytest.mark.parametrize("arithmetic", [Arithmetic.FP16, Arithmetic.IEEE16])
def test_nothing_is_known_where_float16_may_overflow(
    bounded: Callable[..., tuple[np.ndarray, np.ndarray]], arithmetic: Arithmetic
) -> None:
    inputs = np.array([[1.0], [2.0**10], [2.0**13], [2.0**16]])
    lower, upper = bounded(_one_product(4.0, 0.0), arithmetic, inputs)
    assert np.isfinite(simulated(_one_product(4.0, 0.0), arithmetic, 0)(inputs)[:3]).all()
    known = np.isfinite(lower[:, 0]) & np.isfinite(upper[:, 0])
    assert known.tolist() == [True, True, False, False]
    lower, upper = bounded(_one_product(4.0, 0.0), Arithmetic.BF16, inputs)
    assert np.isfinite(lower).all()


@BOUNDED
@pytest.mark.parametrize("arithmetic", COARSE)
def test_a_value_that_is_handed_on_may_be_rounded(
    bounded: Callable[..., tuple[np.ndarray, np.ndarray]], arithmetic: Arithmetic
) -> None:
    network = dataclasses.replace(_one_product(1.0, 0.0), layers=(Relu(),))
    inputs = np.float32(1.0 + 2.0**-8 * np.arange(1, 64)[:, None] / 61).astype(np.float64)
    lower, upper = bounded(network, arithmetic, inputs)
    answers = simulated(_one_product(1.0, 0.0), arithmetic, 0)(inputs)
    assert ((lower <= answers) & (answers <= upper)).all()


def test_of_sums_that_are_too_long_for_float16_nothing_is_known() -> None:
    specs = (TensorSpec("x", Datatype.FP32, (1200,)),), (TensorSpec("y", Datatype.FP32, (1,)),)
    layers = (Affine(np.full((1, 1200), 0.01), np.zeros(1), 1200),)
    network = Network(ModelSignature(*specs, None), layers)
    inputs = np.ones((1, 1200))
    for bounded in (_searched, _searched_as_graph):
        with pytest.raises(InputError, match="rounds 1200 times in 1 layers, which may change a value by 59%"):
            bounded(network, Arithmetic.IEEE16, inputs)
    with pytest.raises(NegativeAnswer, match="one run of layers rounds by 59%"):
        _checked(network, Arithmetic.IEEE16, inputs)
    assert np.isfinite(_checked(network, Arithmetic.FP16, inputs)).all()


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_search_and_checker_charge_the_same(arithmetic: Arithmetic) -> None:
    """Two tables, written apart, about one meaning."""
    ours, theirs = search.FORMATS[arithmetic], checker.DECLARED[arithmetic]
    assert (ours.datatype, ours.roundoff, ours.kept, ours.underflow, ours.limit) == theirs
    assert ours.datatype is datatype_of(arithmetic)


@pytest.mark.parametrize("arithmetic", COARSE)
def test_a_coarse_arithmetic_covers_float32(arithmetic: Arithmetic) -> None:
    """So a bundle that declares it covers a server that computes in float32 after all."""
    coarse, single = checker.DECLARED[arithmetic], checker.DECLARED[Arithmetic.IEEE32]
    assert coarse.unit >= single.unit
    assert coarse.kept > 0.0
    assert coarse.tiny >= single.tiny
    assert coarse.limit <= single.limit


def test_what_is_kept_is_a_few_units_of_the_format() -> None:
    """Of eleven significant bits rounded to nearest a unit is 2**-11, cut off 2**-10; of bfloat16's eight 2**-8."""
    kept = {each: Fraction(checker.DECLARED[each].kept) for each in COARSE}
    assert kept == {
        Arithmetic.TF32: 2 * Fraction(1, 2**10),
        Arithmetic.BF16: 4 * Fraction(1, 2**8),
        Arithmetic.FP16: 4 * Fraction(1, 2**11),
        Arithmetic.IEEE16: 3 * Fraction(1, 2**11),
    }


def _graph_of(folder: pathlib.Path, nodes: list[onnx.NodeProto], shape: tuple[int, ...]) -> tuple[Model, Graph]:
    onnx.save(model_of(nodes, {}, shape, 13), folder / "m.onnx")
    return read_graph(folder / "m.onnx")


def _bounds(graph: Graph, arithmetic: Arithmetic, inputs: np.ndarray) -> list[np.ndarray]:
    """What each of the three engines that can says, (lower or upper, row, output)."""
    written_out = dense(graph, MOST_CHECKED)
    assert written_out is not None
    return [
        np.stack(certified_answers(graph, arithmetic, inputs)),
        np.stack(certified_answers(written_out, arithmetic, inputs)),
        np.stack(_checked(written_out, arithmetic, inputs)),
    ]


@pytest.mark.parametrize(
    ("arithmetic", "fine", "too_large"), [(Arithmetic.IEEE32, 1e35, 8e37), (Arithmetic.IEEE16, 100.0, 2000.0)]
)
def test_nothing_is_known_where_the_sum_of_a_mean_may_overflow(
    tmp_path: pathlib.Path, arithmetic: Arithmetic, fine: float, too_large: float
) -> None:
    pool = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[8, 8])
    model, graph = _graph_of(tmp_path, [pool], (1, 1, 8, 8))
    inputs = np.float32([[fine] * 64, [too_large] * 64]).astype(np.float64)
    if arithmetic is Arithmetic.IEEE32:
        assert np.isposinf(answers(model, inputs)[1]).all(), "onnxruntime adds up first"
    for lower, upper in _bounds(graph, arithmetic, inputs):
        assert (lower[0] <= inputs[0, 0]).all()
        assert (inputs[0, 0] <= upper[0]).all()
        assert not np.isfinite(lower[1]).any()
        assert not np.isfinite(upper[1]).any()


@pytest.mark.parametrize("arithmetic", COARSE)
@pytest.mark.parametrize("alpha", [4.5 * 2.0**-24, 2.0**-130, 0.01, 0.3])
def test_a_small_slope_of_a_leaky_relu_may_be_lost(
    tmp_path: pathlib.Path, arithmetic: Arithmetic, alpha: float
) -> None:
    _, graph = _graph_of(tmp_path, [helper.make_node("LeakyRelu", ["x"], ["y"], alpha=alpha)], (1, 1))
    inputs = np.float32([[-16000.0], [-1000.0], [-1.0], [1.0]]).astype(np.float64)
    served = served_graph(graph, arithmetic, inputs)
    for lower, upper in _bounds(graph, arithmetic, inputs):
        assert ((lower <= served) & (served <= upper)).all()


@pytest.mark.parametrize("arithmetic", [Arithmetic.FP16, Arithmetic.BF16])
def test_clip_between_short_numbers_costs_nothing(arithmetic: Arithmetic) -> None:
    """As in ReLU6; other bounds are rounded."""
    point = np.array([10.0])
    for most, exact in ((6.0, True), (0.1, False)):
        low, high = image(Clip(0.0, most), search.FORMATS[arithmetic], point, point)
        assert (low[0] == high[0]) == exact
