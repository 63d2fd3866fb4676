"""The messages of ModelStreamInfer: requests that carry an id of ours, responses that get the client's back.

A response on the stream is an error text or a ModelInferResponse, together with the id of the request that it
belongs to. Everything here moves bytes: what is not named, unknown fields included, stays as it was. A message that
was put together anew is read again and compared.

A server tells which response is a request's last one by the parameter ``triton_final_response``; where it learns so
only afterwards it sends an *empty* final response, without tensors, but only to requests that ask for it.

Source: Open Inference Protocol v2, "ModelStreamInfer"; Triton's documentation, "Decoupled models".
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from sidecar.errors import InternalError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.request import InferRequest
from sidecar.protocols.wire import Field, WireType, splice, top_level_fields

ASK_FOR_FINAL: Final = "triton_enable_empty_final_response"
IS_FINAL: Final = "triton_final_response"

_NO_ID: Final = "<id_unknown>"
"""What Triton's error texts say where a request has no id."""

_ERROR_MESSAGE: Final = pb.ModelStreamInferResponse.ERROR_MESSAGE_FIELD_NUMBER
_INFER_RESPONSE: Final = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_ID: Final = pb.ModelInferResponse.ID_FIELD_NUMBER
_TENSORS: Final = (
    pb.ModelInferResponse.OUTPUTS_FIELD_NUMBER,
    pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER,
)


@dataclasses.dataclass(frozen=True)
class StreamedResponse:
    """One message of the upstream's.

    Args:
        content: the bytes as received.
        error: the error text; empty where there is none.
        body: the serialised ModelInferResponse in it.
        id: the id in there; empty where there is none.
        is_final: whether it is the request's last response; None where the upstream does not say.
        has_tensors: whether the response carries any tensor, or contents of one.
    """

    content: bytes
    error: str
    body: bytes
    id: str
    is_final: bool | None
    has_tensors: bool


def id_of(request: InferRequest) -> str:
    """The id that the client gave its request; empty where it gave none."""
    return request.message.id


def asks_for_final(request: InferRequest) -> bool:
    """Whether the client wants to see empty final responses."""
    return _flag(request.message.parameters, ASK_FOR_FINAL) is True


def with_own_id(content: bytes, upstream_id: str) -> bytes:
    """A request under our id, asking for an empty final response: we have to know when a request is over."""
    # A serialised message appended to another one merges with it: the last id counts, and of equal keys the last.
    own = pb.ModelInferRequest(id=upstream_id)
    own.parameters[ASK_FOR_FINAL].bool_param = True
    return content + own.SerializeToString()


def parse_streamed(content: bytes) -> StreamedResponse:
    """Parse a message of the upstream's.

    Raises:
        UpstreamError: the bytes are no ModelStreamInferResponse, or one with a group of very many fields.
    """
    try:
        message, body = pb.ModelStreamInferResponse.FromString(content), _body(content)
    except (DecodeError, ValueError) as error:
        text = "upstream's message is no ModelStreamInferResponse"
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, text) from error
    response = message.infer_response
    return StreamedResponse(
        content=content,
        error=message.error_message,
        body=body,
        id=response.id,
        is_final=_flag(response.parameters, IS_FINAL),
        has_tensors=bool(response.outputs or response.raw_output_contents),
    )


def with_body(received: StreamedResponse, body: bytes, client_id: str) -> bytes:
    """The upstream's message with another ModelInferResponse in it, under the client's id, or none where that is empty.

    ``body`` has an id, as the response that it was made from has.

    Raises:
        InternalError: the new bytes do not decode to this response under this id.
    """
    message = _with_inner(received.content, _with_id(body, client_id))
    _compare(message, received.error, body, client_id)
    return message


def cleaned_error(received: StreamedResponse, client_id: str) -> bytes:
    """An error of the upstream's under the client's id: without our id in its text, and without the tensors that may
    come with it, for nobody has judged them.
    """
    # Another id of ours may begin with this one.
    text = re.sub(rf"{re.escape(received.id)}(?!\d)", lambda _: client_id or _NO_ID, received.error)
    texts = _count(received.content, _ERROR_MESSAGE)
    edits = {**_drop(_ERROR_MESSAGE, texts), (_ERROR_MESSAGE, texts - 1): text.encode()}
    content = splice(received.content, edits)
    body = splice(
        received.body, {key: None for number in _TENSORS for key in _drop(number, _count(received.body, number))}
    )
    return with_body(dataclasses.replace(received, content=content, error=text), body, client_id)


def encode_streamed(body: bytes, is_final: bool | None) -> bytes:
    """A ModelInferResponse of ours as a message of a stream, with the finality of the response it stands for."""
    message = pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(body))
    if is_final is not None:
        message.infer_response.parameters[IS_FINAL].bool_param = is_final
    return message.SerializeToString()


def encode_error(text: str, client_id: str, is_final: bool | None) -> bytes:
    """An error of ours in the form in which servers send theirs, with the finality of the response it stands for."""
    message = pb.ModelStreamInferResponse(error_message=text)
    message.infer_response.id = client_id
    if is_final is not None:
        message.infer_response.parameters[IS_FINAL].bool_param = is_final
    return message.SerializeToString()


def _flag(parameters: Mapping[str, pb.InferParameter], name: str) -> bool | None:
    """A parameter that is true or false; None where it is absent or of another type."""
    if name not in parameters:
        return None
    parameter = parameters[name]
    return parameter.bool_param if parameter.HasField("bool_param") else None


def _delimited(content: bytes, number: int) -> list[Field]:
    return [
        field
        for field in top_level_fields(content)
        if field.number == number and field.wire_type is WireType.LENGTH_DELIMITED
    ]


def _count(content: bytes, number: int) -> int:
    return len(_delimited(content, number))


def _drop(number: int, count: int) -> dict[tuple[int, int], bytes | None]:
    return {(number, index): None for index in range(count)}


def _body(content: bytes) -> bytes:
    # Where a submessage comes in several pieces, protobuf merges them, which is what it does to joined bytes, too.
    return b"".join(content[field.payload : field.end] for field in _delimited(content, _INFER_RESPONSE))


def _with_id(body: bytes, own: str) -> bytes:
    """The last id is the one that counts; it becomes this one, all others go."""
    count = _count(body, _ID)
    edits = _drop(_ID, count)
    if own:
        edits[_ID, count - 1] = own.encode()
    return splice(body, edits)


def _with_inner(content: bytes, body: bytes) -> bytes:
    edits = _drop(_INFER_RESPONSE, _count(content, _INFER_RESPONSE))
    return splice(content, {**edits, (_INFER_RESPONSE, 0): body})


def _compare(content: bytes, error: str, body: bytes, client_id: str) -> None:
    written, expected = pb.ModelStreamInferResponse.FromString(content), pb.ModelInferResponse.FromString(body)
    expected.id = client_id
    # As bytes: two messages with a NaN in them need not be equal.
    got, wanted = (each.SerializeToString(deterministic=True) for each in (written.infer_response, expected))
    if got != wanted or written.error_message != error:
        raise InternalError(Reason.INTERNAL, "the message under the client's id does not decode to the response")
