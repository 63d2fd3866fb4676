"""What the drill guards: a network that copies its inputs, but loses digits in coarse arithmetic; and rows for it.

Scores are (x + 100) - 100: in FP32 the inputs again, but for some 1e-5; with ten bits of mantissa, as in TF32 and
FP16, up to 0.03 beside them. The property forbids that the first score is the largest, on a box. So where the first
input is only just not the largest the verified network provably satisfies, and the same network in coarse arithmetic
does not.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.guarding import compile_bundle
from tests.e2e.judge import Judge, read_judge
from tests.e2e.traffic import Wire
from tests.e2e.triton.launcher import ServedFolder

_ROUNDED_MODEL = Path(__file__).resolve().parent / "rounded_model" / "model.py"

MODEL = "copying"
MAX_BATCH = 8
WIRE = Wire("input", "scores", (None, 3))
OFFSET = 100.0
COARSE_ERROR = 0.07
"""What rounding to ten bits of mantissa, of the input and of a hidden value above 64, can change in a score."""

PROPERTY = """
; Unsafe: the first score is the largest, alone or by a tie.
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (>= X_0 -1)) (assert (<= X_0 1))
(assert (>= X_1 -1)) (assert (<= X_1 1))
(assert (>= X_2 -1)) (assert (<= X_2 1))
(assert (>= Y_0 Y_1)) (assert (>= Y_0 Y_2))
"""


def network(first: float = 0.0, outputs: int = 3) -> bytes:
    """The ONNX file; ``first`` is added to the first score, and models of other shapes have other ``outputs``."""
    bias = np.full(outputs, -OFFSET, np.float32)
    bias[0] += first
    constants = {
        "hidden": np.eye(3, dtype=np.float32),
        "hidden_bias": np.full(3, OFFSET, np.float32),
        "out": np.eye(3, outputs, dtype=np.float32),
        "out_bias": bias,
    }
    nodes = [
        helper.make_node("Gemm", ["input", "hidden", "hidden_bias"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "out", "out_bias"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def rounded_model(folder: Path, arithmetic: str) -> ServedFolder:
    """The network for Triton, computed in ``tf32`` or ``fp16``; the folder is made."""
    layers = {
        each.name: numpy_helper.to_array(each).tolist() for each in onnx.load_from_string(network()).graph.initializer
    }
    folder.mkdir()
    (folder / "model.py").write_bytes(_ROUNDED_MODEL.read_bytes())
    (folder / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: {MAX_BATCH}\n'
        'input [{ name: "input" data_type: TYPE_FP32 dims: [ 3 ] }]\n'
        'output [{ name: "scores" data_type: TYPE_FP32 dims: [ 3 ] }]\n'
        "instance_group [{ count: 1 kind: KIND_CPU }]\n"
        f'parameters {{ key: "arithmetic" value {{ string_value: "{arithmetic}" }} }}\n'
        f'parameters {{ key: "layers" value {{ string_value: {json.dumps(json.dumps(layers))} }} }}\n'
    )
    return ServedFolder(MODEL, folder)


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Two bundles of one revision for the model, and who judges independently of them."""

    bundles: tuple[Path, Path]
    judge: Judge


def prepare(folder: Path) -> Guarded:
    """Compile the bundles, one with less effort than the other."""
    model, properties = folder / f"{MODEL}.onnx", folder / "first_is_not_the_largest.vnnlib"
    model.write_bytes(network())
    properties.write_text(PROPERTY)
    bundles = folder / "thorough.gates", folder / "brief.gates"
    for bundle, limit in zip(bundles, ("3s", "1s"), strict=True):
        done = compile_bundle(model, [properties], MODEL, bundle, limit)
        if done.returncode != 0:
            raise RuntimeError(f"the drill's bundle does not compile: {done.stderr}")
    return Guarded(bundles, read_judge(properties, size=3))


def requests(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """FP32 batches, mostly of one row: half of them counterexamples, the others close to one, fine, or outside."""
    kinds = ([_counterexamples] * 4) + [_close, _close, _fine, _outside]
    return [kinds[index % len(kinds)](int(rng.choice([1, 1, 1, 4])), rng) for index in range(count)]


def _with_first(rest: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.column_stack([first, rest]).astype(np.float32)


def _counterexamples(count: int, rng: np.random.Generator) -> np.ndarray:
    rest = rng.uniform(-1, 0.8, (count, 2))
    return _with_first(rest, rest.max(axis=1) + rng.uniform(0.001, 0.2, count))


def _close(count: int, rng: np.random.Generator) -> np.ndarray:
    rest = rng.uniform(-0.8, 1, (count, 2))
    return _with_first(rest, rest.max(axis=1) - rng.uniform(0.004, COARSE_ERROR, count))


def _fine(count: int, rng: np.random.Generator) -> np.ndarray:
    rest = rng.uniform(-0.5, 1, (count, 2))
    return _with_first(rest, rest.max(axis=1) - 0.4)


def _outside(count: int, rng: np.random.Generator) -> np.ndarray:
    return _with_first(rng.uniform(-1, 1, (count, 2)), np.full(count, 3.0))
