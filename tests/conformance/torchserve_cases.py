"""What the sidecar must do with a Predictions request and TorchServe's answer to it, as data.

The guarded model of the other cases, behind TorchServe, with JSON documents: rows under ``instances``, answers as
objects under ``predictions``, whose numbers the client keeps as FP32 (``z``, an FP64 output, included). A case says
what the client sends under which keys, what the handler answers, and what the client gets instead.
"""

import dataclasses
from collections.abc import Mapping

import grpc

from sidecar.config import ModelSettings, PredictionFormat, TorchServeSettings
from sidecar.errors import Reason
from sidecar.protocols.generated import torchserve_pb2 as pb
from sidecar.tensors import Datatype
from tests.conformance.guarded_model import MODEL

SETTINGS = ModelSettings(
    MODEL,
    torchserve=TorchServeSettings(
        PredictionFormat.JSON,
        Datatype.FP32,
        other_keys=("meta",),
        inputs=(("x", ("/instances",)),),
        outputs=(("y", ("/predictions/*/y",)), ("z", ("/predictions/*/z",))),
    ),
)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The client gets this prediction; where it is what the handler answered, in the very same message."""

    outcome: str
    text: str


@dataclasses.dataclass(frozen=True)
class Error:
    """The client gets an error; ``forwarded`` says whether the upstream saw the request."""

    reason: Reason
    forwarded: bool = False
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    request: bytes
    answer: bytes
    expected: Prediction | Error


def request_bytes(inputs: Mapping[str, bytes], model: str = MODEL) -> bytes:
    return pb.PredictionsRequest(model_name=model, model_version="1.0", input=inputs).SerializeToString()


def answer_bytes(prediction: str) -> bytes:
    """A response, with a field behind the prediction that nobody here knows."""
    return pb.PredictionResponse(prediction=prediction.encode()).SerializeToString() + b"\xa8\x06\x07"


def _json(rows: str) -> dict[str, bytes]:
    return {"data": f'{{"instances": {rows}}}'.encode()}


def _untouched(name: str, rows: str, answer: str, outcome: str = "untouched") -> Case:
    return Case(name, request_bytes(_json(rows)), answer_bytes(answer), Prediction(outcome, answer))


def _corrected(name: str, rows: str, answer: str, expected: str) -> Case:
    return Case(name, request_bytes(_json(rows)), answer_bytes(answer), Prediction("corrected", expected))


def _refused(name: str, inputs: Mapping[str, bytes] | str, reason: Reason) -> Case:
    asked = request_bytes(_json(inputs) if isinstance(inputs, str) else inputs)
    return Case(name, asked, answer_bytes(FINE), Error(reason))


def _failed(name: str, answer: str | bytes, reason: Reason) -> Case:
    answered = answer if isinstance(answer, bytes) else answer_bytes(answer)
    expected = Error(reason, forwarded=True, code=grpc.StatusCode.INTERNAL)
    return Case(name, request_bytes(_json("[[0.5, 0]]")), answered, expected)


FINE = '{"predictions": [{"y": [0.5, 0, 0], "z": 0}]}'

CASES = (
    _untouched("a row that satisfies", "[[0.5, 0]]", FINE),
    _untouched("a row in no domain", "[[20, 0]]", '{"predictions": [{"y": [5, 0, 0], "z": 0}]}', "outside"),
    _untouched("a row in no domain with an answer of any kind", "[[20, 0]]", "hello", "outside"),
    _untouched("a row in a domain that is off", "[[6.5, 0]]", '{"predictions": [{"y": [5, 0, 0], "z": 0}]}', "outside"),
    _untouched(
        "spaces, order and escapes", "[[0.5, 0]]", ' { "predictions":[{"z":0, "y":[5e-1 ,0,\t-0.0]}],"\\u00e9":1}'
    ),
    _untouched("a value that is fine once it is rounded", "[[0.5, 0]]", FINE.replace("0.5", "1.00000001")),
    _corrected(
        "a value too large, and nothing else moves",
        "[[0.5, 0]]",
        '{"predictions" : [{"y": [1.5, 0.10, 1e0], "z": 0}], "took": 1.5}',
        '{"predictions" : [{"y": [1.0, 0.10, 1e0], "z": 0}], "took": 1.5}',
    ),
    _corrected(
        "a value that is too large once it is rounded",
        "[[0.5, 0]]",
        FINE.replace("0.5", "1.0000001"),
        FINE.replace("0.5", "1.0"),
    ),
    _corrected(
        "one row of three",
        "[[0.5, 0], [0.5, 0], [20, 0]]",
        '{"predictions": [{"y": [1, 0, 0], "z": 0}, {"y": [2, 0, 0], "z": 0}, {"y": [3, 0, 0], "z": 0}]}',
        '{"predictions": [{"y": [1, 0, 0], "z": 0}, {"y": [1.0, 0, 0], "z": 0}, {"y": [3, 0, 0], "z": 0}]}',
    ),
    _corrected(
        "an output kept as FP32 though the model has FP64",
        "[[8.2, 0]]",
        '{"predictions": [{"y": [0, 0, 0], "z": 0.999999}]}',
        '{"predictions": [{"y": [0, 0, 0], "z": 1.0}]}',
    ),
    _corrected(
        "a fallback",
        "[[2.5, 0]]",
        '{"predictions": [{"y": [0, 1, 7], "z": 3}]}',
        '{"predictions": [{"y": [1.0, 0.0, 0.0], "z": 0.0}]}',
    ),
    _corrected(
        "a fallback instead of what is no number",
        "[[2.5, 0]]",
        '{"predictions": [{"y": [NaN, 1, 0], "z": Infinity}]}',
        '{"predictions": [{"y": [1.0, 0.0, 0], "z": 0.0}]}',
    ),
    _refused("no input under the key", {}, Reason.INPUT_MISSING),
    _refused("an input that the handler might prefer", _json("[[0, 0]]") | {"body": b""}, Reason.INPUT_CONTENTS),
    _refused("no JSON", {"data": b"\x93NUMPY"}, Reason.INPUT_CONTENTS),
    _refused("rows elsewhere", {"data": b'{"inputs": [[0, 0]]}'}, Reason.INPUT_MISSING),
    _refused("rows twice", {"data": b'{"instances": [[20, 0]], "instances": [[0.5, 0]]}'}, Reason.INPUT_CONTENTS),
    _refused("a row too long", "[[0, 0, 0]]", Reason.INPUT_SHAPE),
    _refused("numbers as text", '[["0.5", "0"]]', Reason.INPUT_SHAPE),
    _refused("not a number", "[[NaN, 0]]", Reason.INPUT_NOT_FINITE),
    _refused("infinite once it is rounded", "[[0, 1e39]]", Reason.INPUT_NOT_FINITE),
    _refused("a number that readers differ about", "[[1.00000005960464477540, 0]]", Reason.INPUT_CONTENTS),
    _refused("too many rows", f"[{', '.join(['[0, 0]'] * 9)}]", Reason.INPUT_SHAPE),
    _failed("an answer that is no JSON", "hello", Reason.UPSTREAM_OUTPUT_CONTENTS),
    _failed("an answer that is no message", b"\x0a\x05x", Reason.UPSTREAM_MALFORMED),
    _failed("an empty answer", b"", Reason.UPSTREAM_OUTPUT_CONTENTS),
    _failed("an answer without an output", '{"predictions": [{"y": [0, 0, 0]}]}', Reason.UPSTREAM_OUTPUT_MISSING),
    _failed("an answer of too few rows", '{"predictions": []}', Reason.UPSTREAM_OUTPUT_SHAPE),
    _failed(
        "an answer with an output twice", FINE.replace('"z"', '"y": [9, 9, 9], "z"'), Reason.UPSTREAM_OUTPUT_CONTENTS
    ),
    _failed(
        "an answer that clients read differently",
        FINE.replace("0.5", "1.00000005960464477540"),
        Reason.UPSTREAM_OUTPUT_CONTENTS,
    ),
    Case(
        "a property that refuses",
        request_bytes(_json("[[4.5, 0]]")),
        answer_bytes('{"predictions": [{"y": [0, 0, 0], "z": 0}]}'),
        Error(Reason.GATE_REFUSED, forwarded=True, code=grpc.StatusCode.FAILED_PRECONDITION),
    ),
    Case(
        "an answer that is no number",
        request_bytes(_json("[[0.5, 0]]")),
        answer_bytes(FINE.replace("0.5", "NaN")),
        Error(Reason.OUTPUT_NOT_FINITE, forwarded=True, code=grpc.StatusCode.FAILED_PRECONDITION),
    ),
    Case(
        "another key beside the rows that the settings name",
        request_bytes(_json("[[0.5, 0]]") | {"meta": b"\xff"}),
        answer_bytes(FINE),
        Prediction("untouched", FINE),
    ),
    Case(
        "a model that nothing guards",
        request_bytes(_json("[[0.5, 0]]"), "another"),
        answer_bytes(FINE),
        Error(Reason.MODEL_NOT_GUARDED, code=grpc.StatusCode.PERMISSION_DENIED),
    ),
    Case("no message", b"\x0a\x09", b"", Error(Reason.MALFORMED_REQUEST)),
)
