"""Small ONNX models, one operator each, with attributes and shapes drawn by hypothesis."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Draw: TypeAlias = Callable[[Any], Any]
Constants: TypeAlias = dict[str, npt.NDArray[Any]]


def model_of(nodes: list[Any], constants: Constants, shape: tuple[Any, ...], opset: int) -> onnx.ModelProto:
    """A model from ``x`` of this shape to ``y``, whose shape is inferred."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0]
    model.graph.output[0].CopyFrom(inferred)
    return model


def numbers(draw: Draw, *shape: int) -> npt.NDArray[np.float32]:
    """Random float32 numbers."""
    return np.random.default_rng(draw(st.integers(0, 2**32))).standard_normal(shape).astype(np.float32)


def _sizes(draw: Draw, rank: int, least: int = 1, most: int = 5) -> list[int]:
    return draw(st.lists(st.integers(least, most), min_size=rank, max_size=rank))


def _window(draw: Draw, spatial: list[int], kernel: list[int], *, dilated: bool) -> dict[str, Any]:
    rank = len(spatial)
    attributes: dict[str, Any] = {"strides": _sizes(draw, rank, 1, 3)}
    dilations = _sizes(draw, rank, 1, 2) if dilated else [1] * rank
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    if dilated:
        attributes["dilations"] = dilations
    pads = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    short = [r > s + b + a for r, s, b, a in zip(reach, spatial, pads[:rank], pads[rank:], strict=True)]
    if any(short):  # so much padding that one window fits
        pads = [size - 1 for size in kernel * 2]
    automatic = max(dilations) == 1 and all(s <= k for s, k in zip(attributes["strides"], kernel, strict=True))
    choices = (
        [{"pads": pads}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}] if automatic else [{"pads": pads}]
    )
    return attributes | draw(st.sampled_from(choices))


def _image(draw: Draw) -> tuple[list[int], list[int]]:
    rank = draw(st.integers(1, 3))
    return _sizes(draw, rank, 1, 6 if rank < 3 else 3), _sizes(draw, rank, 1, 3)


def _conv(draw: Draw) -> onnx.ModelProto:
    spatial, kernel = _image(draw)
    groups, inner, outer = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    constants = {"w": numbers(draw, groups * outer, inner, *kernel)}
    if draw(st.booleans()):
        constants["b"] = numbers(draw, groups * outer)
    attributes = _window(draw, spatial, kernel, dilated=True)
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    node = helper.make_node("Conv", ["x", *constants], ["y"], group=groups, **attributes)
    return model_of([node], constants, (draw(st.integers(1, 2)), groups * inner, *spatial), 13)


def _pool(kind: str) -> Callable[[Draw], onnx.ModelProto]:
    def drawn(draw: Draw) -> onnx.ModelProto:
        spatial, kernel = _image(draw)
        attributes = _window(draw, spatial, kernel, dilated=False)
        if kind == "AveragePool":
            attributes["count_include_pad"] = draw(st.integers(0, 1))
        node = helper.make_node(kind, ["x"], ["y"], kernel_shape=kernel, **attributes)
        return model_of([node], {}, (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *spatial), 13)

    return drawn


def _global_average_pool(draw: Draw) -> onnx.ModelProto:
    return model_of([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {}, (1, 2, *_image(draw)[0]), 13)


def _batch_normalization(draw: Draw) -> onnx.ModelProto:
    channels, spatial = draw(st.integers(1, 3)), _image(draw)[0]
    constants = {name: numbers(draw, channels) for name in ("s", "b", "m")}
    constants["v"] = np.abs(numbers(draw, channels))
    epsilon = draw(st.sampled_from([1e-5, 1e-3]))
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=epsilon)
    return model_of([node], constants, (1, channels, *spatial), draw(st.sampled_from([9, 14, 15])))


def _broadcast(kind: str) -> Callable[[Draw], onnx.ModelProto]:
    """With a constant on either side that has fewer dimensions, or more."""

    def drawn(draw: Draw) -> onnx.ModelProto:
        shape = _sizes(draw, draw(st.integers(1, 4)), 1, 4)
        other = [size if draw(st.booleans()) else 1 for size in shape][draw(st.integers(0, len(shape) - 1)) :]
        if draw(st.integers(0, 3)) == 0:
            other = [2, *[1] * (len(shape) - len(other)), *other]
        constant = numbers(draw, *other)
        constant += np.copysign(0.1, constant, dtype=np.float32)
        names = ["x", "c"] if kind == "Div" or draw(st.booleans()) else ["c", "x"]
        return model_of([helper.make_node(kind, names, ["y"])], {"c": constant}, tuple(shape), 13)

    return drawn


def _joined(kind: str) -> Callable[[Draw], onnx.ModelProto]:
    """Two computed tensors, which may broadcast against each other."""

    def drawn(draw: Draw) -> onnx.ModelProto:
        shape = _sizes(draw, 3, 1, 3)
        factor = numbers(draw, *(size if draw(st.booleans()) else 1 for size in shape))
        nodes = [
            helper.make_node("Mul", ["x", "c"], ["h"]),
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Reshape", ["r", "s"], ["q"]),
            helper.make_node(kind, ["h", "q"], ["y"]),
        ]
        target = draw(st.sampled_from([shape, [1, *shape]]))
        return model_of(nodes, {"c": factor, "s": np.array(target)}, tuple(shape), 13)

    return drawn


