"""A ModelInfer request: bytes in, the gated input rows and the bytes to forward out.

The bytes are parsed by the protobuf runtime, so that repeated scalar fields, split submessages, packed and
unpacked lists, and repeated map keys mean here what they mean to the upstream. What could hide a
gated tensor from us (shared memory, classification, a tensor given twice) is refused; an output that a
gate needs and the client did not ask for is asked for besides, and taken out of the answer again.

Source: Open Inference Protocol v2, "ModelInfer".
"""

import dataclasses
import reprlib
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.map_entries import refuse_hidden_entries
from sidecar.protocols.open_inference.bulk import refuse_bulky_structure
from sidecar.protocols.open_inference.contents import (
    Defect,
    TensorDefect,
    TensorReader,
    shared_memory_keys,
    side_by_side,
)
from sidecar.tensors import ModelSignature, Rows

MAX_TENSORS: Final = 4096
"""In one request. A message of empty tensors could else hold millions, each looked at one by one."""

_REASON: Final[dict[Defect, Reason]] = {
    Defect.MISSING: Reason.INPUT_MISSING,
    Defect.DUPLICATE: Reason.INPUT_DUPLICATE,
    Defect.DATATYPE: Reason.INPUT_DATATYPE,
    Defect.SHAPE: Reason.INPUT_SHAPE,
    Defect.CONTENTS: Reason.INPUT_CONTENTS,
}


