"""The messages of ModelMetadata, as values: which tensors a server says that its model has.

Source: Open Inference Protocol v2, "ModelMetadata".
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from sidecar.errors import Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb


@dataclasses.dataclass(frozen=True)
class ServedTensor:
    """One tensor as the server describes it.

    Args:
        name, datatype: as sent; the datatype may be one that we do not know.
        shape: as sent, batch axis included where the server includes it; -1 stands for any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ServedTensors:
    """What the server says; some servers say nothing, and both are empty then."""

    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]


def encode_model_metadata_request(model_name: str) -> bytes:
    """A ModelMetadata request for whatever version the server chooses."""
    return pb.ModelMetadataRequest(name=model_name).SerializeToString()


def decode_model_metadata(content: bytes) -> ServedTensors:
    """The tensors in a ModelMetadata response.

    Raises:
        UpstreamError: the bytes are no such message.
    """
    try:
        response = pb.ModelMetadataResponse.FromString(content)
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "upstream's answer is no ModelMetadataResponse") from error
    return ServedTensors(_tensors(response.inputs), _tensors(response.outputs))


def _tensors(described: Iterable[Any]) -> tuple[ServedTensor, ...]:
    return tuple(ServedTensor(each.name, each.datatype, tuple(each.shape)) for each in described)
