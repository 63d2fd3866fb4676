"""Law: what is proved of a softmax's operands implies the requirement on its results, as onnxruntime gives them."""

import pathlib
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.search import SearchLimits
from sidecar.compiler.softmax_last import without_softmax
from sidecar.compiler.verdict import Verdict, decide
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.graph import Graph, Node
from sidecar.network.onnx_reader import read_model
from sidecar.network.operators.relu import Relu
from sidecar.network.operators.softmax import Softmax
from sidecar.network.values import forward
from sidecar.numerics import SOFTMAX_ERROR
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.laws.onnx_models import model_of


def _session(size: int) -> onnxruntime.InferenceSession:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString())


SESSION = _session(4)


def _graph(size: int) -> Graph:
    spec = TensorSpec("x", Datatype.FP32, (size,)), TensorSpec("y", Datatype.FP32, (size,))
    nodes = (Node(Relu(), (0,), (1, size)), Node(Softmax(), (1,), (1, size)))
    return Graph(ModelSignature(spec[:1], spec[1:], None), (1, size), nodes)


def _literal(rng: np.random.Generator) -> Literal:
    first, second = (int(index) for index in rng.permutation(4)[:2])
    share = Fraction(float(rng.choice([1e-9, 0.01, 0.2, 0.5, 0.9, 0.9999])))
    kind, strict = int(rng.integers(5)), bool(rng.integers(2))
    if kind == 0:
        return Literal(terms({first: Fraction(1)}), (), -share, strict)
    if kind == 1:
        return Literal(terms({first: Fraction(-2)}), (), 2 * share, strict)
    if kind == 2:
        return Literal((), terms({0: Fraction(1)}), Fraction(-1), strict)
    return Literal(terms({first: Fraction(3), second: Fraction(-3)}), (), Fraction(0), strict)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([1e-4, 1e-3, 0.1, 1.0, 10.0, 70.0, 200.0]))
def test_what_the_operands_satisfy_implies_what_the_results_must(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    requirement = Requirement(tuple(tuple(_literal(rng) for _ in range(rng.integers(1, 3))) for _ in range(2)))
    core, wanted, equivalent = without_softmax(_graph(4), requirement)
    assert (len(core.nodes), equivalent) == (1, False)
    rows = (rng.standard_normal((200, 4)) * spread).astype(np.float32)
    (served,) = SESSION.run(None, {"x": rows})
    for row, result in zip(rows.astype(np.float64), served.astype(np.float64), strict=True):
        if requirement_holds(wanted, row, row):
            assert requirement_holds(requirement, row, result)


def test_orders_are_proved_a_little_apart() -> None:
    order = Requirement(((Literal(terms({0: Fraction(1), 1: Fraction(-1)}), (), Fraction(0), strict=True),),))
    _, wanted, _ = without_softmax(_graph(4), order)
    assert requirement_holds(wanted, np.zeros(4), np.array([1.001, 1.0, 3.0, 0.0]))
    assert not requirement_holds(wanted, np.zeros(4), np.array([1.0, 1.0, 3.0, 0.0]))
    assert not requirement_holds(wanted, np.zeros(4), np.array([1.0, 0.0, 100.0, 0.0]))


def test_without_a_softmax_nothing_changes() -> None:
    graph = _graph(4)
    core = Graph(graph.signature, graph.shape, graph.nodes[:1])
    requirement = Requirement(())
    assert without_softmax(core, requirement) == (core, requirement, True)


def test_onnxruntime_errs_by_less_than_is_allowed() -> None:
    rng = np.random.default_rng(1)
    for size in (2, 10, 1000):
        rows = (rng.standard_normal((2000, size)) * rng.uniform(0.1, 20, (2000, 1))).astype(np.float32)
        (served,) = _session(size).run(None, {"x": rows})
        real = forward(
            Graph(_graph(size).signature, (1, size), (Node(Softmax(), (0,), (1, size)),)), rows.astype(np.float64)
        )
        large = real >= 2.0**-126
        assert (np.abs(served - real)[large] <= SOFTMAX_ERROR / 2 * real[large]).all()
        assert (served[~large] <= 2.0**-126).all()


def test_a_model_with_a_softmax_is_proved(tmp_path: pathlib.Path) -> None:
    weight = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    onnx.save(model_of(nodes, {"w": weight}, (1, 2), 13), tmp_path / "m.onnx")
    network = read_model(tmp_path / "m.onnx").network
    order = Requirement(((Literal(terms({0: Fraction(1), 1: Fraction(-1)}), (), Fraction(0), strict=True),),))
    limits = SearchLimits(max_regions=50)
    apart = Box((Fraction(2), Fraction(0)), (Fraction(3), Fraction(1)))
    meeting = Box((Fraction(0), Fraction(0)), (Fraction(3), Fraction(1)))
    assert decide(network, apart, order, Arithmetic.IEEE32, limits).verdict is Verdict.HOLDS
    assert decide(network, meeting, order, Arithmetic.IEEE32, limits).verdict is Verdict.VIOLATED
