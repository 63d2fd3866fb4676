"""The messages of ServerReady and ModelReady, as values."""

from google.protobuf.message import DecodeError

from sidecar.errors import Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb


def encode_server_ready(ready: bool) -> bytes:
    """A ServerReady response."""
    return pb.ServerReadyResponse(ready=ready).SerializeToString()


def encode_model_ready_request(model_name: str) -> bytes:
    """A ModelReady request for whatever version the server chooses."""
    return pb.ModelReadyRequest(name=model_name).SerializeToString()


def decode_model_ready(content: bytes) -> bool:
    """Whether a ModelReady response says that the model can infer.

    Raises:
        UpstreamError: the bytes are no such message.
    """
    try:
        return pb.ModelReadyResponse.FromString(content).ready
    except DecodeError as error:
        raise UpstreamError(Reason.UPSTREAM_MALFORMED, "upstream's answer is no ModelReadyResponse") from error
