"""The conformance model as a function, and bundles that know between which bounds it answers."""

import dataclasses

import numpy as np

from sidecar.bundle.codec import encode
from sidecar.bundle.self_test import expected_decisions
from sidecar.bundle.values import SelfTestVectors
from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.guarded_model import GATES, MODEL, SIGNATURE, bundle

TOLERANCE = 2.0**-20
"""How far the bounds are from what the model answers."""


def computed(x: np.ndarray) -> np.ndarray:
    """The verified model: rows of x (row, 2) to rows of y and z (row, 4)."""
    y = np.column_stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1], np.ones(len(x))]).astype(np.float32)
    return np.column_stack([y.astype(np.float64), np.full(len(x), 2.0)])


def certified_vectors(count: int = 40, seed: int = 0) -> SelfTestVectors:
    inputs = np.random.default_rng(seed).uniform(-5, 10, (count, 2)).astype(np.float32).astype(np.float64)
    outputs = computed(inputs)
    gates = [gate for gate, _, _ in GATES]
    return expected_decisions(gates, SIGNATURE, inputs, outputs, outputs - TOLERANCE, outputs + TOLERANCE)


def certified_bundle(revision: int = 3, name: str = MODEL, count: int = 40, **changes: np.ndarray) -> bytes:
    """A bundle with bounds; ``changes`` of its vectors, for instance of another model's bounds."""
    made = bundle(name=name)
    vectors = dataclasses.replace(certified_vectors(count), **changes)
    manifest = dataclasses.replace(made.manifest, revision=revision)
    return encode(dataclasses.replace(made, manifest=manifest, vectors=vectors))


def answer_with(error: float = 0.0):
    """Answers requests as the verified model does, but for an error in y1."""

    def answer(request: bytes) -> bytes:
        message = pb.ModelInferRequest.FromString(request)
        x = np.frombuffer(message.raw_input_contents[0], "<f4").reshape(-1, 2)
        rows = computed(x)
        rows[:, 1] += error
        reply = pb.ModelInferResponse(model_name=message.model_name, id=message.id)
        reply.outputs.add(name="y", datatype="FP32", shape=(len(x), 3))
        reply.outputs.add(name="z", datatype="FP64", shape=(len(x), 1))
        reply.raw_output_contents.extend([rows[:, :3].astype("<f4").tobytes(), rows[:, 3:].tobytes()])
        return reply.SerializeToString()

    return answer
