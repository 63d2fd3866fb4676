"""Searches over graphs: which boxes are halved, what dividing phases proves, and where a search stops."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.graph_search import is_halved, partition_graph
from sidecar.compiler.phase_search import PhaseResult, search_phases
from sidecar.compiler.replay import answers
from sidecar.compiler.search import SearchLimits, StopReason
from sidecar.compiler.verdict import Verdict, decide
from sidecar.errors import InputError
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.dense import graph_of
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Affine, Network, Relu, forward
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

INPUTS = 30
SIGNATURE = ModelSignature((TensorSpec("x", Datatype.FP32, (INPUTS,)),), (TensorSpec("y", Datatype.FP32, (1,)),), None)
CANCELLED = Network(
    SIGNATURE,
    (Affine(np.ones((2, INPUTS)), np.zeros(2), INPUTS), Relu(), Affine(np.array([[1.0, -1.0]]), np.zeros(1), 2)),
)
"""``max(s, 0) - max(s, 0)`` of the sum of all inputs: zero, which no relaxation of the two shows."""

WIDE = Box((Fraction(-1),) * INPUTS, (Fraction(1),) * INPUTS)


def _above(least: str) -> Requirement:
    return Requirement(((Literal(terms({0: Fraction(1)}), (), -Fraction(least), strict=True),),))


def _searched(requirement: Requirement, limits: SearchLimits) -> PhaseResult:
    return search_phases(graph_of(CANCELLED), WIDE, requirement, Arithmetic.IEEE32, limits, lambda _: None, None)


def test_dimensions_that_only_widening_has_opened_do_not_count() -> None:
    narrow = (Fraction(1, 2**24),) * 40
    assert is_halved(Box((Fraction(0),) * 42, (Fraction(1), Fraction(1), *narrow)))
    assert not is_halved(Box((Fraction(0),) * 40, narrow))
    assert not is_halved(WIDE)


def test_dividing_phases_proves_what_relaxations_do_not() -> None:
    found = _searched(_above("-0.1"), SearchLimits())
    assert (found.label, found.stopped_by) == (Label.SILENT, StopReason.FINISHED)
    assert found.regions > 2


@pytest.mark.parametrize(("limits", "reason"), [
    (SearchLimits(max_regions=2), StopReason.MAX_REGIONS),
    (SearchLimits(max_regions=0), StopReason.MAX_REGIONS),
    (SearchLimits(time_limit_seconds=0.0), StopReason.TIME_LIMIT),
])  # fmt: skip
def test_a_limit_leaves_the_box_open(limits: SearchLimits, reason: StopReason) -> None:
    found = _searched(_above("-0.1"), limits)
    assert (found.label, found.stopped_by) == (Label.OPEN, reason)


def test_what_is_violated_everywhere_is_proved_so() -> None:
    assert _searched(_above("1000"), SearchLimits()).label is Label.VIOLATING


def test_when_every_phase_is_known_and_it_is_not_proved_the_box_is_open() -> None:
    found = _searched(_above("0"), SearchLimits())
    assert (found.label, found.stopped_by) == (Label.OPEN, StopReason.FINISHED)


def test_a_verdict_of_many_dimensions_divides_phases() -> None:
    holds = decide(CANCELLED, WIDE, _above("-0.1"), Arithmetic.IEEE32, SearchLimits())
    violated = decide(CANCELLED, WIDE, _above("0.5"), Arithmetic.IEEE32, SearchLimits())
    assert (holds.verdict, violated.verdict) == (Verdict.HOLDS, Verdict.VIOLATED)
    assert violated.counterexample is not None


def test_few_dimensions_are_halved() -> None:
    zeros = (Fraction(0),) * (INPUTS - 2)
    box = Box((Fraction(-1), Fraction(-1), *zeros), (Fraction(1), Fraction(1), *zeros))
    limits = SearchLimits(max_regions=200, minimum_volume=1e-3)
    found = partition_graph(graph_of(CANCELLED), box, _above("-0.25"), Arithmetic.IEEE32, limits, lambda _: None)
    assert found.tree.volume[Label.SILENT] > 0.5
    assert found.tree.volume.sum() == pytest.approx(1.0)


def test_another_arithmetic_is_refused() -> None:
    with pytest.raises(InputError, match="declared arithmetic"):
        partition_graph(graph_of(CANCELLED), WIDE, _above("0"), Arithmetic.IEEE64, SearchLimits(), lambda _: None)


MODELS = [
    "collins_rul_cnn/onnx/NN_rul_full_window_20.onnx.gz",
    "collins_rul_cnn/onnx/NN_rul_full_window_40.onnx.gz",
    "collins_rul_cnn/onnx/NN_rul_small_window_20.onnx.gz",
    "mnist_fc/onnx/mnist-net_256x2.onnx.gz",
    "mnist_fc/onnx/mnist-net_256x4.onnx.gz",
    "mnist_fc/onnx/mnist-net_256x6.onnx.gz",
    "oval21/onnx/cifar_base_kw.onnx.gz",
    "oval21/onnx/cifar_deep_kw.onnx.gz",
    "oval21/onnx/cifar_wide_kw.onnx.gz",
    "sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx.gz",
]


@pytest.mark.parametrize("name", MODELS)
def test_public_networks_are_read_and_agree_with_onnxruntime(name: str, acasxu: pathlib.Path) -> None:
    model = read_model(acasxu.parent / name)
    rows = np.random.default_rng(0).uniform(-1, 1, (3, model.signature.input_size)).astype(np.float32)
    expected = answers(model, rows.astype(np.float64))
    got = forward(model.network, rows.astype(np.float64))
    assert (np.abs(got - expected) <= 1e-6 * (1 + np.abs(expected).max())).all()
