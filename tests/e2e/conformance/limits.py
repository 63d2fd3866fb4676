"""Which cases a real server cannot play, and why: a closed list, so that no case is left out without a word.

A server takes the case's request as it stands; what it cannot do is to answer anything at all. Two kinds of limits:
an answer that no server of this kind can be brought to give, so that the case is not run; and a request that the
server refuses by itself, so that the case is run and the client must get that refusal.
"""

import enum
from collections.abc import Mapping

from google.protobuf.message import DecodeError

from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.expectations import Case, Error
from tests.e2e.conformance.asking import Way
from tests.e2e.conformance.script import tensors

MOST_DIMENSIONS = 32
"""Of NumPy 1, which Triton's backend has."""


class Limit(enum.StrEnum):
    """Why an answer cannot be given, in the words of the table."""

    NO_MESSAGE = "no message, or contents in no one form: servers write whole messages"
    NOT_WHOLE = "contents that do not fit datatype and shape: no tensor can be made of them"
    DIMENSIONS = "more dimensions than NumPy's arrays have"
    TWICE = "one output twice: servers keep outputs by name"
    HEADER = "name, version, id and parameters of an answer are the server's own"
    WIRE_FORM = "how the answer's bytes stand is the server's own"
    BFLOAT16 = "BF16 tensors cannot be made in Python's backends"
    NO_OUTPUTS = "on a stream an answer without outputs is no message"
    ZERO_BYTE = "ids are C strings, which end at a zero byte; on a stream ours stands for it"
    DOWN = "the server is down: test_policies_triton and make drill"
    STATUS = "the server has no error of this status, or a model cannot raise it"
    ACTIVATION = "a bundle is awaited or bad: nothing hangs on the server, see tests/conformance/test_policies"
    BOOLEAN = "a boolean is true or false in Python's lists"


def is_refusal(case: Case) -> bool:
    """Whether the sidecar refuses the request, so that nothing hangs on the server."""
    return isinstance(case.expected, Error) and not case.expected.forwarded


def answer_limit(case: Case) -> Limit | None:
    """What keeps every server that writes messages of its own from giving this answer."""
    outputs = tensors(case.answer)
    if outputs is None:
        return Limit.NO_MESSAGE
    if not all(each.is_whole() for each in outputs):
        return Limit.NOT_WHOLE
    if max((len(each.shape) for each in outputs), default=0) > MOST_DIMENSIONS:
        return Limit.DIMENSIONS
    if len({each.name for each in outputs}) < len(outputs):
        return Limit.TWICE
    answer = pb.ModelInferResponse.FromString(case.answer)
    if _is_rewritten(case.answer, answer):
        return Limit.WIRE_FORM
    if outputs and not _has_ordinary_header(case, answer):
        return Limit.HEADER
    return Limit.BFLOAT16 if any(each.datatype == "BF16" for each in outputs) else None


def _is_rewritten(content: bytes, answer: pb.ModelInferResponse) -> bool:
    plain = pb.ModelInferResponse()
    plain.CopyFrom(answer)
    plain.DiscardUnknownFields()
    return plain.SerializeToString() != content


def _has_ordinary_header(case: Case, answer: pb.ModelInferResponse) -> bool:
    try:
        asked = pb.ModelInferRequest.FromString(case.request)
    except DecodeError:
        return True
    parameters = {*answer.parameters, *(key for output in answer.outputs for key in output.parameters)}
    named = (answer.model_name, answer.id) == (asked.model_name, asked.id or answer.id)
    return named and answer.model_version in ("", "1") and parameters <= {"took"}


_PARAMETER = "parameter, expected int64_param"
_VERSION = "failed to get model version from specified version string"
_TRITON_REFUSES: Mapping[str, str] = {
    "classification-of-an-ungated-output": _PARAMETER,
    "a-request-with-fewer-values-than-it-says-to-a-model-in-shadow": "unexpected shape for input 'x'",
    "a-request-with-more-values-than-a-row-has-to-a-model-in-shadow": "unexpected shape for input 'x'",
    "an-output-without-a-name-asked-for": "unexpected inference output ''",
    "an-ungated-input-twice": "input 'hint' already exists",
    "an-ungated-input-without-a-name": "unexpected inference input ''",
    "the-largest-unsigned-integer-as-a-parameter-of-the-request": _PARAMETER,
    **{f"a-sequence-named-by-a-large-number,-{place}": _PARAMETER for place in ("start", "middle", "end", "both")},
    "parameters-with-an-entry-without-a-value": _PARAMETER,
    "parameters-with-a-value-of-no-kind": _PARAMETER,
    "parameters-with-an-entry-of-nothing": _PARAMETER,
    "a-model-version-that-is-another": "version 2 is not found",
    "a-model-version-that-is-no-number": _VERSION,
    "a-model-version-that-is-long": _VERSION,
}
_TRITON_STREAMS: Mapping[str, Limit] = {
    "an-empty-answer": Limit.NO_OUTPUTS,
    "a-row-outside-with-an-empty-answer": Limit.NO_OUTPUTS,
    "an-id-that-is-of-control-characters": Limit.ZERO_BYTE,
}
_MLSERVER_REFUSES: Mapping[str, str] = {
    # It repeats the id in trailers.
    "an-id-that-is-no-ASCII": "Invalid metadata",
    "an-id-that-is-of-control-characters": "Invalid metadata",
    "an-id-that-is-long": "received metadata size exceeds hard limit",
    "a-model-version-that-is-another": "version 2 not found",
    "a-model-version-that-is-no-number": "version latest not found",
    "a-model-version-that-is-long": "not found",
}


def limits_of(kind: str, way: Way) -> Mapping[str, Limit | str]:
    """What this server cannot play besides, by the case's name: a limit, or its own words in which it refuses it."""
    match kind:
        case "triton" if way is Way.STREAM:
            return _TRITON_REFUSES | _TRITON_STREAMS
        case "triton":
            return _TRITON_REFUSES
        case "mlserver":
            return _MLSERVER_REFUSES | {f"BOOL-output-byte-{byte}": Limit.BOOLEAN for byte in (2, 128, 255)}
        case _:
            return {}