def _concat(draw: Draw) -> onnx.ModelProto:
    shape = _sizes(draw, draw(st.integers(1, 3)), 1, 3)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    longer = list(shape)
    longer[axis] = draw(st.integers(1, 3))
    nodes = [helper.make_node("Relu", ["x"], ["r"])]
    parts = draw(st.lists(st.sampled_from(["x", "r", "c"]), min_size=1, max_size=4).filter(lambda p: set(p) != {"c"}))
    nodes.append(helper.make_node("Concat", parts, ["y"], axis=axis))
    return model_of(nodes, {"c": numbers(draw, *longer)}, tuple(shape), 13)


def _transpose(draw: Draw) -> onnx.ModelProto:
    shape = _sizes(draw, draw(st.integers(1, 4)), 1, 4)
    order = draw(st.permutations(range(len(shape))))
    attributes = draw(st.sampled_from([{}, {"perm": order}]))
    return model_of([helper.make_node("Transpose", ["x"], ["y"], **attributes)], {}, tuple(shape), 13)


def _matmul(draw: Draw) -> onnx.ModelProto:
    inner, stack = draw(st.integers(1, 4)), _sizes(draw, draw(st.integers(0, 2)), 1, 2)
    first = draw(st.sampled_from([[inner], [2, inner], [*stack, 3, inner]]))
    second = draw(st.sampled_from([[inner], [inner, 2], [*stack, inner, 1]]))
    swapped = draw(st.booleans())
    own, other = (second, first) if swapped else (first, second)
    names = ["c", "x"] if swapped else ["x", "c"]
    return model_of([helper.make_node("MatMul", names, ["y"])], {"c": numbers(draw, *other)}, tuple(own), 13)


def _gemm(draw: Draw) -> onnx.ModelProto:
    rows, inner, columns = _sizes(draw, 3, 1, 4)
    attributes = {name: draw(st.integers(0, 1)) for name in ("transA", "transB")}
    attributes |= draw(st.sampled_from([{}, {"alpha": 0.5}, {"alpha": -1.25, "beta": 2.0}]))
    first = [inner, rows] if attributes["transA"] else [rows, inner]
    second = [columns, inner] if attributes["transB"] else [inner, columns]
    swapped = draw(st.booleans())
    own, other = (second, first) if swapped else (first, second)
    constants = {"c": numbers(draw, *other)}
    names = ["c", "x"] if swapped else ["x", "c"]
    if draw(st.booleans()):
        constants["b"] = numbers(draw, *draw(st.sampled_from([[], [columns], [rows, 1], [rows, columns]])))
        names.append("b")
    return model_of([helper.make_node("Gemm", names, ["y"], **attributes)], constants, tuple(own), 13)


def _elementwise(kind: str, *attributes: dict[str, Any]) -> Callable[[Draw], onnx.ModelProto]:
    def drawn(draw: Draw) -> onnx.ModelProto:
        node = helper.make_node(kind, ["x"], ["y"], **draw(st.sampled_from(attributes or ({},))))
        return model_of([node], {}, tuple(_sizes(draw, draw(st.integers(1, 4)), 1, 4)), 9)

    return drawn


def _clip(draw: Draw) -> onnx.ModelProto:
    bounds = {"a": np.float32(-0.5), "b": np.float32(0.75)}
    names = draw(st.sampled_from([["x"], ["x", "a"], ["x", "a", "b"], ["x", "", "b"]]))
    return model_of([helper.make_node("Clip", names, ["y"])], bounds, (2, 3), 13)


def _softmax(draw: Draw) -> onnx.ModelProto:
    opset = draw(st.sampled_from([11, 13]))
    attributes = draw(st.sampled_from([{}, {"axis": 1}, {"axis": -1}]))
    return model_of([helper.make_node("Softmax", ["x"], ["y"], **attributes)], {}, (1, draw(st.integers(1, 6))), opset)


def _dropout(draw: Draw) -> onnx.ModelProto:
    node = helper.make_node("Dropout", ["x"], ["y"], ratio=0.25)
    return model_of([node], {}, tuple(_sizes(draw, 3, 1, 3)), 7)


def _reshape(draw: Draw) -> onnx.ModelProto:
    target = draw(st.sampled_from([[-1], [0, -1], [2, 2, -1], [0, 0, 6, 1]]))
    return model_of([helper.make_node("Reshape", ["x", "s"], ["y"])], {"s": np.array(target)}, (2, 2, 6), 13)


OPERATORS: dict[str, Callable[[Draw], onnx.ModelProto]] = {
    "Add": _broadcast("Add"),
    "Sub": _broadcast("Sub"),
    "Mul": _broadcast("Mul"),
    "Div": _broadcast("Div"),
    "Add of two": _joined("Add"),
    "Sub of two": _joined("Sub"),
    "AveragePool": _pool("AveragePool"),
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Clip by attributes": _elementwise("Clip", {}, {"min": -0.5}, {"max": 0.5}, {"min": -0.25, "max": 0.75}),
    "Concat": _concat,
    "Conv": _conv,
    "Dropout": _dropout,
    "Flatten": _elementwise("Flatten", {}, {"axis": 0}),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "LeakyRelu": _elementwise("LeakyRelu", {}, {"alpha": 0.25}),
    "MatMul": _matmul,
    "MaxPool": _pool("MaxPool"),
    "Relu": _elementwise("Relu"),
    "Reshape": _reshape,
    "Sigmoid": _elementwise("Sigmoid"),
    "Softmax": _softmax,
    "Tanh": _elementwise("Tanh"),
    "Transpose": _transpose,
}
"""By name; each draws a model."""
