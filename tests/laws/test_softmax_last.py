"""Law: what is proved of a softmax's operands implies the requirement on its results: as onnxruntime gives them, and as
whatever errs by as much as is allowed."""

import dataclasses
import pathlib
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.search import SearchLimits
from sidecar.compiler.softmax_last import _SERVED, without_softmax
from sidecar.compiler.verdict import Verdict, decide
from sidecar.errors import InputError
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.graph import Graph, Node
from sidecar.network.onnx_reader import read_model
from sidecar.network.operators.relu import Relu
from sidecar.network.operators.softmax import Softmax
from sidecar.network.values import forward
from sidecar.numerics import SOFTMAX_ERROR
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.attack.arithmetics import SIMULATED
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
    share = Fraction(float(rng.choice([0.0, 1e-9, 1e-4, 0.01, 0.2, 0.5, 0.9, 0.99, 0.99999])))
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
    core, wanted, equivalent = without_softmax(_graph(4), requirement, Arithmetic.IEEE32)
    assert (len(core.nodes), equivalent) == (1, False)
    rows = (rng.standard_normal((200, 4)) * spread).astype(np.float32)
    (served,) = SESSION.run(None, {"x": rows})
    for row, result in zip(rows.astype(np.float64), served.astype(np.float64), strict=True):
        if requirement_holds(wanted, row, row):
            assert requirement_holds(requirement, row, result)


def _as_wrong_as_allowed(real: np.ndarray, arithmetic: Arithmetic, rng: np.random.Generator) -> np.ndarray:
    """Results off by the relative error that is allowed; those below the smallest normal number are zero or it."""
    served = _SERVED[arithmetic]
    wrong = real * (1.0 + float(served.error) * rng.choice([-1.0, 1.0], real.shape))
    tiny = float(served.tiny)
    return np.where(real < tiny, rng.choice([0.0, tiny], real.shape), wrong)


def _just_so(wanted: Requirement, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The row, changed so that literals of the requirement only just hold, one after the other."""
    row = row.copy()
    for clause in wanted.clauses:
        literal = clause[int(rng.integers(len(clause)))]
        if len(literal.outputs) == 2:
            (first, factor), (second, _) = literal.outputs
            larger, smaller = (first, second) if factor > 0 else (second, first)
            row[larger] = np.nextafter(row[smaller] - float(literal.offset), np.inf)
    return row


@pytest.mark.parametrize("arithmetic", list(_SERVED))
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([1e-4, 1e-2, 1.0, 10.0, 70.0]))
def test_no_allowed_error_makes_a_proved_requirement_fail(arithmetic: Arithmetic, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    requirement = Requirement((tuple(_literal(rng) for _ in range(rng.integers(1, 3))),))
    _, wanted, _ = without_softmax(_graph(4), requirement, arithmetic)
    for _ in range(40):
        row = _just_so(wanted, rng.standard_normal(4) * spread, rng)
        if requirement_holds(wanted, row, row):
            powers = np.exp((row - row.max()).astype(np.longdouble))
            real = (powers / powers.sum()).astype(np.float64)
            assert requirement_holds(requirement, row, _as_wrong_as_allowed(real, arithmetic, rng))


@pytest.mark.parametrize("arithmetic", [each for each in _SERVED if each is not Arithmetic.IEEE64])
def test_results_rounded_as_declared_err_by_less_than_is_allowed(arithmetic: Arithmetic) -> None:
    rng, served = np.random.default_rng(2), _SERVED[arithmetic]
    rows = (rng.standard_normal((4000, 4)) * rng.uniform(0.1, 8, (4000, 1))).astype(np.float32)
    (answers,) = SESSION.run(None, {"x": rows})
    real = forward(Graph(_graph(4).signature, (1, 4), (Node(Softmax(), (0,), (1, 4)),)), rows.astype(np.float64))
    rounded = SIMULATED[arithmetic].result(answers).astype(np.float64)
    large = real >= float(served.tiny)
    assert (np.abs(rounded - real)[large] <= float(served.error) * 0.75 * real[large]).all()
    assert (rounded[~large] <= float(served.tiny)).all()


def test_of_a_softmax_in_float16_throughout_nothing_is_proved() -> None:
    with pytest.raises(InputError, match=r"ends in a softmax.* in ieee16 .*declare fp16"):
        without_softmax(_graph(4), Requirement(()), Arithmetic.IEEE16)


@pytest.mark.parametrize("factor", [-1, 1])
@pytest.mark.parametrize("share", [1 - Fraction(1, 10**390), Fraction(1, 10**390)])
def test_shares_hardly_from_none_or_all_are_understood(share: Fraction, factor: int) -> None:
    literal = Literal(terms({0: Fraction(factor)}), (), -factor * share, strict=True)
    scaled = Fraction(1) / (1 - 4 * _SERVED[Arithmetic.IEEE32].error)
    for each in (literal, dataclasses.replace(literal, offset=literal.offset * scaled)):
        without_softmax(_graph(4), Requirement(((each,),)), Arithmetic.IEEE32)


def test_orders_are_proved_a_little_apart() -> None:
    order = Requirement(((Literal(terms({0: Fraction(1), 1: Fraction(-1)}), (), Fraction(0), strict=True),),))
    _, wanted, _ = without_softmax(_graph(4), order, Arithmetic.IEEE32)
    assert requirement_holds(wanted, np.zeros(4), np.array([1.001, 1.0, 3.0, 0.0]))
    assert not requirement_holds(wanted, np.zeros(4), np.array([1.0, 1.0, 3.0, 0.0]))
    assert not requirement_holds(wanted, np.zeros(4), np.array([1.0, 0.0, 100.0, 0.0]))


def test_without_a_softmax_nothing_changes() -> None:
    graph = _graph(4)
    core = Graph(graph.signature, graph.shape, graph.nodes[:1])
    requirement = Requirement(())
    assert without_softmax(core, requirement, Arithmetic.IEEE16) == (core, requirement, True)


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
