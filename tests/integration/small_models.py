"""One small network as ONNX files: the verified model, and what a probe has to tell from it."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper, numpy_helper

NAME = "small"
SIZES = (5, 24, 24, 5)


def _as_they_are(weights: np.ndarray) -> np.ndarray:
    return weights


def with_tf32_weights(weights: np.ndarray) -> np.ndarray:
    """Ten bits behind the leading one are left."""
    fraction, exponent = np.frexp(weights.astype(np.float64))
    return np.ldexp(np.round(fraction * 2.0**11), exponent - 11).astype(np.float32)


def fine_tuned(weights: np.ndarray) -> np.ndarray:
    """Each weight off by about 0.1 %."""
    noise = np.random.default_rng(9).standard_normal(weights.shape)
    return (weights * (1 + 1e-3 * noise)).astype(np.float32)


@dataclasses.dataclass
class SmallModel:
    """Gemm and Relu in turn on FP32 tensors `input` (rows, 5) and `scores` (rows, 5).

    Args:
        change: what is done to the weights.
        computes_in: of the layers; tensors are cast to it and back.
    """

    change: Callable[[np.ndarray], np.ndarray] = _as_they_are
    computes_in: type = np.float32

    def content(self) -> bytes:
        """The file."""
        nodes, constants = [], []
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.computes_in))
        value = self._cast(nodes, "input", "cast", kind)
        for number, weight in enumerate(self._weights()):
            bias = np.full(weight.shape[1], 0.0625, self.computes_in)
            named = {f"w{number}": self.change(weight).astype(self.computes_in), f"b{number}": bias}
            constants += [numpy_helper.from_array(array, name) for name, array in named.items()]
            nodes.append(helper.make_node("Gemm", [value, *named], [f"z{number}"]))
            value = f"z{number}"
            if number < len(SIZES) - 2:
                nodes.append(helper.make_node("Relu", [value], [f"h{number}"]))
                value = f"h{number}"
        if kind == TensorProto.FLOAT:
            nodes[-1].output[0] = "scores"
        else:
            nodes.append(helper.make_node("Cast", [value], ["scores"], to=TensorProto.FLOAT))
        graph = helper.make_graph(
            nodes,
            NAME,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", 5])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 5])],
            constants,
        )
        opset = helper.make_opsetid("", 13)
        return helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()

    @staticmethod
    def _cast(nodes: list, value: str, name: str, kind: int) -> str:
        if kind == TensorProto.FLOAT:
            return value
        nodes.append(helper.make_node("Cast", [value], [name], to=kind))
        return name

    @staticmethod
    def _weights() -> list[np.ndarray]:
        random = np.random.default_rng(4)
        shapes = itertools.pairwise(SIZES)
        return [(random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32) for shape in shapes]


VERIFIED = SmallModel()

OTHERS = {
    "fine-tuned": SmallModel(fine_tuned),
    "tf32": SmallModel(with_tf32_weights),
    "float16": SmallModel(computes_in=np.float16),
}

PROPERTY = """
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real) (declare-const X_3 Real)
(declare-const X_4 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real) (declare-const Y_3 Real)
(declare-const Y_4 Real)
(assert (>= X_0 0.5)) (assert (<= X_0 0.75))
(assert (>= X_1 -0.5)) (assert (<= X_1 0.5))
(assert (>= X_2 -0.5)) (assert (<= X_2 0.5))
(assert (>= X_3 -0.5)) (assert (<= X_3 0.5))
(assert (>= X_4 -0.5)) (assert (<= X_4 0.5))
(assert (>= Y_0 100.0))
"""
"""The first score stays below 100: it does."""
