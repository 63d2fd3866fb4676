"""Whether what a client got is what a case expects, however it travelled."""

import dataclasses

import numpy as np

from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.expectations import Case, Corrected, Error, VeryBytes
from tests.conformance.guarded_model import values
from tests.conformance.output_cases import CutDown
from tests.conformance.policy_cases import FellBack

FALLBACK = {"y": [1, 0, 0], "z": [0]}
"""Of the one gate in ``guarded_model`` that has a fallback."""


@dataclasses.dataclass(frozen=True)
class Received:
    """What the client got (None for an error), and whether the upstream saw a request."""

    body: bytes | None
    trailers: dict[str, str]
    forwarded: bytes | None


def check(case: Case, received: Received) -> None:
    match case.expected:
        case VeryBytes(outcome, without):
            assert received.trailers["gate-outcome"] == outcome
            assert received.body == _cut_down(case.answer, without)
        case Corrected(y, z):
            assert received.trailers["gate-outcome"] == "corrected"
            _check_corrected(case.answer, received.body, {"y": y, "z": z})
        case CutDown(without, corrected):
            assert received.trailers["gate-outcome"] == "corrected"
            _check_corrected(_cut_down(case.answer, without), received.body, corrected)
        case Error(reason, forwarded):
            assert received.body is None
            assert received.trailers["gate-reason"] == reason
            assert (received.forwarded is not None) is forwarded
    if received.forwarded is not None:
        _check_forwarded(case.request, received.forwarded)


def _cut_down(answer: bytes, without: tuple[str, ...]) -> bytes:
    """What the upstream would have sent, had it been asked without those outputs."""
    if not without:
        return answer
    message = pb.ModelInferResponse.FromString(answer)
    for index in reversed(range(len(message.outputs))):
        if message.outputs[index].name in without:
            del message.outputs[index]
            if message.raw_output_contents:
                del message.raw_output_contents[index]
    return message.SerializeToString()


def _check_corrected(answer: bytes, body: bytes | None, expected: dict) -> None:
    assert body is not None
    for name, rows in expected.items():
        np.testing.assert_array_equal(values(body, name), values(answer, name) if rows is None else np.array(rows))
    assert _without_values(body, expected) == _without_values(answer, expected)


def _without_values(content: bytes, names: dict) -> bytes:
    message = pb.ModelInferResponse.FromString(content)
    for index, tensor in enumerate(message.outputs):
        if tensor.name in names:
            tensor.contents.Clear()
            if message.raw_output_contents:
                message.raw_output_contents[index] = b""
    return message.SerializeToString(deterministic=True)


def _check_forwarded(request: bytes, forwarded: bytes) -> None:
    """The client's own bytes, and at most more outputs asked for after them."""
    assert forwarded.startswith(request)
    asked = pb.ModelInferRequest.FromString(request)
    if asked.outputs and forwarded != request:
        names = {output.name for output in pb.ModelInferRequest.FromString(forwarded).outputs}
        assert names == {output.name for output in asked.outputs} | {"y", "z"}
    else:
        assert forwarded == request


def check_fallback(request: bytes, body: bytes, expected: FellBack) -> None:
    """An answer of the sidecar's own, in the request's name."""
    asked, answer = pb.ModelInferRequest.FromString(request), pb.ModelInferResponse.FromString(body)
    assert (answer.model_name, answer.id, answer.model_version) == (asked.model_name, asked.id, asked.model_version)
    assert sorted(output.name for output in answer.outputs) == sorted(expected.outputs)
    for name in expected.outputs:
        np.testing.assert_array_equal(values(body, name), [FALLBACK[name]] * expected.rows)
