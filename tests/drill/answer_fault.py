"""A gRPC passthrough between the sidecar and the model server that can spoil answers, and that can speak TLS."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tests.drill.load import METHOD, STREAM_METHOD

Edit = Callable[[bytes], bytes]


def untouched(answer: bytes) -> bytes:
    """As it came."""
    return answer


class Passthrough(grpc.GenericRpcHandler):
    """Passes unary calls and streams on; ``edit`` may be set at any time."""

    def __init__(self, upstream: str) -> None:
        self.edit: Edit = untouched
        self.address = ""
        self.channel = grpc.insecure_channel(upstream)

    def service(self, handler_call_details):
        method = handler_call_details.method
        if method == STREAM_METHOD:
            return grpc.stream_stream_rpc_method_handler(self._pass_stream)
        call = self.channel.unary_unary(method)

        def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                answer = call(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            return self.edit(answer) if method == METHOD else answer

        return grpc.unary_unary_rpc_method_handler(pass_on)

    def _pass_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = self.channel.stream_stream(STREAM_METHOD)(requests)
        context.add_callback(call.cancel)
        try:
            for message in call:
                yield _edited_within(message, self.edit)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())


def _edited_within(message: bytes, edit: Edit) -> bytes:
    """A stream's message with the answer in it spoiled; where nothing can be read of that, the message itself is."""
    streamed = service_pb2.ModelStreamInferResponse.FromString(message)
    if not streamed.infer_response.outputs:
        return message
    spoiled = edit(streamed.infer_response.SerializeToString())
    try:
        streamed.infer_response.CopyFrom(service_pb2.ModelInferResponse.FromString(spoiled))
    except DecodeError:
        return message[: -(streamed.infer_response.ByteSize() - len(spoiled))]
    return streamed.SerializeToString()


@contextlib.contextmanager
def running_passthrough(
    upstream: str,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, int]] = (),
) -> Iterator[Passthrough]:
    """One that listens, stopped when the block is left."""
    handler = Passthrough(upstream)
    server = grpc.server(ThreadPoolExecutor(16), [handler], options=[("grpc.so_reuseport", 0), *options])
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    handler.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield handler
    finally:
        server.stop(0).wait()
        handler.channel.close()


# -- spoiling -------------------------------------------------------------------------------------------------


def _edited(change: Callable[[service_pb2.ModelInferResponse], None]) -> Edit:
    def edit(answer: bytes) -> bytes:
        response = service_pb2.ModelInferResponse.FromString(answer)
        change(response)
        return response.SerializeToString()

    return edit


def _another_shape(response: service_pb2.ModelInferResponse) -> None:
    response.outputs[0].shape[1] += 1


def _one_row_more(response: service_pb2.ModelInferResponse) -> None:
    response.outputs[0].shape[0] += 1
    response.raw_output_contents[0] += response.raw_output_contents[0][:12]


def _negative_shape(response: service_pb2.ModelInferResponse) -> None:
    response.outputs[0].shape[0] = -1


def _contents_cut(response: service_pb2.ModelInferResponse) -> None:
    response.raw_output_contents[0] = response.raw_output_contents[0][:-3]


def _another_datatype(response: service_pb2.ModelInferResponse) -> None:
    response.outputs[0].datatype = "INT32"


def _another_name(response: service_pb2.ModelInferResponse) -> None:
    response.outputs[0].name = "logits"


def _not_a_number(response: service_pb2.ModelInferResponse) -> None:
    response.raw_output_contents[0] = b"\x00\x00\xc0\x7f" + response.raw_output_contents[0][4:]


WRONG_SHAPES = tuple(
    _edited(change)
    for change in (_another_shape, _one_row_more, _negative_shape, _contents_cut, _another_datatype, _another_name)
)
NOT_A_NUMBER = _edited(_not_a_number)


def truncated() -> Edit:
    """Each answer loses more of its end than the one before; never a whole field."""
    lengths = itertools.cycle(range(1, 12))
    return lambda answer: answer[: -next(lengths)]


def in_turn(edits: Sequence[Edit]) -> Edit:
    """One after the other."""
    turns = itertools.cycle(edits)

    def edit(answer: bytes) -> bytes:
        return next(turns)(answer)

    return edit
