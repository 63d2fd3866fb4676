"""The gRPC shell of the embedded model server: methods, statuses, and the server's life.

It speaks the unary part of the Open Inference Protocol v2. grpcio's thread-pool server carries it rather than
grpc.aio: measured on an ACAS Xu network, one request costs 0.22 ms of CPU here, 0.26 ms with inference on an
asyncio loop, 0.33 ms with inference handed from the loop to threads; and a thread pool starts in any process,
beside any loop, which tests and the demonstration need.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from sidecar.errors import CallerError, InternalError, OperationError, Reason, SidecarError
from sidecar.model_server.model import VERSION, ServedModel, infer, load_model, metadata
from sidecar.protocols.generated import open_inference_pb2 as messages

SERVICE: Final = "/inference.GRPCInferenceService/"
STOP_GRACE_SECONDS: Final = 2.0
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # two servers on one port would share the clients silently
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class UnknownModel(SidecarError):
    """The request names a model, or a version of it, that is not served here."""


Method: TypeAlias = Callable[[Any], Message]


@dataclasses.dataclass(frozen=True)
class RunningModelServer:
    """A server that accepts calls on ``port``, until ``stop`` returns."""

    port: int
    _server: grpc.Server

    def stop(self) -> None:
        """Lets calls in flight finish, for a while, and closes the port."""
        self._server.stop(STOP_GRACE_SECONDS).wait()

    def wait(self) -> None:
        """Returns when the server has stopped."""
        self._server.wait_for_termination()


def start_model_server(model_path: pathlib.Path, name: str | None, listen: str) -> RunningModelServer:
    """Serves one ONNX model in this process, on threads of its own.

    Args:
        model_path: ``.onnx`` or ``.onnx.gz``.
        name: the served name; the file's stem where None.
        listen: ``host:port``; port 0 takes a free one.

    Raises:
        InputError: the model cannot be served.
        OperationError: the address cannot be listened on.
    """
    methods = _methods(load_model(model_path, name))
    workers = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="model-server")
    server = grpc.server(workers, handlers=[_Handlers(methods)], options=_OPTIONS)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OperationError(
            f"cannot listen on {listen}: is another process listening there? Choose another address with --listen"
        ) from error
    server.start()
    return RunningModelServer(port, server)


def run_model_server(model_path: pathlib.Path, name: str | None, listen: str, report: Callable[[str], None]) -> None:
    """Serves until the process gets SIGINT or SIGTERM; ``report`` is told once where the server listens."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = start_model_server(model_path, name, listen)
    host = listen.rpartition(":")[0]
    report(f"serving {model_path} on {host}:{running.port}")
    with contextlib.suppress(KeyboardInterrupt):
        running.wait()
    running.stop()


def _methods(model: ServedModel) -> dict[str, tuple[type[Message], Method]]:
    """Request type and answer of each method."""

    def server_metadata(_: messages.ServerMetadataRequest) -> Message:
        version = importlib.metadata.version("gate-sidecar")
        return messages.ServerMetadataResponse(name="gate-sidecar model-server", version=version)

    def model_ready(request: messages.ModelReadyRequest) -> Message:
        return messages.ModelReadyResponse(ready=_serves(model, request.name, request.version))

    def model_metadata(request: messages.ModelMetadataRequest) -> Message:
        _require_served(model, request.name, request.version)
        return metadata(model)

    def model_infer(request: messages.ModelInferRequest) -> Message:
        _require_served(model, request.model_name, request.model_version)
        return infer(model, request)

    return {
        SERVICE + "ServerLive": (messages.ServerLiveRequest, lambda _: messages.ServerLiveResponse(live=True)),
        SERVICE + "ServerReady": (messages.ServerReadyRequest, lambda _: messages.ServerReadyResponse(ready=True)),
        SERVICE + "ServerMetadata": (messages.ServerMetadataRequest, server_metadata),
        SERVICE + "ModelReady": (messages.ModelReadyRequest, model_ready),
        SERVICE + "ModelMetadata": (messages.ModelMetadataRequest, model_metadata),
        SERVICE + "ModelInfer": (messages.ModelInferRequest, model_infer),
    }


def _serves(model: ServedModel, name: str, version: str) -> bool:
    return name == model.name and version in ("", VERSION)


def _require_served(model: ServedModel, name: str, version: str) -> None:
    if not _serves(model, name, version):
        wanted = f"{name!r} version {version!r}" if version else repr(name)
        raise UnknownModel(f"model {wanted} is not served here; {model.name!r} version {VERSION!r} is")


class _Handlers(grpc.GenericRpcHandler):
    """Finds a method by its path; grpcio answers UNIMPLEMENTED where there is none."""

    def __init__(self, methods: dict[str, tuple[type[Message], Method]]) -> None:
        self._handlers = {path: _handler(*method) for path, method in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._handlers.get(handler_call_details.method)


def _handler(request_type: type[Message], method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
    def answer(content: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return method(_parsed(request_type, content)).SerializeToString()
        except UnknownModel as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except CallerError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except InternalError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))

    return grpc.unary_unary_rpc_method_handler(answer)


def _parsed(request_type: type[Message], content: bytes) -> Message:
    try:
        return request_type.FromString(content)
    except DecodeError as error:
        raise CallerError(Reason.MALFORMED_REQUEST, f"not a {request_type.__name__}: {error}") from error
