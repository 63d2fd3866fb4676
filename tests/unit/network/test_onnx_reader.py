"""The ONNX reader: every operator agrees with onnxruntime; what is not understood is refused with a clear message."""

import gzip
import hashlib
import pathlib
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.errors import InputError
from sidecar.network import onnx_reader
from sidecar.network.graph import Graph
from sidecar.network.onnx_reader import read_model
from sidecar.network.operators.application import Application, Flow, NodeError
from sidecar.network.operators.conv import Conv
from sidecar.network.operators.rules import RULES
from sidecar.network.operators.windows import Windows
from sidecar.network.values import Affine, forward
from sidecar.tensors import Datatype

RANDOM = np.random.default_rng(7)


def _array(*shape: int, dtype: Any = np.float32) -> Any:
    return RANDOM.standard_normal(shape).astype(dtype)


def _model(
    nodes: list[Any],
    constants: dict[str, Any],
    inputs: tuple[Any, ...],
    outputs: tuple[Any, ...] | None,
    opset: int = 13,
    elem: int = TensorProto.FLOAT,
    ir_version: int = 8,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, inputs)],
        [helper.make_tensor_value_info("y", elem, outputs or ("p", "q"))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    if outputs is None:
        _infer_output(model)
    return model


def _infer_output(model: onnx.ModelProto) -> None:
    """Declare the output as ONNX infers it, where it can."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    free.graph.output[0].type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(free, data_prop=True).graph.output[0]
    except onnx.shape_inference.InferenceError:
        return
    if inferred.type.tensor_type.HasField("shape"):
        model.graph.output[0].CopyFrom(inferred)


def _written(folder: pathlib.Path, model: onnx.ModelProto) -> pathlib.Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), ["y"], name="n", **attributes)


I64 = np.int64
SINGLE = {
    "add": (_node("Add", "x", "c"), {"c": _array(3, 4)}, (3, 4), 13),
    "add a constant in front": (_node("Add", "c", "x"), {"c": _array(4)}, (1, 4), 13),
    "add that broadcasts the input": (_node("Add", "x", "c"), {"c": _array(2, 3, 4)}, (1, 4), 13),
    "sub": (_node("Sub", "x", "c"), {"c": _array(1, 1, 1, 5)}, (1, 1, 1, 5), 8),
    "sub from a constant": (_node("Sub", "c", "x"), {"c": _array(3, 1)}, (1, 4), 13),
    "mul": (_node("Mul", "x", "c"), {"c": _array(4)}, (2, 4), 13),
    "mul by a scalar": (_node("Mul", "c", "x"), {"c": np.float32(-2.5)}, (2, 4), 13),
    "relu": (_node("Relu", "x"), {}, (2, 4), 13),
    "identity": (_node("Identity", "x"), {}, (2, 4), 13),
    "matmul": (_node("MatMul", "x", "c"), {"c": _array(4, 3)}, (1, 4), 13),
    "matmul over several rows": (_node("MatMul", "x", "c"), {"c": _array(4, 3)}, (5, 4), 13),
    "matmul of a vector": (_node("MatMul", "x", "c"), {"c": _array(4)}, (2, 4), 13),
    "matmul from the left": (_node("MatMul", "c", "x"), {"c": _array(3, 5)}, (5, 4), 13),
    "matmul stacked": (_node("MatMul", "x", "c"), {"c": _array(3, 4, 2)}, (3, 1, 4), 13),
    "gemm": (_node("Gemm", "x", "w", "b"), {"w": _array(4, 3), "b": _array(3)}, (2, 4), 13),
    "gemm without bias": (_node("Gemm", "x", "w"), {"w": _array(4, 3)}, (2, 4), 13),
    "gemm transB": (_node("Gemm", "x", "w", "b", transB=1), {"w": _array(3, 4), "b": _array(1, 3)}, (1, 4), 13),
    "gemm transA": (_node("Gemm", "x", "w", "b", transA=1), {"w": _array(2, 3), "b": _array(4, 1)}, (2, 4), 13),
    "gemm both": (
        _node("Gemm", "x", "w", "b", transA=1, transB=1, alpha=0.3, beta=-1.7),
        {"w": _array(3, 2), "b": np.float32(0.5)},
        (2, 4),
        13,
    ),
    "gemm alpha": (_node("Gemm", "x", "w", alpha=0.1), {"w": _array(4, 3)}, (1, 4), 13),
    "gemm with a constant in front": (
        _node("Gemm", "w", "x", "b", alpha=2.0, transA=1),
        {"w": _array(2, 3), "b": _array(4)},
        (2, 4),
        13,
    ),
    "gemm constant front transB": (_node("Gemm", "w", "x", transB=1), {"w": _array(3, 4)}, (2, 4), 13),
    "conv without padding, by name": (
        _node("Conv", "x", "w", auto_pad="VALID"),
        {"w": _array(2, 1, 2, 2)},
        (1, 1, 3, 3),
        13,
    ),
    "flatten": (_node("Flatten", "x"), {}, (2, 3, 4), 13),
    "flatten axis 0": (_node("Flatten", "x", axis=0), {}, (2, 3, 4), 13),
    "flatten axis -1": (_node("Flatten", "x", axis=-1), {}, (2, 3, 4), 13),
    "flatten all": (_node("Flatten", "x", axis=3), {}, (2, 3, 4), 13),
    "reshape": (_node("Reshape", "x", "s"), {"s": np.array([0, -1], I64)}, (2, 3, 4), 13),
    "reshape to a vector": (_node("Reshape", "x", "s"), {"s": np.array([24], I64)}, (2, 3, 4), 13),
    "squeeze": (_node("Squeeze", "x"), {}, (1, 3, 1, 4), 13),
    "squeeze axes": (_node("Squeeze", "x", "a"), {"a": np.array([0, -2], I64)}, (1, 3, 1, 4), 13),
    "squeeze axes attribute": (_node("Squeeze", "x", axes=[0]), {}, (1, 3, 1, 4), 11),
    "unsqueeze": (_node("Unsqueeze", "x", "a"), {"a": np.array([0, -1], I64)}, (3, 4), 13),
    "unsqueeze attribute": (_node("Unsqueeze", "x", axes=[1]), {}, (3, 4), 11),
}


@pytest.mark.parametrize("name", SINGLE)
def test_each_operator_agrees_with_onnxruntime(name: str, tmp_path: pathlib.Path) -> None:
    node, constants, shape, opset = SINGLE[name]
    path = _written(tmp_path, _model([node], constants, shape, None, opset))
    model = read_model(path)
    session = onnxruntime.InferenceSession(model.content)
    spec = model.network.signature.inputs[0]
    assert (spec.row_shape, model.network.signature.batch_axis) == (shape, None)
    for _ in range(3):
        value = _array(*shape)
        (expected,) = session.run(None, {"x": value})
        assert model.network.signature.outputs[0].row_shape == expected.shape
        got = forward(model.network, value.reshape(1, -1).astype(np.float64))
        np.testing.assert_allclose(got, expected.reshape(1, -1), rtol=2e-6, atol=2e-6)


BATCHED = {
    "dense": (
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"]),
        ],
        {"w": _array(6, 4), "b": _array(6), "v": _array(6, 2)},
        (4,),
    ),
    "image": (
        [
            helper.make_node("Sub", ["x", "m"], ["c"]),
            helper.make_node("MatMul", ["k", "c"], ["d"]),
            helper.make_node("Reshape", ["d", "s"], ["f"]),
            helper.make_node("Unsqueeze", ["f", "a"], ["u"]),
            helper.make_node("Squeeze", ["u", "a"], ["q"]),
            helper.make_node("Add", ["q", "b"], ["y"]),
        ],
        {
            "m": _array(1, 2, 3),
            "k": _array(4, 2),
            "s": np.array([0, -1], I64),
            "a": np.array([1], I64),
            "b": _array(1, 12),
        },
        (2, 3),
    ),
    "flatten": ([helper.make_node("Flatten", ["x"], ["y"])], {}, (2, 3)),
    "bias that broadcasts": ([helper.make_node("Add", ["c", "x"], ["y"])], {"c": _array(1)}, (3,)),
}


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("elem", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_symbolic_first_dimension_counts_rows(name: str, elem: int, tmp_path: pathlib.Path) -> None:
    nodes, constants, row = BATCHED[name]
    dtype = helper.tensor_dtype_to_np_dtype(elem)
    typed = {key: value.astype(dtype) if value.dtype.kind == "f" else value for key, value in constants.items()}
    model = read_model(_written(tmp_path, _model(nodes, typed, ("n", *row), None, elem=elem)))
    signature = model.network.signature
    assert (signature.batch_axis, signature.inputs[0].row_shape) == (0, row)
    assert signature.inputs[0].datatype is (Datatype.FP32 if elem == TensorProto.FLOAT else Datatype.FP64)
    value = _array(5, *row, dtype=dtype)
    (expected,) = onnxruntime.InferenceSession(model.content).run(None, {"x": value})
    assert expected.shape == (5, *signature.outputs[0].row_shape)
    got = forward(model.network, value.reshape(5, -1).astype(np.float64))
    np.testing.assert_allclose(got, expected.reshape(5, -1), rtol=1e-5, atol=1e-6)


def test_constant_nodes_are_constants(tmp_path: pathlib.Path) -> None:
    weight = _array(4, 2)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = read_model(_written(tmp_path, _model(nodes, {}, (1, 4), (1, 2))))
    (layer,) = model.network.layers
    assert isinstance(layer, Affine)
    assert (layer.weight == weight.T.astype(np.float64)).all()


def test_weights_listed_among_the_inputs_are_no_inputs(tmp_path: pathlib.Path) -> None:
    proto = _model([_node("MatMul", "x", "w")], {"w": _array(4, 2)}, (1, 4), (1, 2), opset=8, ir_version=3)
    proto.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 2)))
    assert read_model(_written(tmp_path, proto)).network.signature.input_size == 4


def test_operations_count_the_terms_of_each_sum(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "m"], ["a"]),
        helper.make_node("Gemm", ["a", "w", "b"], ["c"]),
        helper.make_node("Gemm", ["c", "v", "d"], ["e"], alpha=0.5, beta=2.0),
        helper.make_node("Mul", ["e", "m"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {"m": np.float32(2), "w": _array(4, 4), "b": _array(4), "v": _array(4, 4), "d": _array(4)}
    network = read_model(_written(tmp_path, _model(nodes, constants, (1, 4), (1, 4)))).network
    assert [layer.operations for layer in network.layers if isinstance(layer, Affine)] == [2, 5, 4, 1, 3, 1, 4]


def test_a_compressed_file_is_the_same_model(tmp_path: pathlib.Path) -> None:
    path = _written(tmp_path, _model([_node("Relu", "x")], {}, (1, 4), (1, 4)))
    packed = tmp_path / "other.onnx.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain, unpacked = read_model(path), read_model(packed)
    assert plain.content == unpacked.content
    assert plain.digest == unpacked.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (plain.name, unpacked.name) == ("m", "other")


def test_acas_xu_agrees_with_onnxruntime(acasxu: pathlib.Path) -> None:
    model = read_model(acasxu / "ACASXU_run2a_2_9_batch_2000.onnx")
    signature = model.network.signature
    assert (signature.inputs[0].row_shape, signature.outputs[0].row_shape) == ((1, 1, 1, 5), (1, 5))
    assert signature.batch_axis is None
    session = onnxruntime.InferenceSession(model.content)
    values = RANDOM.uniform(-0.5, 0.5, (50, 5)).astype(np.float32)
    expected = np.concatenate([session.run(None, {"input": row.reshape(1, 1, 1, 5)})[0] for row in values])
    np.testing.assert_allclose(forward(model.network, values.astype(np.float64)), expected, atol=1e-5)


def _two_inputs() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    proto.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 4)))
    return proto


def _two_outputs() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    proto.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4)))
    return proto


def _external() -> onnx.ModelProto:
    proto = _model([_node("MatMul", "x", "w")], {"w": _array(4, 2)}, (1, 4), (1, 2))
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.ClearField("raw_data")
    return proto


def _sparse() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return proto


def _constant_output() -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(_array(1, 4)))]
    return _model(nodes, {}, (1, 4), (1, 4))


def _floats_constant() -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["c"], value_floats=[1.0] * 4), _node("Add", "x", "c")]
    return _model(nodes, {}, (1, 4), (1, 4))


def _external_constant() -> onnx.ModelProto:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    nodes = [helper.make_node("Constant", [], ["c"], name="n", value=tensor), _node("Add", "x", "c")]
    return _model(nodes, {}, (1, 4), (1, 4))


def _other_output_type() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return proto


def _functions() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto.functions.append(helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("", 13)]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto


def _single(node: Any, shape: tuple[Any, ...], opset: int = 13, **constants: Any) -> onnx.ModelProto:
    return _model([node], constants, shape, None, opset)


def _product_of_two() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Mul", ["x", "r"], ["y"], name="join")]
    return _model(nodes, {}, (1, 4), (1, 4))


def _softmax_inside() -> onnx.ModelProto:
    nodes = [helper.make_node("Softmax", ["x"], ["r"], axis=1), helper.make_node("Relu", ["r"], ["y"])]
    return _model(nodes, {}, (1, 4), (1, 4))


def _constants_only() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["c", "c"], ["d"], name="n"), helper.make_node("Add", ["x", "d"], ["y"])]
    return _model(nodes, {"c": _array(4)}, (1, 4), (1, 4))


def _conv(shape: tuple[int, ...], weight: tuple[int, ...], bias: int = 0, **attributes: Any) -> onnx.ModelProto:
    constants = {"w": _array(*weight)} | ({"b": _array(bias)} if bias else {})
    return _model([_node("Conv", "x", *constants, **attributes)], constants, shape, (1, 1, 3), 13)


def _sum_over_the_batch() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
        helper.make_node("Add", ["x", "u"], ["y"]),
    ]
    return _model(nodes, {"a": np.array([1])}, ("n", 2), ("n", 1, 2))


def _second_result() -> onnx.ModelProto:
    """The mask of a Dropout stands where a bias may be left out."""
    nodes = [
        helper.make_node("Dropout", ["x"], ["d", "mask"]),
        helper.make_node("Gemm", ["d", "w", "mask"], ["y"], name="n"),
    ]
    return _model(nodes, {"w": _array(4, 4)}, (1, 4), (1, 4), opset=9)


def _normalized(
    channels: int = 2, variance: float = 1.0, shape: tuple[int, ...] = (1, 2), **attributes: Any
) -> onnx.ModelProto:
    constants = {name: _array(channels) for name in "sbm"} | {"v": np.full(channels, variance, np.float32)}
    node = helper.make_node("BatchNormalization", ["x", *constants], ["y"], name="n", **attributes)
    return _model([node], constants, shape, shape, 14)


def _with_initializer(**fields: Any) -> onnx.ModelProto:
    proto = _model([_node("MatMul", "x", "w")], {}, (1, 2), (1, 2))
    proto.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], **fields))
    return proto


def _constant_without_value() -> onnx.ModelProto:
    return _model([helper.make_node("Constant", [], ["c"]), _node("Add", "x", "c")], {}, (1, 4), (1, 4))


def _attribute_of_a_function() -> onnx.ModelProto:
    proto = _model([_node("Gemm", "x", "w")], {"w": _array(4, 2)}, (1, 4), (1, 2))
    proto.graph.node[0].attribute.add(name="alpha", ref_attr_name="a", type=onnx.AttributeProto.FLOAT)
    return proto


def _broadcast_by_attributes() -> onnx.ModelProto:
    """Up to opset 6 the constant lies along ``axis``, not along the last dimensions."""
    node = helper.make_node("Add", ["x", "c"], ["y"], broadcast=1, axis=1)
    proto = _model([node], {"c": _array(3)}, (1, 3, 3), (1, 3, 3), opset=6, ir_version=3)
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, (3,)))
    return proto


def _two_opsets() -> onnx.ModelProto:
    proto = _model([_node("Relu", "x")], {}, (1, 4), (1, 4))
    proto.opset_import.append(helper.make_opsetid("", 9))
    return proto


NAN, INFINITE = np.array([1, np.nan], np.float32), np.array([1, np.inf], np.float32)
REFUSED = {
    "several inputs": (_two_inputs, "2 inputs .x, z."),
    "several outputs": (_two_outputs, "2 outputs .y, x."),
    "external data": (_external, "weight 'w' lies in another file"),
    "sparse weights": (_sparse, "sparse"),
    "functions": (_functions, "functions of its own"),
    "an operator set that broadcasts by attributes": (_broadcast_by_attributes, "opset 6; expected one from 7"),
    "an operator set of the future": (lambda: _model([_node("Relu", "x")], {}, (1, 4), (1, 4), opset=99), "opset 99"),
    "two operator sets": (_two_opsets, "opset 13, 9"),
    "too many weights": (lambda: _with_initializer(float_data=[1.0] * 6), "a constant that cannot be read"),
    "weights in segments": (
        lambda: _with_initializer(float_data=[1.0] * 4, segment=TensorProto.Segment(begin=0, end=2)),
        "a constant that cannot be read",
    ),
    "constant without a value": (_constant_without_value, "gives its value as nothing"),
    "attribute of a function": (_attribute_of_a_function, "takes its attribute 'alpha' from a function"),
    "input without values": (lambda: _single(_node("Relu", "x"), (0, 4)), "holds no values"),
    "input beyond the limit": (
        lambda: _model([_node("MatMul", "x", "c")], {"c": _array(2, 2)}, (1, 10**12, 2), (1, 10**12, 2)),
        "values to compute with",
    ),
    "squeeze by computed axes": (lambda: _model([_node("Squeeze", "c", "x")], {"c": _array(1, 2)}, (1,), (2,)), "axes"),
    "scalar input": (lambda: _single(_node("Relu", "x"), ()), "is a scalar"),
    "output that is a constant": (_constant_output, "does not depend on the input"),
    "constant that is no tensor": (_floats_constant, "value_floats"),
    "output of another type": (_other_output_type, "another type"),
    "product of two": (_product_of_two, r"node 'join' \(Mul, opset 13\) combines 2 computed tensors"),
    "softmax inside": (_softmax_inside, "the result of a Softmax; expected it last"),
    "constants only": (_constants_only, "combines constants only"),
    "negative pads": (lambda: _conv((1, 1, 3), (1, 1, 1), pads=[-1, 0]), "pads of zero or more"),
    "pads beyond the limit": (lambda: _conv((1, 1, 3), (1, 1, 1), pads=[2**40, 0]), "places"),
    "a window that does not fit": (lambda: _conv((1, 1, 3), (1, 1, 4)), "no window of shape"),
    "conv channels": (lambda: _conv((1, 2, 3), (1, 3, 1)), "they do not fit"),
    "conv bias": (lambda: _conv((1, 1, 3), (2, 1, 1), bias=3), "has a bias of shape"),
    "conv kernel": (lambda: _conv((1, 1, 3), (1, 1, 1), kernel_shape=[2]), "kernel .2,."),
    "conv strides": (lambda: _conv((1, 1, 3), (1, 1, 1), strides=[1, 1]), "for 1 dimensions"),
    "conv padding by name": (lambda: _conv((1, 1, 3), (1, 1, 1), auto_pad="OTHER"), "auto_pad 'OTHER'"),
    "conv of a matrix": (lambda: _single(_node("Conv", "x", "w"), (1, 3), w=_array(1, 1)), "n, channels, spatial"),
    "conv of computed weights": (
        lambda: _single(_node("Conv", "w", "x"), (1, 1, 1), w=_array(1, 1, 3)),
        "computes with operand 1",
    ),
    "pool that rounds up": (
        lambda: _single(_node("MaxPool", "x", kernel_shape=[2], strides=[2], ceil_mode=1), (1, 1, 3)),
        "ceil_mode = 1",
    ),
    "pool that sees padding only": (
        lambda: _single(_node("MaxPool", "x", kernel_shape=[1], pads=[1, 0]), (1, 1, 3)),
        "nothing but padding",
    ),
    "division by the input": (lambda: _single(_node("Div", "c", "x"), (1, 2), c=_array(2)), "constant divisor"),
    "division by zero": (
        lambda: _single(_node("Div", "x", "c"), (1, 2), c=np.array([1, 0], np.float32)),
        "expected divisors",
    ),
    "bounds that are computed": (
        lambda: _model([helper.make_node("Squeeze", ["x"], ["s"]), _node("Clip", "x", "s")], {}, (1, 1), (1, 1)),
        "combines 2 computed tensors",
    ),
    "second result": (
        lambda: _model(
            [
                helper.make_node("MaxPool", ["x"], ["m", "i"], kernel_shape=[1]),
                helper.make_node("Identity", ["i"], ["j"]),
                _node("Relu", "m"),
            ],
            {},
            (1, 1, 3),
            (1, 1, 3),
        ),
        "a second result of a node",
    ),
    "matmul by a number of one row": (
        lambda: _single(_node("MatMul", "x", "c"), (4,), c=np.float32(2)),
        "multiplies by a number",
    ),
    "too many values": (
        lambda: _single(_node("MatMul", "x", "c"), (1, 60_000, 1), c=_array(1, 60_000)),
        "gives 3600000000 values",
    ),
    "sum over the batch": (_sum_over_the_batch, "mixes the batch"),
    "join along the batch": (
        lambda: _single(_node("Concat", "x", "x", axis=0), ("n", 2)),
        "joins a batch along its rows",
    ),
    "join with one row": (
        lambda: _single(_node("Concat", "x", "c", axis=1), ("n", 2), c=_array(1, 2)),
        "constants of one row",
    ),
    "join of unlike shapes": (lambda: _single(_node("Concat", "x", "c", axis=1), (1, 2), c=_array(2, 2)), "do not fit"),
    "join along no dimension": (lambda: _single(_node("Concat", "x", "c", axis=1), (1, 2), c=_array(2)), "for rank 1"),
    "order of dimensions": (lambda: _single(_node("Transpose", "x", perm=[1, 0]), ("n", 2)), "moves the batch"),
    "order that is none": (lambda: _single(_node("Transpose", "x", perm=[0, 0]), (1, 2)), "orders dimensions"),
    "second result of a node": (_second_result, r"node 'n' \(Gemm, opset 9\) computes with 'mask', a second result"),
    "training": (lambda: _normalized(training_mode=1), "training mode"),
    "variance": (lambda: _normalized(variance=-1.0), "expected a positive sum"),
    "channels to normalise": (lambda: _normalized(channels=3), "one number per channel"),
    "one value to normalise": (lambda: _normalized(shape=(2,)), r"expected \(n, channels"),
    "dropout in training": (
        lambda: _single(_node("Dropout", "x", "", "t"), (1, 2), t=np.array(True)),
        "in training mode",
    ),
    "steep slope": (lambda: _single(_node("LeakyRelu", "x", alpha=1.5), (1, 2)), "alpha = 1.5"),
    "bounds out of order": (lambda: _single(_node("Clip", "x", min=1.0, max=0.0), (1, 2), opset=7), "in order"),
    "bounds that are many": (lambda: _single(_node("Clip", "x", "c"), (1, 2), c=_array(2)), "expected one number"),
    "computed bounds": (lambda: _model([_node("Clip", "x", "x")], {}, (1,), (1,)), "combines 2 computed"),
    "softmax per row": (lambda: _single(_node("Softmax", "x"), (2, 3)), "one softmax over all"),
    "unknown operator": (lambda: _single(_node("Softplus", "x"), (1, 4)), r"node 'n' \(Softplus, opset 13\)"),
    "operator of another domain": (lambda: _single(_node("Relu", "x", domain="own"), (1, 4)), "not a valid|supported"),
    "integer input": (
        lambda: _model([_node("Identity", "x")], {}, (1, 4), (1, 4), elem=TensorProto.INT64),
        "of type INT64",
    ),
    "dynamic inner dimension": (lambda: _single(_node("Relu", "x"), (1, "k")), "only the first dimension"),
    "NaN weight": (lambda: _single(_node("Add", "x", "c"), (1, 2), c=NAN), "NaN or infinite"),
    "infinite weight": (lambda: _single(_node("Mul", "x", "c"), (1, 2), c=INFINITE), "NaN or infinite"),
    "weight of another type": (
        lambda: _single(_node("Add", "x", "c"), (1, 2), c=np.ones(2, np.float64)),
        "constant of type float64",
    ),
    "integer weight": (lambda: _single(_node("Add", "x", "c"), (1, 2), c=np.ones(2, np.int64)), "type int64"),
    "shapes that do not fit": (
        lambda: _single(_node("MatMul", "x", "c"), (1, 4), c=_array(3, 2)),
        "shapes that do not fit",
    ),
    "elementwise shapes": (lambda: _single(_node("Add", "x", "c"), (1, 4), c=_array(3)), "shapes that do not fit"),
    "gemm of a cube": (lambda: _single(_node("Gemm", "x", "c"), (1, 2, 4), c=_array(4, 3)), "two matrices"),
    "gemm bias": (
        lambda: _single(_node("Gemm", "x", "c", "b"), (1, 4), c=_array(4, 3), b=_array(2)),
        "broadcasts to",
    ),
    "gemm adds the input": (
        lambda: _single(_node("Gemm", "c", "d", "x"), (1, 3), c=_array(1, 4), d=_array(4, 3)),
        "adds a computed tensor",
    ),
    "gemm over the batch": (
        lambda: _single(_node("Gemm", "x", "c", transA=1), ("n", 4), c=_array(1, 3)),
        "over the batch",
    ),
    "gemm bias per row": (
        lambda: _single(_node("Gemm", "x", "c", "b"), ("n", 4), c=_array(4, 3), b=_array(2, 3)),
        "per row of the batch",
    ),
    "gemm with an infinite factor": (
        lambda: _single(_node("Gemm", "x", "c", alpha=float("inf")), (1, 4), c=_array(4, 3)),
        "expected finite ones",
    ),
    "gemm with a scaled bias in float64": (
        lambda: _model(
            [_node("Gemm", "x", "c", "b", beta=0.1)],
            {"c": _array(4, 3, dtype=np.float64), "b": _array(3, dtype=np.float64)},
            (1, 4),
            (1, 3),
            elem=TensorProto.DOUBLE,
        ),
        "expected beta = 1",
    ),
    "constant per row": (lambda: _single(_node("Add", "x", "c"), ("n", 4), c=_array(2, 4)), "mixes the batch"),
    "constant above the batch": (
        lambda: _single(_node("Mul", "x", "c"), ("n", 4), c=_array(1, 1, 4)),
        "reaches beyond the batch",
    ),
    "matmul on the batch": (lambda: _single(_node("MatMul", "c", "x"), ("n", 4), c=_array(2, 1)), "over the batch"),
    "matmul of numbers": (lambda: _single(_node("MatMul", "x", "c"), ("n",), c=_array(1)), "over the batch"),
    "shape that is computed": (
        lambda: _single(_node("Reshape", "c", "x"), (2,), c=_array(4)),
        "needs a constant shape",
    ),
    "external constant": (_external_constant, "weight 't' lies in another file"),
    "matmul per row": (
        lambda: _single(_node("MatMul", "x", "c"), ("n", 2, 4), c=_array(3, 4, 2)),
        "mixes the batch",
    ),
    "flatten the batch": (lambda: _single(_node("Flatten", "x", axis=2), ("n", 2, 4)), "keeps the rows apart"),
    "flatten axis": (lambda: _single(_node("Flatten", "x", axis=5), (1, 2)), "axis 5"),
    "reshape the batch": (
        lambda: _single(_node("Reshape", "x", "s"), ("n", 4), s=np.array([1, 4], I64)),
        "keeps the rows apart",
    ),
    "reshape rows together": (
        lambda: _single(_node("Reshape", "x", "s"), ("n", 4), s=np.array([-1, 2], I64)),
        "mixes the batch",
    ),
    "reshape to another size": (
        lambda: _single(_node("Reshape", "x", "s"), (1, 4), s=np.array([1, 5], I64)),
        "sizes differ",
    ),
    "reshape to zero": (
        lambda: _single(_node("Reshape", "x", "s", allowzero=1), (1, 4), opset=14, s=np.array([0, 4], I64)),
        "empty tensor",
    ),
    "reshape copying too much": (
        lambda: _single(_node("Reshape", "x", "s"), (1, 4), s=np.array([1, 4, 0], I64)),
        "does not have",
    ),
    "reshape twice unknown": (
        lambda: _single(_node("Reshape", "x", "s"), (1, 4), s=np.array([-1, -1], I64)),
        "at most one -1",
    ),
    "squeeze the batch": (lambda: _single(_node("Squeeze", "x"), ("n", 4)), "expected axes"),
    "squeeze a real dimension": (
        lambda: _single(_node("Squeeze", "x", "a"), (1, 4), a=np.array([1], I64)),
        "expected size one",
    ),
    "squeeze axis": (lambda: _single(_node("Squeeze", "x", "a"), (1, 4), a=np.array([7], I64)), "axis 7"),
    "unsqueeze before the batch": (
        lambda: _single(_node("Unsqueeze", "x", "a"), ("n", 4), a=np.array([0], I64)),
        "after the batch",
    ),
    "declared output shape": (lambda: _model([_node("Relu", "x")], {}, (1, 4), (1, 5)), "computed with shape"),
    "declared output rank": (lambda: _model([_node("Relu", "x")], {}, ("n", 4), (4,)), "computed with shape"),
    "output of a fixed batch": (lambda: _model([_node("Relu", "x")], {}, ("n", 4), (1, 4)), "computed with shape"),
}


@pytest.mark.parametrize("defect", REFUSED)
def test_what_is_not_understood_is_refused(defect: str, tmp_path: pathlib.Path) -> None:
    build, message = REFUSED[defect]
    path = _written(tmp_path, build())
    with pytest.raises(InputError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wide_input_takes_no_square_of_memory(tmp_path: pathlib.Path) -> None:
    path = _written(tmp_path, _model([_node("MatMul", "x", "w")], {"w": _array(60_000, 1)}, (1, 60_000), (1, 1)))
    (layer,) = read_model(path).network.layers
    assert isinstance(layer, Affine)
    assert layer.weight.shape == (1, 60_000)


@pytest.mark.parametrize(
    ("node", "width", "answer"), [(_node("Mul", "x", "c"), 9000, 2.0), (_node("LeakyRelu", "x", alpha=0.5), 2000, 1.0)]
)
def test_what_would_need_too_large_a_matrix_stays_a_graph(
    node: Any, width: int, answer: float, tmp_path: pathlib.Path
) -> None:
    path = _written(tmp_path, _single(node, (1, width), c=np.float32(2)))
    network = read_model(path).network
    assert isinstance(network, Graph)
    assert (forward(network, np.ones((1, width))) == answer).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [("broken.onnx", b"\x00\x01nonsense"), ("empty.onnx", b""), ("broken.onnx.gz", b"no gzip"), ("missing.onnx", None)],
)
def test_a_broken_file_is_refused(name: str, content: bytes | None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_model(path)


def test_a_truncated_compressed_file_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cut.onnx.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:-6])
    with pytest.raises(InputError, match="cannot read the model"):
        read_model(path)


def test_decompression_stops_at_the_limit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_reader, "MODEL_LIMIT_BYTES", 1000)
    path = tmp_path / "bomb.onnx.gz"
    path.write_bytes(gzip.compress(b"\0" * 10_000_000))
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        read_model(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Add", "one constant operand"),
        ("Unsqueeze", "needs axes"),
        ("Conv", "needs a constant as operand 1"),
        ("Concat", "no operand 1"),
    ],
)
def test_a_rule_refuses_an_operand_that_is_missing(kind: str, message: str) -> None:
    """The ONNX checker refuses such a file; the rule does not rely on it."""
    with pytest.raises(NodeError, match=message):
        RULES[kind](Application({"axis": 1}, (Flow(0, (1, 4, 4), batched=False), None), 11))


def test_an_operation_refuses_a_shape_that_its_reader_would_have_refused() -> None:
    conv = Conv(np.ones((1, 1, 8)), None, Windows((2, 2), (1, 1), (1, 1), (0, 0), (0, 0)))
    with pytest.raises(ValueError, match="3 channels, where the weights are for 8 values in a window"):
        conv.shape((1, 3, 3, 3))
    with pytest.raises(ValueError, match="over dimensions"):
        conv.windows.places((3,))


def test_a_pool_that_would_round_up_and_has_nothing_to_round_is_understood(tmp_path: pathlib.Path) -> None:
    path = _written(tmp_path, _single(_node("MaxPool", "x", kernel_shape=[2], strides=[2], ceil_mode=1), (1, 1, 4)))
    assert forward(read_model(path).network, np.array([[1.0, 4.0, 3.0, 2.0]])).tolist() == [[4.0, 3.0]]


def test_a_network_value_checks_its_layers() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Affine(np.ones((2, 3)), np.zeros(3), 4)
    with pytest.raises(ValueError, match="finite"):
        Affine(np.full((2, 3), np.inf), np.zeros(2), 4)
