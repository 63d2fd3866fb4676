"""A sidecar and a small upstream in this process, on real sockets, from synchronous tests."""

import asyncio
import contextlib
import dataclasses
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path

import grpc
import grpc.aio

from sidecar.config import BundleSource, ServeSettings, TransportChoice
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.methods import MODEL_INFER, MODEL_METADATA, MODEL_READY
from sidecar.proxy.serve import RunningSidecar, start_sidecar
from sidecar.proxy.upstream import Upstream
from tests.conformance.guarded_model import bundle_bytes

READY = pb.ModelReadyResponse(ready=True).SerializeToString()


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine, timeout_seconds: float = 20.0):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_seconds)

    def close(self) -> None:
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


Behaviour = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class SocketUpstream(grpc.GenericRpcHandler):
    """A model server whose ModelInfer does what a test tells it to; it keeps what it was asked."""

    def __init__(self) -> None:
        self.behaviour: Behaviour | None = None
        self.answers: dict[str, bytes] = {MODEL_READY: READY}
        self.asked: list[tuple[str, bytes, dict, float | None]] = []
        self.cancelled = threading.Event()
        self.entered = threading.Event()

    def answer(self, body: bytes) -> None:
        async def behave(_request, _context) -> bytes:
            return body

        self.behaviour = behave

    def service(self, details):
        async def handle(request: bytes, context) -> bytes:
            if details.method not in (MODEL_READY, MODEL_METADATA):
                self.asked.append(
                    (details.method, request, dict(context.invocation_metadata()), context.time_remaining())
                )
            self.entered.set()
            if details.method == MODEL_INFER:
                try:
                    return await self.behaviour(request, context)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            if details.method not in self.answers:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method here")
            return self.answers[details.method]

        return grpc.unary_unary_rpc_method_handler(handle)

    async def start(self) -> int:
        unlimited = (("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20))
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *unlimited])
        self.server.add_generic_rpc_handlers((self,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port


@dataclasses.dataclass
class Reply:
    """One call as the client saw it."""

    body: bytes | None
    code: grpc.StatusCode
    details: str
    initial: dict
    trailing: dict


def call(port: int, method: str, request: bytes, *, metadata=(), timeout=10.0, compression=None, options=()) -> Reply:
    """A call with a fresh channel of grpcio's synchronous client."""
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *options)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        callable_ = channel.unary_unary(method)
        body, done = None, None
        try:
            body, done = callable_.with_call(request, metadata=metadata, timeout=timeout, compression=compression)
        except grpc.RpcError as error:
            done = error
        return Reply(body, done.code(), done.details(), dict(done.initial_metadata()), dict(done.trailing_metadata()))


def http2_call(port: int, path: bytes, message: bytes, headers: dict[bytes, bytes] | None = None) -> None:
    """A call in our own HTTP/2 frames, for headers that gRPC clients refuse to send; waits until it is answered."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"sidecar",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        **(headers or {}),
    }
    # Literal fields without indexing and without Huffman codes (RFC 7541, 6.2.2).
    block = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields.items())
    data = b"\0" + struct.pack(">I", len(message)) + message
    frames = _frame(4, 0, 0, b"") + _frame(1, 4, 1, block) + _frame(0, 1, 1, data)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
        with connection.makefile("rb") as received:
            while head := received.read(9):
                received.read(int.from_bytes(head[:3], "big"))
                if int.from_bytes(head[5:], "big") == 1 and head[4] & 1:  # END_STREAM
                    return


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def http(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Carried:
    """Which transport the sidecars of a test have, unless their settings say otherwise."""

    by = TransportChoice.PORTABLE


def settings(folder: Path, upstream_port: int, **changes) -> ServeSettings:
    path = folder / "guarded.gates"
    path.write_bytes(bundle_bytes())
    defaults = {
        "bundles": (BundleSource(path),),
        "upstream": f"127.0.0.1:{upstream_port}",
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "drain_seconds": 5.0,
        "readiness_interval_seconds": 0.05,
        "transport": Carried.by,
    }
    return ServeSettings(**{**defaults, **changes})


@contextlib.contextmanager
def sidecar(loop: Loop, settings: ServeSettings, upstream: Upstream | None = None) -> Iterator[RunningSidecar]:
    running = loop.run(start_sidecar(settings, upstream))
    try:
        yield running
    finally:
        loop.run(running.stop())
