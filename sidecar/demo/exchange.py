"""Every request goes to the model server and to the sidecar in front of it, as bytes over real gRPC."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Final

import grpc

from sidecar.errors import OperationError
from sidecar.protocols.open_inference.client import decode_server_ready, encode_infer_request
from sidecar.protocols.open_inference.response import read_response
from sidecar.tensors import ModelSignature, Rows

_SERVICE: Final = "/inference.GRPCInferenceService/"
_DEADLINE_SECONDS: Final = 10.0
_READY_SECONDS: Final = 15.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """One server's answer.

    Args:
        content: the message's bytes.
        seconds: from sending to having it.
        decision: the sidecar's decision id; empty from the model server.
    """

    content: bytes
    seconds: float
    decision: str


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """One request and what became of it.

    Args:
        inputs: float64 (row, input).
        direct, guarded: the model server's and the sidecar's answer.
        model_outputs, client_outputs: float64 (row, output): the scores in those answers.
    """

    inputs: Rows
    direct: Answer
    guarded: Answer
    model_outputs: Rows
    client_outputs: Rows


class Line:
    """A connection to one server.

    Args:
        name: for error messages.
        channel: an open channel.
    """

    def __init__(self, name: str, channel: grpc.Channel) -> None:
        self._name = name
        self._infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SERVICE + "ModelInfer")
        self._ready: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_SERVICE + "ServerReady")

    def wait_until_ready(self) -> None:
        """Return once the server says that it is ready.

        Raises:
            OperationError: it does not in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(grpc.RpcError):
                if decode_server_ready(self._ready(b"", timeout=left, wait_for_ready=True)):
                    return
            time.sleep(0.05)
        raise OperationError(f"the {self._name} is not ready after {_READY_SECONDS:g} s; see its log (--keep DIR)")

    def ask(self, request: bytes) -> Answer:
        """One ModelInfer call.

        Raises:
            OperationError: it ended with an error.
        """
        began = time.perf_counter()
        try:
            content, call = self._infer.with_call(request, timeout=_DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise OperationError(f"the {self._name} answered {error.code().name}: {error.details()}") from error
        seconds = time.perf_counter() - began
        decision = dict(call.trailing_metadata() or ()).get("gate-decision", "")
        return Answer(content, seconds, str(decision))


@contextlib.contextmanager
def connected(name: str, port: int) -> Iterator[Line]:
    """A connection to a server on this machine, which is ready."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        line = Line(name, channel)
        line.wait_until_ready()
        yield line


def exchanges(
    name: str,
    signature: ModelSignature,
    requests: Iterator[Rows],
    direct: Line,
    guarded: Line,
    progress: Callable[[int], None],
) -> Iterator[Exchange]:
    """Send each request both ways, one after the other; which goes first alternates.

    Raises:
        OperationError: a call ended with an error.
        UpstreamError: an answer cannot be read.
    """
    for number, inputs in enumerate(requests):
        request = encode_infer_request(name, inputs, signature)
        order = (direct, guarded) if number % 2 == 0 else (guarded, direct)
        answers = {line: line.ask(request) for line in order}
        outputs = [read_response(answers[line].content, signature, len(inputs)).outputs for line in (direct, guarded)]
        progress(number + 1)
        yield Exchange(inputs, answers[direct], answers[guarded], outputs[0], outputs[1])
