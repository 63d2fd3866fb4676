"""What a large request may consist of, looked at before the protobuf runtime makes objects of it.

One byte of a message can take many bytes once it is parsed: an empty tensor is two bytes on the wire and ninety in
memory, a small integer in a list is one and eight. Only tensor contents may therefore be large: raw ones,
and typed ones of floating-point numbers or strings. Everything else is *structure*, and limited.

Source: Open Inference Protocol v2, "ModelInfer"; Protocol Buffers, "Encoding".
"""

from collections.abc import Mapping
from typing import Final, Optional, TypeAlias

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.wire import Buffer, WireType, top_level_fields

SMALL_MESSAGE_BYTES: Final = 64 * 1024
"""A message up to this size may consist of anything; parsed it takes 3 MB at most."""

MAX_STRUCTURE_BYTES: Final = 4 * 1024 * 1024
"""In one message, with :data:`FIELD_BYTES` for every field. Room for 16 thousand fields, and 4 MiB of names."""

FIELD_BYTES: Final = 256
"""What a field counts besides its own bytes: about what its object takes in memory."""

_Contents: TypeAlias = Mapping[int, Optional["_Contents"]]
"""By field number: None where the payload is tensor contents, else the message that contents lie in, or whose fields
are looked at one by one later on."""

_CONTENTS: Final[_Contents] = {
    pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER: None,
    pb.ModelInferRequest.INPUTS_FIELD_NUMBER: {
        pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER: {
            pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER: None,
            pb.InferTensorContents.FP64_CONTENTS_FIELD_NUMBER: None,
            pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER: None,
        }
    },
    pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER: {},
}


def refuse_bulky_structure(content: bytes) -> None:
    """Refuse a large ModelInfer request whose structure would take many times its size in memory.

    Raises:
        CallerError: the structure is over the limit, or the bytes are no protobuf message.
    """
    if len(content) <= SMALL_MESSAGE_BYTES:
        return
    try:
        left = _structure_left(memoryview(content), _CONTENTS, MAX_STRUCTURE_BYTES)
    except ValueError as error:
        raise CallerError(Reason.MALFORMED_REQUEST, f"the message is no ModelInferRequest: {error}") from error
    if left < 0:
        raise CallerError(
            Reason.MALFORMED_REQUEST,
            f"more than {MAX_STRUCTURE_BYTES} bytes of the message are no tensor contents ({FIELD_BYTES} counted for "
            "every field); send large tensors in raw_input_contents",
        )


def _structure_left(message: Buffer, contents: _Contents, limit_bytes: int) -> int:
    """How much of the limit a message's structure leaves; the rest of it is not looked at once that is negative."""
    for field in top_level_fields(message):
        limit_bytes -= FIELD_BYTES * field.fields
        if field.wire_type is not WireType.LENGTH_DELIMITED or field.number not in contents:
            limit_bytes -= field.end - field.start
        elif (inner := contents[field.number]) is not None:
            limit_bytes = _structure_left(message[field.payload : field.end], inner, limit_bytes)
        if limit_bytes < 0:
            break
    return limit_bytes
