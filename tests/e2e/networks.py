"""A network made by hand whose outputs tie, for batches: what ACAS Xu does not offer.

Inputs and outputs are shaped as in ACAS Xu's property 2 (five each), the first dimension is the batch. Its
first two outputs are the same function, x1 - x2; the next two are x2 - x1 + 0.1; the last is x3. Where x1 - x2 is
largest the first output is maximal *only by a tie*, which property 2 (a closed unsafe set) calls unsafe.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OVERLAPPING_PROPERTY = """
; Unsafe: far more for the second output than for the fourth, or the third just below the fifth. It overlaps
; property 2's box.
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real) (declare-const X_3 Real)
(declare-const X_4 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real) (declare-const Y_3 Real)
(declare-const Y_4 Real)
(assert (>= X_0 0.63)) (assert (<= X_0 0.7))
(assert (>= X_1 -0.5)) (assert (<= X_1 0.5))
(assert (>= X_2 -0.3)) (assert (<= X_2 0.5))
(assert (>= X_3 0.4)) (assert (<= X_3 0.5))
(assert (>= X_4 -0.5)) (assert (<= X_4 -0.4))
(assert (or (and (<= Y_3 Y_4) (<= Y_3 -0.5) (>= Y_1 0.55)) (and (<= Y_2 Y_4) (>= Y_2 0.44))))
"""


def tying_network() -> bytes:
    """The ONNX file: Gemm, Relu, Gemm, on FP32 tensors `input` (n, 5) and `scores` (n, 5)."""
    hidden = np.zeros((5, 4), np.float32)
    hidden[1], hidden[2], hidden[3] = (1, -1, 0, 0), (-1, 1, 0, 0), (0, 0, 1, 0)
    scores = np.zeros((4, 5), np.float32)
    scores[0], scores[1], scores[2] = (1, 1, -1, -1, 0), (-1, -1, 1, 1, 0), (0, 0, 0, 0, 1)
    constants = {
        "hidden": hidden,
        "hidden_bias": np.array([0, 0, 1, 0], np.float32),
        "out": scores,
        "out_bias": np.array([0, 0, 0.1, 0.1, -1], np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["input", "hidden", "hidden_bias"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "out", "out_bias"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tying",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()
