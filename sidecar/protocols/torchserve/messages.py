"""TorchServe's messages: what asks for a prediction, what carries one, and the answer to a ping.

The bytes are parsed by the protobuf runtime, so that repeated fields and repeated map keys mean here what they mean
to the upstream and to the client: the last one counts.

Source: TorchServe 0.12, service `org.pytorch.serve.grpc.inference.InferenceAPIsService`.
"""

import dataclasses
import itertools
import json
import operator
from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.protocols.generated import torchserve_pb2 as pb
from sidecar.protocols.map_entries import refuse_hidden_entries
from sidecar.protocols.wire import WireType, splice, top_level_fields

MAX_FIELDS: Final = 4096
"""In one request. A message of empty map entries could else hold millions, each an object once it is parsed."""

_fields: Final = operator.attrgetter("fields")
_PREDICTION: Final = pb.PredictionResponse.PREDICTION_FIELD_NUMBER


@dataclasses.dataclass(frozen=True, eq=False)
class PredictionsRequest:
    """A parsed request.

    Args:
        content: the bytes as received.
        model_name: the model asked for.
        model_version: its version; empty where the client leaves that to the server.
        inputs: what the handler gets, by key.
    """

    content: bytes
    model_name: str
    model_version: str
    inputs: Mapping[str, bytes]


def parse_predictions_request(content: bytes) -> PredictionsRequest:
    """Parse a request.

    Raises:
        CallerError: the bytes are no such message, or it has too many fields.
    """
    try:
        if any(fields > MAX_FIELDS for fields in itertools.accumulate(map(_fields, top_level_fields(content)))):
            raise CallerError(Reason.MALFORMED_REQUEST, f"more than {MAX_FIELDS} fields: send fewer inputs")
        message = pb.PredictionsRequest.FromString(content)
    except (DecodeError, ValueError) as error:
        raise CallerError(Reason.MALFORMED_REQUEST, "the message is no PredictionsRequest: resend it whole") from error
    refuse_hidden_entries(message, "input")
    return PredictionsRequest(content, message.model_name, message.model_version, dict(message.input))


def encode_predictions_request(model_name: str, inputs: Mapping[str, bytes]) -> bytes:
    """A request for whatever version the server chooses."""
    return pb.PredictionsRequest(model_name=model_name, input=inputs).SerializeToString()


def parse_prediction(content: bytes) -> bytes:
    """What a response carries.

    Raises:
        UpstreamError: the bytes are no such message.
    """
    try:
        return pb.PredictionResponse.FromString(content).prediction
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "upstream's answer is no PredictionResponse") from error


def with_prediction(content: bytes, prediction: bytes) -> bytes:
    """A response that carries one, with another prediction; all other bytes as they were.

    Raises:
        ValueError: it carries none.
    """
    occurrences = sum(
        field.number == _PREDICTION and field.wire_type is WireType.LENGTH_DELIMITED
        for field in top_level_fields(content)
    )
    return splice(content, {(_PREDICTION, occurrences - 1): prediction})


def encode_ping_response(healthy: bool) -> bytes:
    """The answer to a ping, in TorchServe's words and layout."""
    text = json.dumps({"status": "Healthy" if healthy else "Unhealthy"}, indent=2)
    return pb.TorchServeHealthResponse(health=text).SerializeToString()
