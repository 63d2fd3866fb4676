"""An upstream whose ModelStreamInfer does what a test tells it to, and a client that opens streams."""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator

import grpc
import grpc.aio

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.methods import MODEL_READY, MODEL_STREAM_INFER
from tests.integration.proxy_harness import READY

Behaviour = Callable[[grpc.aio.ServicerContext], Awaitable[None]]
FINAL = "triton_final_response"
ASK = "triton_enable_empty_final_response"


def streamed(response: pb.ModelInferResponse | None = None, *, own_id="", final: bool | None = None, error="") -> bytes:
    """A message of the upstream's."""
    message = pb.ModelStreamInferResponse(error_message=error)
    message.infer_response.CopyFrom(response or pb.ModelInferResponse())
    message.infer_response.id = own_id
    if final is not None:
        message.infer_response.parameters[FINAL].bool_param = final
    return message.SerializeToString()


class StreamUpstream(grpc.GenericRpcHandler):
    """A model server; it keeps what it was asked on streams."""

    def __init__(self) -> None:
        self.behaviour: Behaviour | None = None
        self.ready = READY
        self.asked: list[pb.ModelInferRequest] = []
        self.opened: list[tuple[dict, float | None]] = []
        self.cancelled = threading.Event()
        self.half_closed = threading.Event()

    def answer(self, *answers: Iterable[Callable[[str], bytes]]) -> None:
        """Answer the n-th request with the n-th list of messages (the last one from then on), made from our id."""

        async def behave(context) -> None:
            count = 0
            async for request in self.requests(context):
                for make in answers[min(count, len(answers) - 1)]:
                    await context.write(make(request.id))
                count += 1

        self.behaviour = behave

    async def requests(self, context):
        while (message := await context.read()) is not grpc.aio.EOF:
            self.asked.append(pb.ModelInferRequest.FromString(message))
            yield self.asked[-1]
        self.half_closed.set()

    def service(self, details):
        if details.method == MODEL_READY:
            return grpc.unary_unary_rpc_method_handler(self._ready)
        if details.method != MODEL_STREAM_INFER:
            return None

        async def handle(_, context) -> None:
            self.opened.append((dict(context.invocation_metadata()), context.time_remaining()))
            try:
                await self.behaviour(context)
            except BaseException:
                self.cancelled.set()
                raise

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _ready(self, _request: bytes, _context) -> bytes:
        return self.ready

    async def start(self) -> int:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        self.server.add_generic_rpc_handlers((self,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port


@dataclasses.dataclass
class ClientStream:
    """A stream as grpcio's synchronous client sees it."""

    call: grpc.Call
    sending: queue.SimpleQueue

    def send(self, *messages: bytes | pb.ModelInferRequest) -> None:
        for message in messages:
            self.sending.put(message if isinstance(message, bytes) else message.SerializeToString())

    def half_close(self) -> None:
        self.sending.put(None)

    def next_bytes(self) -> bytes:
        return next(self.call)

    def next(self) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse.FromString(self.next_bytes())

    def rest(self) -> list[pb.ModelStreamInferResponse]:
        """Half-close, and what comes until the end, which is OK."""
        self.half_close()
        return [pb.ModelStreamInferResponse.FromString(message) for message in self.call]

    def error(self) -> grpc.Call:
        """How the stream ends, which is in an error."""
        try:
            messages = list(self.call)
        except grpc.RpcError:
            return self.call
        raise AssertionError(f"the stream ended without an error, after {messages}")


@contextlib.contextmanager
def stream(port: int, *, metadata=(), timeout: float | None = 10.0, compression=None) -> Iterator[ClientStream]:
    """A stream on a connection of its own; cancelled at the end of the block where it is not over."""
    options = (
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        sending: queue.SimpleQueue = queue.SimpleQueue()
        call = channel.stream_stream(MODEL_STREAM_INFER)(
            iter(sending.get, None), metadata=metadata, timeout=timeout, compression=compression
        )
        try:
            yield ClientStream(call, sending)
        finally:
            sending.put(None)
            call.cancel()
