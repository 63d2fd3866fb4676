"""What the proxies are asked: messages of three sizes, each outside all gates, inside and kept, or corrected.

A gate's model is never run here: the upstream gives every message of a size the same answer, and where the row lies
decides what a gate makes of it. So all messages of a size have the same length, and so have their answers.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.self_test import expected_decisions
from sidecar.bundle.values import Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement
from sidecar.properties.values import Traceability
from sidecar.protocols.generated import open_inference_pb2 as messages
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

METHOD = "/inference.GRPCInferenceService/ModelInfer"

OUTSIDE, UNTOUCHED, CORRECTED = KINDS = "outside", "untouched", "corrected"
FIRST_INPUT = {OUTSIDE: 0.0, UNTOUCHED: 0.75, CORRECTED: -0.75}
"""In no gate's domain; in that of the gate that every answer satisfies; in that of the one that none does."""

COMPARED = 5
"""Outputs that a gate looks at: as many as ACAS Xu has, so that a gate is as large for every message."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One size of message: its model, its requests by kind (all of one length), the upstream's answer, its bundle."""

    title: str
    model: str
    requests: Mapping[str, bytes]
    answer: bytes
    bundle: bytes

    @property
    def request_bytes(self) -> int:
        """Of every request of this size: what the upstream knows it by."""
        return len(self.requests[OUTSIDE])


def make_workload(title: str, model: str, inputs: int, outputs: int) -> Workload:
    """FP32 throughout; the answer's largest output is the first."""
    scores = np.zeros((1, outputs), "<f4")
    scores[0, :2] = 0.5, 0.25
    answer = messages.ModelInferResponse(model_name=model, raw_output_contents=[scores.tobytes()])
    answer.outputs.add(name="scores", datatype="FP32", shape=scores.shape)
    requests = {kind: request(model, _row(first, inputs)) for kind, first in FIRST_INPUT.items()}
    return Workload(title, model, requests, answer.SerializeToString(), _bundle(model, inputs, outputs))


def request(model: str, row: np.ndarray) -> bytes:
    """A ModelInferRequest with raw contents; row: FP32, shape (1, inputs)."""
    message = messages.ModelInferRequest(model_name=model, raw_input_contents=[row.astype("<f4").tobytes()])
    message.inputs.add(name="input", datatype="FP32", shape=row.shape)
    return message.SerializeToString()


def ready_exchange(model: str) -> tuple[bytes, bytes]:
    """The question whether the model is ready, and the answer that it is."""
    asked, answered = messages.ModelReadyRequest(name=model), messages.ModelReadyResponse(ready=True)
    return asked.SerializeToString(), answered.SerializeToString()


def scores(response: bytes) -> np.ndarray:
    """What a client decodes; float32, shape (outputs,)."""
    return np.frombuffer(messages.ModelInferResponse.FromString(response).raw_output_contents[0], "<f4")


def _row(first: float, inputs: int) -> np.ndarray:
    row = np.full((1, inputs), 0.25, np.float32)
    row[0, 0] = first
    return row


def _bundle(model: str, inputs: int, outputs: int) -> bytes:
    gates = (
        _not_the_largest("kept", (Fraction(1, 2), Fraction(1)), 1, inputs),
        _not_the_largest("broken", (Fraction(-1), Fraction(-1, 2)), 0, inputs),
    )
    signature = ModelSignature(
        inputs=(TensorSpec("input", Datatype.FP32, (inputs,)),),
        outputs=(TensorSpec("scores", Datatype.FP32, (outputs,)),),
        batch_axis=0,
    )
    manifest = Manifest(
        name=model,
        revision=1,
        model_digest="0" * 64,
        signature=signature,
        arithmetic=Arithmetic.IEEE32,
        properties=tuple(PropertyRecord(Traceability(gate.property_id), Mode.ENFORCE) for gate in gates),
        compiler_version="0.1.0",
        options=(),
    )
    nothing_known = np.full((1, outputs), np.inf)
    vectors = expected_decisions(
        gates, signature, np.zeros((1, inputs)), np.ones((1, outputs)), -nothing_known, nothing_known
    )
    source = PropertySource("by-hand", b"# built by hand\n")
    return encode(Bundle(manifest, gates, ((_open(),), (_open(),)), vectors, (source,)))


def _not_the_largest(name: str, first: tuple[Fraction, Fraction], best: int, inputs: int) -> Gate:
    """Of the compared outputs this one must not be the largest, where the first input is in this interval."""
    rest = (Fraction(1),) * (inputs - 1)
    others = [other for other in range(COMPARED) if other != best]
    return Gate(
        property_id=name,
        domain=(Region(Box((first[0], *(-each for each in rest)), (first[1], *rest))),),
        requirement=Requirement((tuple(_at_least(other, best) for other in others),)),
        action=Action.PROJECT,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=None,
    )


def _at_least(other: int, best: int) -> Literal:
    form = tuple(sorted(((other, Fraction(1)), (best, Fraction(-1)))))
    return Literal(outputs=form, inputs=(), offset=Fraction(0), strict=False)


def _open() -> CoverageTree:
    volume = np.zeros(4)
    volume[Label.OPEN] = 1.0
    return CoverageTree(np.array([LEAF], np.int32), np.zeros(1), np.array([Label.OPEN], np.uint8), volume)
