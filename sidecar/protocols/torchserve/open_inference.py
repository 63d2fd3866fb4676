"""What is peculiar to TorchServe's Open Inference service: the same messages under another package name.

It drops raw contents without a word (the handler gets nothing, and answers all the same), so these are refused. Its
handlers must answer with an id, or their worker is ended: a request without one gets one of ours, which is taken out
of the answer again.

Source: TorchServe 0.12, service `org.pytorch.serve.grpc.openinference.GRPCInferenceService`.
"""

import dataclasses
from typing import Final

from google.protobuf.message import DecodeError

from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.contents import TYPED_FIELD, python_number
from sidecar.protocols.open_inference.request import GatedRequest, InferRequest, parse_request, read_request
from sidecar.protocols.wire import WireType, splice, top_level_fields
from sidecar.tensors import ModelSignature, Rows

OUR_ID: Final = "gate"
"""Nothing is found by it: a unary call has its own answer."""

_ID: Final = pb.ModelInferResponse.ID_FIELD_NUMBER


def parse_infer_request(content: bytes) -> InferRequest:
    """Parse a ModelInfer request, which then has an id.

    Raises:
        CallerError: the bytes are no such message.
    """
    request = parse_request(content)
    if has_id(request):
        return request
    # A serialised message appended to another one merges with it, and the last value of a field counts.
    return dataclasses.replace(request, content=content + pb.ModelInferRequest(id=OUR_ID).SerializeToString())


def has_id(request: InferRequest) -> bool:
    """Whether the client set one."""
    return bool(request.message.id)


def read_infer_request(request: InferRequest, signature: ModelSignature, limit_rows: int) -> GatedRequest:
    """Check a request as :func:`~sidecar.protocols.open_inference.request.read_request` does.

    Raises:
        CallerError: as there; or the contents would not reach the handler.
    """
    if request.message.raw_input_contents:
        raise CallerError(
            Reason.INPUT_CONTENTS,
            "the request has raw contents, which TorchServe's Open Inference service drops; send typed contents",
        )
    return read_request(request, signature, limit_rows)


def encode_infer_request(model_name: str, rows: Rows, signature: ModelSignature) -> bytes:
    """A request of our own with typed contents.

    Args:
        model_name: the served model.
        rows: float64 (row, input); one row where there is no batch axis.
        signature: the model's tensors, all of datatypes that have typed contents.
    """
    request = pb.ModelInferRequest(model_name=model_name, id=OUR_ID)
    start = 0
    for spec in signature.inputs:
        values = rows[:, start : start + spec.row_size].reshape(-1)
        start += spec.row_size
        leading = () if signature.batch_axis is None else (len(rows),)
        tensor = request.inputs.add(name=spec.name, datatype=spec.datatype, shape=(*leading, *spec.row_shape))
        getattr(tensor.contents, TYPED_FIELD[spec.datatype]).extend(map(python_number(spec.datatype), values))
    return request.SerializeToString()


def require_typed(signature: ModelSignature) -> None:
    """Refuse tensors that the service cannot carry.

    Raises:
        ValueError: a tensor's datatype has no typed contents.
    """
    for spec in (*signature.inputs, *signature.outputs):
        if spec.datatype not in TYPED_FIELD:
            raise ValueError(f"tensor {spec.name!r} is {spec.datatype}, which has no typed contents; use format raw")


def without_id(content: bytes) -> bytes:
    """A ModelInfer response without its id, all other bytes as they were.

    Raises:
        UpstreamError: the bytes are no such message.
    """
    try:
        pb.ModelInferResponse.FromString(content)
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "upstream's answer is no ModelInferResponse") from error
    count = sum(
        field.number == _ID and field.wire_type is WireType.LENGTH_DELIMITED for field in top_level_fields(content)
    )
    return splice(content, {(_ID, occurrence): None for occurrence in range(count)})
