"""The upstream in memory for both transports: the portable one asks it as it is, the native one over a socket."""

import contextlib
import dataclasses
from collections.abc import Iterator

import grpc
import grpc.aio

from sidecar.config import ServeSettings, TransportChoice
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.serve import RunningSidecar
from sidecar.proxy.upstream import UpstreamEnded, UpstreamFailure
from tests.integration.proxy_harness import Loop, sidecar


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, upstream: MemoryUpstream) -> None:
        self._upstream = upstream

    def service(self, details):
        async def unary(request: bytes, context) -> bytes:
            told = tuple(context.invocation_metadata()), context.time_remaining()
            outcome = await self._upstream.call(details.method, request, *told)
            if isinstance(outcome, UpstreamFailure):
                await context.abort(outcome.code, outcome.details, outcome.trailing)
            await context.send_initial_metadata(outcome.initial)
            context.set_trailing_metadata(outcome.trailing)
            return outcome.body

        async def stream(requests, context) -> None:
            told = tuple(context.invocation_metadata()), context.time_remaining()
            opened = self._upstream.stream(details.method, *told)
            async for request in requests:
                await opened.send(request)
            await opened.half_close()
            while not isinstance(message := await opened.receive(), UpstreamEnded | UpstreamFailure):
                await context.write(message)
            if isinstance(message, UpstreamFailure):
                await context.abort(message.code, message.details, message.trailing)

        if details.method in self._upstream.stream_answers:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


@contextlib.contextmanager
def sidecar_before(loop: Loop, made: ServeSettings, upstream: MemoryUpstream) -> Iterator[RunningSidecar]:
    """A sidecar whose upstream is the one in memory."""
    if made.transport is not TransportChoice.NATIVE:
        with sidecar(loop, made, upstream) as running:
            yield running
        return
    server = loop.run(_serve(upstream))
    with sidecar(loop, dataclasses.replace(made, upstream=f"127.0.0.1:{server.port}")) as running:
        yield running
    loop.run(server.stop(0))


async def _serve(upstream: MemoryUpstream):
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Handler(upstream),))
    server.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server
