"""Networks with a counterexample that nothing but a proof's failure would show, as SoundnessBench has them.

Source: the idea is that of arXiv 2412.03154. Theirs are trained; ours are built: a network whose answer is positive
wherever one looks, and beside it, among the same neurons, a narrow dent about one point, in which it is not. Outside
the dent its gradient is zero, so no descent finds it, and its volume is far below what samples hit. So a tool that
claims a proof here is caught.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.coverage import Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.replay import Replay
from sidecar.compiler.search import SearchLimits
from sidecar.compiler.verdict import Verdict
from sidecar.compiler.verify import verify
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Model
from sidecar.properties.values import Property
from sidecar.properties.vnnlib import read_vnnlib
from tests.attack.answering import Answering
from tests.attack.claims import claimed

UNITS: Final = 12
"""Neurons of each hidden layer beside the dent's."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where and how deep.

    Args:
        inputs: their number; the domain is [-1, 1] in each.
        steepness: a power of two, so that the dent's place is exact in float32; its radius is its depth over this.
        depth: how far below zero the answer is at the point.
        seed: of everything else.
    """

    inputs: int
    steepness: float
    depth: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Planted:
    """A model, its property (the answer is positive), and the point at which it is violated, by onnxruntime too."""

    plan: Plan
    model: Model
    stated: Property
    point: np.ndarray


def plant(plan: Plan) -> Planted:
    """Build it. Raises ValueError where float32 has nothing left of the dent."""
    rng = np.random.default_rng(plan.seed)
    size = plan.inputs
    point = rng.uniform(-0.9, 0.9, size).astype(np.float32)
    base = rng.standard_normal((size, UNITS)).astype(np.float32) / np.float32(np.sqrt(size))
    shift = rng.standard_normal(UNITS).astype(np.float32)
    readout = np.abs(rng.standard_normal(UNITS)).astype(np.float32) / np.float32(UNITS)
    floor = np.float32(0.125)
    usual = float(np.maximum(point @ base + shift, 0) @ readout + floor)
    depth = np.float32(usual + plan.depth)
    slope = np.float32(plan.steepness) * np.eye(size, dtype=np.float32)
    mixed = rng.permutation(2 * size + UNITS)
    first = np.concatenate([slope, -slope, base], axis=1)[:, mixed]
    first_bias = np.concatenate([-slope @ point, slope @ point, shift])[mixed]
    second = np.zeros((2 * size + UNITS, 1 + UNITS), np.float32)
    second[: 2 * size, 0] = -1.0
    second[2 * size :, 1:] = np.eye(UNITS)
    again = rng.permutation(1 + UNITS)
    layers = [
        (first, first_bias),
        (second[mixed][:, again], np.concatenate([[depth], np.zeros(UNITS)]).astype(np.float32)[again]),
        (np.concatenate([[-1.0], readout]).astype(np.float32)[again][:, None], np.array([floor])),
    ]
    model, stated = _read(layers, size)
    (answer,) = Replay(model)(point[None].astype(np.float64))
    if answer[0] > 0.0:
        raise ValueError(f"{plan}: float32 leaves nothing of the dent, the answer is {answer[0]}")
    return Planted(plan, model, stated, point.astype(np.float64))


def _read(layers: list[tuple[np.ndarray, np.ndarray]], size: int) -> tuple[Model, Property]:
    nodes, constants, value = [], [], "x"
    for number, (weight, bias) in enumerate(layers):
        constants += [numpy_helper.from_array(weight, f"w{number}"), numpy_helper.from_array(bias, f"b{number}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [f"z{number}"]))
        value = f"z{number}"
        if number < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"h{number}"]))
            value = f"h{number}"
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        constants,
    )
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()
    declared = "".join(f"(declare-const X_{number} Real)" for number in range(size)) + "(declare-const Y_0 Real)"
    bounds = "".join(f"(assert (>= X_{number} -1))(assert (<= X_{number} 1))" for number in range(size))
    with tempfile.TemporaryDirectory() as folder:
        network, stated = Path(folder) / "planted.onnx", Path(folder) / "positive.vnnlib"
        network.write_bytes(content)
        stated.write_text(f"{declared}{bounds}(assert (<= Y_0 0))")
        model = read_model(network)
        return model, read_vnnlib(stated, model.signature).properties[0]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the engine said of a planted network.

    Args:
        verdict: of `sidecar verify`.
        label: of the leaf that holds the point.
        hit: samples in the domain that violate: whether it is hidden.
        unsound: the verdict or a leaf claims what is not so.
    """

    verdict: Verdict
    label: Label
    hit: int
    unsound: bool


def tried(planted: Planted, limits: SearchLimits, samples: int) -> Outcome:
    """Ask for a verdict and for a map, both within the limits."""
    (verified,) = verify(
        planted.model, [planted.stated], Arithmetic.IEEE32, limits.time_limit_seconds, limits.workers, lambda _: None
    )
    (claim,) = claimed("planted", planted.model, planted.stated, limits)
    rng, ask = np.random.default_rng(1), Answering(planted.model)
    radius = (0.125 + planted.plan.depth) / planted.plan.steepness
    around = planted.point + rng.uniform(-radius, radius, (2048, planted.plan.inputs))
    rows = np.concatenate([planted.point[None], around.clip(-1, 1)]).astype(np.float32).astype(np.float64)
    violating = rows[~(ask(rows) > 0.0).all(axis=1)]
    labels = {claim.label_of(row) for row in violating}
    uniform = rng.uniform(-1, 1, (samples, planted.plan.inputs)).astype(np.float32)
    hit = int((~(ask(uniform) > 0.0)).any(axis=1).sum())
    unsound = verified.verdict is Verdict.HOLDS or Label.SILENT in labels
    return Outcome(verified.verdict, claim.label_of(planted.point), hit, unsound)
