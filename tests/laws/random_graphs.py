"""Random graphs of all operations, as ONNX models, and what they answer in exact and in coarse arithmetic."""

from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from sidecar.bundle.values import Arithmetic
from sidecar.network.graph import Graph, Node
from sidecar.network.operators.clip import Clip
from sidecar.network.operators.leaky_relu import LeakyRelu
from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import AffineMap, Elementwise, Floats, Shape
from sidecar.network.operators.relu import Relu
from tests.attack.arithmetics import SIMULATED
from tests.laws.onnx_models import Constants, model_of

Exact: TypeAlias = list[Fraction]


class _Building:
    """A model of images (1, 2, 4, 3), one operation after the other."""

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self.rng, self.scale = rng, scale
        self.nodes: list[Any] = []
        self.constants: Constants = {}
        self.last, self.shape = "x", (1, 2, 4, 3)

    def constant(self, *shape: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = (self.rng.standard_normal(shape) * self.scale).astype(np.float32)
        return name

    def then(self, kind: str, *others: str, **attributes: Any) -> str:
        result = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *others], [result], **attributes))
        self.last = result
        return result

    def conv(self, kernel: int) -> None:
        weight = self.constant(2, 2, kernel, kernel)
        self.then("Conv", weight, self.constant(2), pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2)

    def step(self, *, smooth: bool) -> None:
        """One or several operations that keep the shape."""
        kinds = ["conv", "residual", "pre-activation", "normalise", "shift", "concat", "turn", "pool", "mean"]
        kinds += ["Relu", "Relu", "LeakyRelu", "Clip"] + (["Sigmoid", "Tanh"] if smooth else [])
        kind, before = str(self.rng.choice(kinds)), self.last
        if kind == "conv":
            self.conv(3)
        elif kind == "residual":
            self.conv(3)
            self.then("Relu")
            self.conv(1)
            self.then("Add", before)
        elif kind == "pre-activation":
            self.conv(1)
            before = self.last
            self.then("Relu")
            self.then("Sub", before)
        elif kind == "normalise":
            spread = self.constant(2)
            self.constants[spread] = np.abs(self.constants[spread])
            self.then("BatchNormalization", self.constant(2), self.constant(2), self.constant(2), spread, epsilon=0.1)
        elif kind == "shift":
            self.then(str(self.rng.choice(["Add", "Sub", "Mul"])), self.constant(2, 1, 1))
        elif kind == "concat":
            self.then("Relu")
            self.then("Concat", before, axis=1)
            self.then("Conv", self.constant(2, 4, 1, 1))
        elif kind == "turn":
            self.then("Transpose", perm=[0, 1, 3, 2])
            self.then("MatMul", self.constant(4, 3))
            self.then("Transpose", perm=[0, 1, 3, 2])
            self.then("Conv", self.constant(2, 2, 1, 2), pads=[0, 0, 1, 1], strides=[1, 1])
            self.then("AveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1])
        elif kind == "pool":
            self.then("MaxPool", kernel_shape=[2, 3], pads=[0, 1, 1, 1])
        elif kind == "mean":
            self.then("AveragePool", kernel_shape=[3, 1], pads=[1, 0, 1, 0])
        elif kind == "Clip":
            self.constants |= {"least": np.float32(-0.5), "most": np.float32(0.75)}
            self.then("Clip", "least", "most")
        else:
            self.then(kind, **({"alpha": 0.125} if kind == "LeakyRelu" else {}))


def random_graph_model(rng: np.random.Generator, *, smooth: bool, scale: float = 0.6) -> onnx.ModelProto:
    """A model from 24 values to 3. ``smooth``: with sigmoid and tanh, which exact arithmetic cannot follow."""
    building = _Building(rng, scale)
    for _ in range(rng.integers(2, 6)):
        building.step(smooth=smooth)
    building.then("Flatten")
    building.constants["w"] = (rng.standard_normal((24, 3)) * scale).astype(np.float32)
    building.nodes.append(helper.make_node("Gemm", [building.last, "w"], ["y"]))
    return model_of(building.nodes, building.constants, (1, 2, 4, 3), 13)


def exact_outputs(graph: Graph, point: Floats) -> Exact:
    """The graph's outputs in real arithmetic; without sigmoid and tanh."""
    tensors = [[Fraction(value) for value in point]]
    for node in graph.nodes:
        tensors.append(_exact(graph, node, [tensors[operand] for operand in node.operands]))
    return tensors[-1]


def _exact(graph: Graph, node: Node, before: list[Exact]) -> Exact:
    operation, shapes = node.operation, [graph.shapes[operand] for operand in node.operands]
    if isinstance(operation, AffineMap):
        bias = operation.bias(node.shape)
        total = [Fraction(value) for value in (np.zeros(node.shape) if bias is None else bias).reshape(-1)]
        for number, values in enumerate(before):
            for output, row in enumerate(_matrix(operation, shapes, number)):
                total[output] += sum(
                    (Fraction(weight) * value for weight, value in zip(row, values, strict=True) if weight),
                    Fraction(0),
                )
        return total
    (values,) = before
    match operation:
        case Relu():
            return [max(value, Fraction(0)) for value in values]
        case LeakyRelu(alpha):
            return [max(value, Fraction(alpha) * value) for value in values]
        case Clip(least, most):
            return [min(max(value, Fraction(least)), Fraction(most)) for value in values]
        case MaxPool():
            places = operation.seen(np.arange(float(len(values))).reshape(1, *shapes[0]), -1.0)
            seen = np.moveaxis(places, 2, -1).reshape(-1, places.shape[2])
            return [max(values[int(place)] for place in row if place >= 0.0) for row in seen]
        case _:
            raise NotImplementedError(type(operation).__name__)


def _matrix(operation: AffineMap, shapes: list[Shape], number: int) -> npt.NDArray[np.float64]:
    size = int(np.prod(shapes[number]))
    tensors = [np.zeros((size, *shape)) for shape in shapes]
    tensors[number] = np.eye(size).reshape(size, *shapes[number])
    return operation.linear(*tensors).reshape(size, -1).T


def served_graph(graph: Graph, arithmetic: Arithmetic, points: Floats) -> Floats:
    """Outputs (row, output) in a coarse arithmetic: coefficients, operands and results are rounded to its format."""
    form = SIMULATED[arithmetic]
    cut = form.operands[-1]

    def operands(values: Floats) -> Floats:
        return cut(values).astype(np.float64).reshape(np.shape(values))

    def result(values: Floats) -> Floats:
        return form.result(values).astype(np.float64)

    tensors = [points.reshape(len(points), *graph.shape)]
    with np.errstate(over="ignore", invalid="ignore"):
        for node in graph.nodes:
            before = [tensors[place] for place in node.operands]
            match node.operation:
                case AffineMap(operations=0):
                    tensors.append(node.operation(*before))
                case AffineMap():
                    kept = node.operation.mapped(operands)
                    total, bias = result(kept.linear(*map(operands, before))), kept.bias(node.shape)
                    tensors.append(total if bias is None else result(total + bias))
                case Elementwise():
                    tensors.append(served_elementwise(node.operation, arithmetic, before[0]))
                case _:
                    tensors.append(node.operation(*before))
    return tensors[-1].reshape(len(points), -1)


def served_elementwise(operation: Elementwise, arithmetic: Arithmetic, values: Floats) -> Floats:
    """An operation's results in a coarse arithmetic; of float32 or float64 those of float64."""
    if arithmetic not in SIMULATED or arithmetic is Arithmetic.IEEE32:
        return operation(values)
    result = SIMULATED[arithmetic].result
    match operation:
        case Relu():
            return operation(values)
        case Clip(least, most):
            return values.clip(*result(np.array([least, most])).astype(np.float64))
        case LeakyRelu(alpha):
            kept = float(SIMULATED[arithmetic].operands[-1](np.array([alpha]))[0])
            return np.where(values > 0.0, values, result(kept * values).astype(np.float64))
        case _:
            return result(operation(values)).astype(np.float64)
