"""The messages of grpc.health.v1, as values.

Source: the gRPC health checking protocol.
"""

import enum

from google.protobuf.message import DecodeError

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import health_pb2 as pb


class ServingStatus(enum.IntEnum):
    """What a service is said to be."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def decode_health_request(content: bytes) -> str:
    """The service that is asked about; empty for the server as a whole.

    Raises:
        CallerError: the bytes are no such message.
    """
    try:
        return pb.HealthCheckRequest.FromString(content).service
    except DecodeError as error:
        raise CallerError(Reason.MALFORMED_REQUEST, "the message is no HealthCheckRequest") from error


def encode_health_response(status: ServingStatus) -> bytes:
    """A response to Check, or one message of Watch's."""
    return pb.HealthCheckResponse(status=pb.HealthCheckResponse.ServingStatus.Name(status)).SerializeToString()
