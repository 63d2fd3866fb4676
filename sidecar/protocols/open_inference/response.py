"""A ModelInfer response: bytes in, the gated output rows out; changed rows in, bytes out.

Reading checks that the gated outputs are there, alone of their name, with the datatype, shape and
contents that the signature says. Writing replaces the changed values and leaves every other byte as it
was, in the form (raw or typed) that the upstream chose; then it reads the new bytes again and compares.

Source: Open Inference Protocol v2, "ModelInfer".
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from sidecar.errors import InternalError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.contents import (
    Defect,
    TensorDefect,
    TensorReader,
    changed_values,
    replace_raw,
    replace_typed,
    side_by_side,
)
from sidecar.protocols.open_inference.request import Asked
from sidecar.protocols.wire import splice
from sidecar.tensors import GATED_DATATYPES, Datatype, ModelSignature, Rows, TensorSpec, encode_raw

_REASON: Final[dict[Defect, Reason]] = {
    Defect.MISSING: Reason.UPSTREAM_OUTPUT_MISSING,
    Defect.DUPLICATE: Reason.UPSTREAM_MALFORMED,
    Defect.DATATYPE: Reason.UPSTREAM_OUTPUT_DATATYPE,
    Defect.SHAPE: Reason.UPSTREAM_OUTPUT_SHAPE,
    Defect.CONTENTS: Reason.UPSTREAM_OUTPUT_CONTENTS,
}

MAX_DIMENSIONS: Final = 64
"""Of a tensor that is read although it has another shape than was verified."""

_OUTPUTS: Final = pb.ModelInferResponse.OUTPUTS_FIELD_NUMBER
_RAW_OUTPUT_CONTENTS: Final = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER

_MOST_IN_PLACE: Final = 4096
"""Bytes of a tensor that are looked for in the message; looking for many takes longer than following its fields."""


@dataclasses.dataclass(frozen=True, eq=False)
class GatedResponse:
    """A response whose gated outputs can be judged. The message stays in this package.

    Args:
        content: the bytes as received.
        outputs: float64 (row, output): the gated output tensors side by side; may hold NaN and infinity.
        message: what the protobuf runtime makes of the bytes.
        positions: where each gated output of the signature stands among the message's outputs.
    """

    content: bytes
    outputs: Rows
    message: pb.ModelInferResponse
    positions: tuple[int, ...]

    @property
    def model_version(self) -> str:
        """The version that answered, as the upstream says; empty where it does not."""
        return self.message.model_version


def read_response(content: bytes, signature: ModelSignature, count: int) -> GatedResponse:
    """Parse a response to a request of ``count`` rows, and read the gated outputs.

    Raises:
        UpstreamError: the response cannot be judged; each cause has its own reason.
    """
    message = _parse(content)
    try:
        reader = TensorReader(message.outputs, message.raw_output_contents, empty_beside_raw=True)
        positions = reader.positions(signature.outputs)
        tensors = []
        for position, spec in zip(positions, signature.outputs, strict=True):
            rows = reader.row_count(position, spec, signature.batch_axis)
            if rows != count:
                raise TensorDefect(Defect.SHAPE, f"tensor {spec.name!r} has {rows} rows, the request has {count}")
            tensors.append(reader.rows(position, spec, count))
    except TensorDefect as defect:
        raise UpstreamError(_REASON[defect.defect], f"upstream's output {defect.message}") from defect
    return GatedResponse(content, side_by_side(tensors), message, positions)


def read_what_can_be(content: bytes, signature: ModelSignature, count: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The gated outputs of a response that :func:`read_response` refuses, as far as they can be read.

    A client may make something of a tensor of another numeric datatype, or of another shape with as many values; so
    these are read, too. What two readers may read differently is not.

    Returns:
        float64 (row, output), NaN in tensors that cannot be read; bool (output,), whether it can be.

    Raises:
        UpstreamError: the bytes are no ModelInferResponse, or contents are ambiguous or do not fit their shape.
    """
    message = _parse(content)
    try:
        reader = TensorReader(message.outputs, message.raw_output_contents, empty_beside_raw=True)
        tensors = [_tensor_or_none(reader, message, spec, count) for spec in signature.outputs]
    except TensorDefect as defect:
        raise UpstreamError(_REASON[defect.defect], f"upstream's output {defect.message}") from defect
    rows = [
        np.full((count, spec.row_size), np.nan) if tensor is None else tensor
        for spec, tensor in zip(signature.outputs, tensors, strict=True)
    ]
    readable = [tensor is not None for tensor in tensors]
    return side_by_side(rows), np.repeat(readable, [spec.row_size for spec in signature.outputs])


