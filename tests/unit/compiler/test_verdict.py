"""A verdict: proved, refuted by an input that the caller confirms, or unknown."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.search import Order, SearchLimits, StopReason
from sidecar.compiler.verdict import Decision, Verdict, decide
from sidecar.gates.effective import effective_region
from sidecar.gates.values import Box, Literal, Requirement, terms
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Affine, Network
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

IDENTITY = Network(
    ModelSignature((TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (1,)),), None),
    (Affine(np.eye(1), np.zeros(1), 2),),
)
POSITIVE = Requirement(((Literal(terms({0: Fraction(1)}), (), Fraction(0), True),),))
VERDICT_LIMITS = SearchLimits(minimum_volume=0.0, order=Order.SMALLEST_FIRST)


def _decide(low: float, high: float, limits: SearchLimits = VERDICT_LIMITS) -> Decision:
    return decide(IDENTITY, Box((Fraction(low),), (Fraction(high),)), POSITIVE, Arithmetic.IEEE32, limits)


def test_a_proof_is_a_verdict() -> None:
    decision = _decide(1, 2)
    assert (decision.verdict, decision.counterexample, decision.stopped_by) == (
        Verdict.HOLDS,
        None,
        StopReason.FINISHED,
    )


def test_an_input_that_violates_ends_the_search() -> None:
    decision = _decide(-1, 3)
    assert (decision.verdict, decision.stopped_by) == (Verdict.VIOLATED, StopReason.COUNTEREXAMPLE)
    assert decision.counterexample is not None
    assert -1 <= decision.counterexample[0] <= 0


def test_what_no_time_was_left_for_is_unknown() -> None:
    assert _decide(1, 2, SearchLimits(time_limit_seconds=0.0)).verdict is Verdict.UNKNOWN


def test_a_violation_without_an_input_is_unknown() -> None:
    """No float32 lies in the box: nothing that could be sent violates, though real numbers do."""
    third = Fraction(-1, 3)
    decision = decide(IDENTITY, Box((third,), (third,)), POSITIVE, Arithmetic.IEEE32, VERDICT_LIMITS)
    assert decision.verdict is Verdict.UNKNOWN


def test_inputs_that_the_caller_does_not_confirm_decide_nothing() -> None:
    asked = []

    def confirms(points: np.ndarray) -> np.ndarray:
        asked.append(points)
        return np.zeros(len(points), dtype=np.bool_)

    box = Box((Fraction(-1),), (Fraction(3),))
    limits = SearchLimits(minimum_volume=1e-3)
    decision = decide(IDENTITY, box, POSITIVE, Arithmetic.IEEE32, limits, confirms)
    assert asked
    assert (decision.verdict, decision.counterexample) == (Verdict.UNKNOWN, None)


def test_the_first_confirmed_input_is_the_counterexample() -> None:
    box = Box((Fraction(-1),), (Fraction(3),))
    decision = decide(IDENTITY, box, POSITIVE, Arithmetic.IEEE32, VERDICT_LIMITS, lambda points: points[:, 0] < -0.25)
    assert decision.counterexample is not None
    assert decision.counterexample[0] < -0.25


@pytest.mark.parametrize(
    ("first", "second", "number", "verdict"),
    [(1, 1, 3, Verdict.HOLDS), (4, 2, 2, Verdict.HOLDS), (2, 1, 2, Verdict.VIOLATED), (1, 9, 7, Verdict.VIOLATED)],
)
def test_acas_xu_instances_are_decided(
    first: int, second: int, number: int, verdict: Verdict, acasxu: pathlib.Path
) -> None:
    network = read_model(acasxu / f"ACASXU_run2a_{first}_{second}_batch_2000.onnx").network
    (stated,) = read_vnnlib(acasxu / f"prop_{number}.vnnlib", network.signature).properties
    box = effective_region(stated.domain[0], network.signature.input_datatypes()).box
    decision = decide(network, box, stated.requirement, Arithmetic.IEEE32, VERDICT_LIMITS)
    assert decision.verdict is verdict
