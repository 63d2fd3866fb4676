"""The least that a grpcio.aio proxy can do: bytes in, one unary call, bytes out. What `bench_proxy` divides by.

Usage: python passthrough.py LISTEN UPSTREAM
"""

import asyncio
import sys

import grpc
import grpc.aio

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._calls: dict[str, grpc.aio.UnaryUnaryMultiCallable] = {}

    def service(self, handler_call_details):
        method = handler_call_details.method
        call = self._calls.setdefault(method, self._channel.unary_unary(method))

        async def pass_on(request: bytes, context) -> bytes:
            return await call(request, timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(pass_on)


async def main(listen: str, upstream: str) -> None:
    """Serves until it is ended."""
    async with grpc.aio.insecure_channel(upstream, options=UNLIMITED) as channel:
        server = grpc.aio.server(handlers=[_Handlers(channel)], options=(("grpc.so_reuseport", 0), *UNLIMITED))
        server.add_insecure_port(listen)
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
