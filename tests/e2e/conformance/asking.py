"""One request, as a call or on a stream of its own, as bytes: nothing between a case and the wire parses it."""

import contextlib
import dataclasses
import enum
from collections.abc import Iterator

import grpc

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.wire import top_level_fields
from sidecar.proxy.events import RequestOutcome
from sidecar.proxy.metrics import Metrics

SERVICE = "/inference.GRPCInferenceService/"
TIMEOUT_SECONDS = 20.0
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
ANSWER_FIELD = 2


class Way(enum.StrEnum):
    """How a request travels."""

    CALL = "call"
    STREAM = "stream"


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back: a ModelInferResponse's bytes, or an error with its words."""

    body: bytes | None
    details: str
    trailers: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Asker:
    """Asks one address one way."""

    channel: grpc.Channel
    way: Way

    def ask(self, request: bytes) -> Reply:
        """The reply to one request."""
        return self._call(request) if self.way is Way.CALL else self._stream(request)

    def _call(self, request: bytes) -> Reply:
        try:
            method = self.channel.unary_unary(SERVICE + "ModelInfer")
            body, done = method.with_call(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return Reply(None, error.details(), _text(error.trailing_metadata()))
        return Reply(body, "", _text(done.trailing_metadata()))

    def _stream(self, request: bytes) -> Reply:
        stream = self.channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([request]), timeout=TIMEOUT_SECONDS)
        try:
            messages = list(stream)
        except grpc.RpcError as error:
            return Reply(None, error.details(), _text(error.trailing_metadata()))
        (message,) = messages
        said = pb.ModelStreamInferResponse.FromString(message)
        if said.error_message:
            return Reply(None, said.error_message, {"gate-reason": said.error_message.partition(":")[0]})
        (field,) = (each for each in top_level_fields(message) if each.number == ANSWER_FIELD)
        return Reply(message[field.payload : field.end], "", {})


def _text(metadata) -> dict[str, str]:
    return {each.key: each.value for each in metadata or () if isinstance(each.value, str)}


@contextlib.contextmanager
def asker(address: str, way: Way) -> Iterator[Asker]:
    """Asks this address until the block is left."""
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        yield Asker(channel, way)


def outcomes(metrics: Metrics) -> dict[str, float]:
    """How often each outcome was counted: on a stream nothing else says it."""
    counted = dict.fromkeys(map(str, RequestOutcome), 0.0)
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "gate_requests_total":
                counted[sample.labels["outcome"]] += sample.value
    return counted