def _tensor_or_none(reader: TensorReader, message: pb.ModelInferResponse, spec: TensorSpec, count: int) -> Rows | None:
    try:
        (position,) = reader.positions((spec,))
    except TensorDefect as defect:
        if defect.defect is Defect.MISSING:
            return None
        raise
    tensor = message.outputs[position]
    if tensor.datatype not in GATED_DATATYPES or len(tensor.shape) > MAX_DIMENSIONS:
        return None
    size = math.prod(tensor.shape)
    values = reader.rows(position, TensorSpec(spec.name, Datatype(tensor.datatype), ()), size)
    return values.reshape(count, spec.row_size) if size == count * spec.row_size else None


def encode_response(asked: Asked, outputs: Rows, signature: ModelSignature) -> bytes:
    """A response of our own to a request, with all gated outputs, raw.

    ``outputs`` is float64 (row, output); its values are representable in their datatype.
    """
    message = pb.ModelInferResponse(model_name=asked.model_name, model_version=asked.model_version, id=asked.id)
    start = 0
    for spec in signature.outputs:
        rows = outputs[:, start : start + spec.row_size]
        start += spec.row_size
        shape = spec.row_shape if signature.batch_axis is None else (len(rows), *spec.row_shape)
        message.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        message.raw_output_contents.append(encode_raw(rows.reshape(-1), spec.datatype))
    return message.SerializeToString()


def replace_outputs(response: GatedResponse, outputs: Rows, signature: ModelSignature) -> bytes:
    """The response with its gated outputs replaced where ``outputs`` differs from what it holds.

    ``outputs`` has the shape of ``response.outputs``; its changed values are representable in their datatype.

    Raises:
        InternalError: the new bytes do not decode to ``outputs``.
    """
    edits = dict(_edits(response, outputs, signature))
    replaced = _in_place(response, edits) or splice(response.content, edits)
    decoded = read_response(replaced, signature, len(outputs)).outputs
    # The same bits are the same values; others may be so too, zeros and NaN.
    if decoded.tobytes() != outputs.tobytes() and not np.array_equal(decoded, outputs, equal_nan=True):
        raise InternalError(Reason.INTERNAL, "the corrected response does not decode to the corrected rows")
    return replaced


def drop_outputs(content: bytes, names: frozenset[str]) -> bytes:
    """The response without the outputs of these names.

    Raises:
        UpstreamError: the bytes are no ModelInferResponse, or its raw contents do not align with its outputs.
        InternalError: something else than these outputs is missing from the new bytes.
    """
    message = _parse(content)
    dropped = [index for index, tensor in enumerate(message.outputs) if tensor.name in names]
    try:
        is_raw = TensorReader(message.outputs, message.raw_output_contents, empty_beside_raw=True).is_raw
    except TensorDefect as defect:
        raise UpstreamError(_REASON[defect.defect], f"upstream's outputs: {defect.message}") from defect
    fields = (_OUTPUTS, _RAW_OUTPUT_CONTENTS) if is_raw else (_OUTPUTS,)
    cut = splice(content, {(field, index): None for field in fields for index in dropped})
    for index in reversed(dropped):
        del message.outputs[index]
        if is_raw:
            del message.raw_output_contents[index]
    # As bytes: two messages with a NaN in them need not be equal.
    if _parse(cut).SerializeToString(deterministic=True) != message.SerializeToString(deterministic=True):
        raise InternalError(Reason.INTERNAL, "the response without some outputs does not decode to the other ones")
    return cut


def _in_place(response: GatedResponse, edits: dict[tuple[int, int], bytes | None]) -> bytes | None:
    """One tensor's raw contents replaced by as many bytes, in a fraction of the time; None where it is otherwise."""
    raw = response.message.raw_output_contents
    if len(edits) != 1 or not raw:
        return None
    (((_, position), new),) = edits.items()
    content, old = response.content, raw[position]
    if new is None or len(new) != len(old) or len(old) > _MOST_IN_PLACE:
        return None
    at = content.find(old)
    if at < 0 or content.find(old, at + 1) >= 0:  # which of them is the tensor's, the message's fields must tell
        return None
    return b"".join((content[:at], new, content[at + len(old) :]))


def _edits(
    response: GatedResponse, outputs: Rows, signature: ModelSignature
) -> Iterator[tuple[tuple[int, int], bytes | None]]:
    start = 0
    raw = response.message.raw_output_contents
    for position, spec in zip(response.positions, signature.outputs, strict=True):
        columns = slice(start, start + spec.row_size)
        start += spec.row_size
        changed = changed_values(response.outputs[:, columns], outputs[:, columns])
        if not np.count_nonzero(changed):
            continue
        if raw:
            yield (
                (_RAW_OUTPUT_CONTENTS, position),
                replace_raw(raw[position], changed, outputs[:, columns], spec.datatype),
            )
        else:
            tensor = pb.ModelInferResponse.InferOutputTensor()
            tensor.CopyFrom(response.message.outputs[position])
            replace_typed(tensor, changed, outputs[:, columns], spec.datatype)
            yield (_OUTPUTS, position), tensor.SerializeToString()


def _parse(content: bytes) -> pb.ModelInferResponse:
    try:
        return pb.ModelInferResponse.FromString(content)
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "upstream's answer is no ModelInferResponse") from error