@dataclasses.dataclass(frozen=True, eq=False)
class InferRequest:
    """A parsed request. The message stays in this package.

    Args:
        content: the bytes as received.
        model_name: the model asked for.
        message: what the protobuf runtime makes of the bytes.
    """

    content: bytes
    model_name: str
    message: pb.ModelInferRequest


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an answer has to repeat of its request, or to have.

    Args:
        model_name, model_version, id: as in the request; empty where it has none.
        outputs: by name; empty for all that there are.
    """

    model_name: str = ""
    model_version: str = ""
    id: str = ""
    outputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class GatedRequest:
    """What the gates and the upstream get.

    Args:
        inputs: float64 (row, input), finite: the gated input tensors side by side.
        forward: the client's bytes; with more outputs asked for where ``added_outputs`` says so.
        added_outputs: gated outputs that the client did not ask for.
    """

    inputs: Rows
    forward: bytes
    added_outputs: frozenset[str]


def parse_request(content: bytes) -> InferRequest:
    """Parse a ModelInfer request.

    Raises:
        CallerError: the bytes are no such message, or would take many times their size once parsed.
    """
    refuse_bulky_structure(content)
    try:
        message = pb.ModelInferRequest.FromString(content)
    except DecodeError as error:
        raise CallerError(Reason.MALFORMED_REQUEST, "the message is no ModelInferRequest: resend it whole") from error
    return InferRequest(content, message.model_name, message)


def asked_of(request: InferRequest) -> Asked:
    """What an answer to a request has to repeat, or to have."""
    message = request.message
    names = tuple([output.name for output in message.outputs])
    return Asked(message.model_name, message.model_version, message.id, names)


def read_request(request: InferRequest, signature: ModelSignature, limit_rows: int) -> GatedRequest:
    """Check a request against its model's signature and read the gated inputs; at most ``limit_rows`` rows.

    Raises:
        CallerError: the request cannot be judged as it is; each cause has its own reason.
    """
    _refuse_too_many_tensors(request.message)
    _refuse_hidden_parameters(request.message)
    _refuse_shared_memory(request.message)
    inputs = _read_inputs(request.message, signature, limit_rows)
    refuse_non_finite(inputs, signature)
    added = _outputs_to_add(request.message, signature) if request.message.outputs else []
    forward = request.content + _output_requests(added) if added else request.content
    return GatedRequest(inputs, forward, frozenset(added))


def _refuse_too_many_tensors(message: pb.ModelInferRequest) -> None:
    count = max(len(message.inputs), len(message.outputs), len(message.raw_input_contents))
    if count > MAX_TENSORS:
        raise CallerError(Reason.MALFORMED_REQUEST, f"got {count} tensors, at most {MAX_TENSORS} are accepted")


def _refuse_hidden_parameters(message: pb.ModelInferRequest) -> None:
    """A parameter that we do not see could put a tensor into shared memory behind our back."""
    for holder in (message, *message.inputs, *message.outputs):
        refuse_hidden_entries(holder, "parameters")


def _refuse_shared_memory(message: pb.ModelInferRequest) -> None:
    holders = [(tensor.name, parameters) for tensor in message.inputs if (parameters := tensor.parameters)]
    holders += [(tensor.name, parameters) for tensor in message.outputs if (parameters := tensor.parameters)]
    for name, parameters in holders:
        if keys := shared_memory_keys(parameters):
            raise CallerError(
                Reason.SHARED_MEMORY,
                f"tensor {reprlib.repr(name)} has parameters {keys}: what is in shared memory cannot be judged; "
                "send the tensor in the message",
            )


def _read_inputs(message: pb.ModelInferRequest, signature: ModelSignature, limit_rows: int) -> Rows:
    try:
        reader = TensorReader(message.inputs, message.raw_input_contents)
        places = list(zip(reader.positions(signature.inputs), signature.inputs, strict=True))
        counts = [reader.row_count(at, spec, signature.batch_axis) for at, spec in places]
        count = _common_count(counts, signature, limit_rows)
        return side_by_side([reader.rows(at, spec, count) for at, spec in places])
    except TensorDefect as defect:
        raise CallerError(_REASON[defect.defect], f"input {defect.message}") from defect


def _common_count(counts: list[int], signature: ModelSignature, limit_rows: int) -> int:
    largest = max(counts)
    if min(counts) != largest:
        by_name = {spec.name: count for spec, count in zip(signature.inputs, counts, strict=True)}
        raise CallerError(Reason.INPUT_SHAPE, f"input tensors differ in their number of rows: {by_name}")
    refuse_too_many_rows(largest, limit_rows)
    return largest


def refuse_too_many_rows(count: int, limit_rows: int) -> None:
    """Refuse a batch over the limit.

    Raises:
        CallerError: it is.
    """
    if count > limit_rows:
        raise CallerError(
            Reason.INPUT_SHAPE, f"got {count} rows, at most {limit_rows} are accepted: send smaller batches"
        )


def refuse_non_finite(inputs: Rows, signature: ModelSignature) -> None:
    """Refuse rows that hold NaN or infinity.

    Raises:
        CallerError: they do.
    """
    finite = np.isfinite(inputs)
    if np.count_nonzero(finite) < finite.size:  # of one row, in a tenth of the time of all()
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        names = [spec.name for spec in signature.inputs for _ in range(spec.row_size)]
        raise CallerError(
            Reason.INPUT_NOT_FINITE,
            f"input tensor {names[column]!r} holds {inputs[row, column]} in row {row}, expected finite values",
        )


def _outputs_to_add(message: pb.ModelInferRequest, signature: ModelSignature) -> list[str]:
    gated = [spec.name for spec in signature.outputs]
    asked: set[str] = set()
    for output in message.outputs:
        if output.name not in gated:
            continue
        if output.name in asked:
            raise CallerError(Reason.MALFORMED_REQUEST, f"output {output.name!r} is asked for twice: ask once")
        if "classification" in output.parameters:
            raise CallerError(
                Reason.CLASSIFICATION,
                f"output {output.name!r} is asked for as classification, which hides the values that are judged; "
                "ask for the tensor",
            )
        asked.add(output.name)
    return [name for name in gated if name not in asked]


def _output_requests(names: list[str]) -> bytes:
    # A serialised message appended to another one merges with it: repeated fields go on. The client's bytes
    # thus stay as they are.
    tensors = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]
    return pb.ModelInferRequest(outputs=tensors).SerializeToString()
