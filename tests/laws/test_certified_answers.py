"""Law: whatever computes the verified model in real or in the declared arithmetic answers within the certified bounds,
and what computes it in a coarser one does not."""

import dataclasses
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.certified_answers import certified_answers
from sidecar.network.values import Affine, Layer, Network, Relu, forward
from sidecar.tensors import Datatype
from tests.laws.random_networks import datatype_of, exact_answer, random_network, served


def _wire_rows(rng: np.random.Generator, count: int, size: int, datatype: Datatype) -> np.ndarray:
    rows = rng.uniform(-1, 1, (count, size)) * 10.0 ** rng.uniform(-6, 3, (count, size))
    rows[rng.random(rows.shape) < 0.1] = 0.0
    return rows.astype(np.float32).astype(np.float64) if datatype is Datatype.FP32 else rows


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([0.0, 1.0, 3.0, 8.0, 14.0, 25.0]),
    arithmetic=st.sampled_from(Arithmetic),
)
def test_every_order_of_summation_answers_within_the_bounds(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    datatype, rng = datatype_of(arithmetic), np.random.default_rng(seed)
    network = random_network(rng, datatype, spread)
    inputs = _wire_rows(rng, 4, network.signature.input_size, datatype)
    lower, upper = certified_answers(network, arithmetic, inputs)
    answers = served(network, inputs, arithmetic, rng, 4)
    for row, point in enumerate(inputs):
        for column, exact in enumerate(exact_answer(network, point)):
            assert np.isneginf(lower[row, column]) or Fraction(lower[row, column]) <= exact
            assert np.isposinf(upper[row, column]) or exact <= Fraction(upper[row, column])
        if np.isfinite(lower[row]).all():
            assert all(((lower[row] <= each[row]) & (each[row] <= upper[row])).all() for each in answers)
    assert (np.isfinite(lower) == np.isfinite(upper)).all()


def _as_onnx(network: Network) -> bytes:
    """MatMul, Add and Relu, for batches."""
    nodes, constants, value = [], [], "x"
    for number, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            nodes.append(helper.make_node("Relu", [value], [f"h{number}"]))
        else:
            arrays = {f"w{number}": layer.weight.T, f"b{number}": layer.bias}
            constants += [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
            nodes.append(helper.make_node("MatMul", [value, f"w{number}"], [f"m{number}"]))
            nodes.append(helper.make_node("Add", [f"m{number}", f"b{number}"], [f"h{number}"]))
        value = f"h{number}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", network.signature.input_size), (value, network.signature.output_size))
    ]
    graph = helper.make_graph(nodes, "random", ends[:1], ends[1:], constants)
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.0, 1.0, 3.0, 8.0]))
def test_onnxruntime_answers_within_the_bounds_whatever_the_batch(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, Datatype.FP32, spread)
    inputs = _wire_rows(rng, 9, network.signature.input_size, Datatype.FP32)
    lower, upper = certified_answers(network, Arithmetic.IEEE32, inputs)
    session = onnxruntime.InferenceSession(_as_onnx(network), providers=["CPUExecutionProvider"])
    for size in (1, 4, 9):
        rows = inputs[:size]
        (answers,) = session.run(None, {"x": rows.astype(np.float32)})
        known = np.isfinite(lower[:size])
        assert ((lower[:size] <= answers) & (answers <= upper[:size]) | ~known).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_bounds_are_not_vacuous(seed: int) -> None:
    """On networks of ordinary magnitudes: at most a few thousand roundings of the largest sum in sight."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, Datatype.FP32, 0.0)
    inputs = rng.uniform(-1, 1, (8, network.signature.input_size)).astype(np.float32).astype(np.float64)
    lower, upper = certified_answers(network, Arithmetic.IEEE32, inputs)
    absolute = [
        dataclasses.replace(layer, weight=np.abs(layer.weight), bias=np.abs(layer.bias))
        if isinstance(layer, Affine)
        else layer
        for layer in network.layers
    ]
    magnitude = forward(dataclasses.replace(network, layers=tuple(absolute)), np.abs(inputs))
    assert ((upper - lower) <= magnitude * 4096 * 2.0**-24 + 1e-30).all()


def _with_fewer_bits(network: Network, bits: int) -> Network:
    """The network with weights rounded to so many bits behind the leading one."""

    def rounded(layer: Layer) -> Layer:
        if isinstance(layer, Relu):
            return layer
        fraction, exponent = np.frexp(layer.weight)
        return dataclasses.replace(layer, weight=np.ldexp(np.round(np.ldexp(fraction, bits + 1)), exponent - bits - 1))

    return dataclasses.replace(network, layers=tuple(map(rounded, network.layers)))


@pytest.mark.parametrize("format_and_bits", [("tf32", 10), ("bfloat16", 7)])
def test_coarser_weights_answer_outside_the_bounds(format_and_bits: tuple[str, int]) -> None:
    rng = np.random.default_rng(7)
    layers: list[Layer] = []
    for _ in range(4):
        weight = (rng.standard_normal((32, 32)) / 5).astype(np.float32).astype(np.float64)
        layers += [Affine(weight, np.full(32, 0.125), 33), Relu()]
    signature = random_network(rng, Datatype.FP32, 0.0).signature
    specs = [dataclasses.replace(spec, row_shape=(32,)) for spec in (*signature.inputs, *signature.outputs)]
    signature = dataclasses.replace(signature, inputs=(specs[0],), outputs=(specs[1],))
    network = Network(signature, tuple(layers[:-1]))
    inputs = rng.uniform(-1, 1, (16, 32)).astype(np.float32).astype(np.float64)
    lower, upper = certified_answers(network, Arithmetic.IEEE32, inputs)
    right, coarse = forward(network, inputs), forward(_with_fewer_bits(network, format_and_bits[1]), inputs)
    assert ((lower <= right) & (right <= upper)).all()
    assert ((coarse < lower) | (upper < coarse)).any(axis=1).all()
