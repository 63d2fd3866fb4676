"""What cancelled calls leave behind in a sidecar's memory: nothing, however many there are.

The sidecar is a process of its own, so that its memory is not that of clients and upstream, who are here.
"""

import asyncio
from pathlib import Path

import grpc.aio

from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from tests.conformance.guarded_model import bundle_bytes, request
from tests.e2e.guarding import running_sidecar
from tests.integration.proxy_harness import READY

INSIDE = request([0.75, 0]).SerializeToString()

WARM_UP_CALLS = 3000
CALLS = 7000
AT_ONCE = 25

ALLOWED_BYTES = 500
"""For each call: twice what the allocator's doing was seen to amount to. Where grpc.aio's coroutines are cancelled
together with their calls, each leaves about 1,100.
"""

ONE_HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Else what threads take and give back now and then drowns what is left."""


class SilentUpstream(grpc.GenericRpcHandler):
    """Takes requests, and never answers."""

    async def start(self) -> int:
        self.server = grpc.aio.server(handlers=[self], options=[("grpc.so_reuseport", 0)])
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port

    def service(self, details):
        async def handle(_request: bytes, _context) -> bytes:
            if details.method != MODEL_READY:
                await asyncio.sleep(60)
            return READY

        return grpc.unary_unary_rpc_method_handler(handle)


def test_cancelled_calls_leave_nothing_in_memory(tmp_path):
    assert asyncio.run(_bytes_for_each_call(tmp_path)) < ALLOWED_BYTES


async def _bytes_for_each_call(folder: Path) -> float:
    upstream, bundle = SilentUpstream(), folder / "guarded.gates"
    address = f"127.0.0.1:{await upstream.start()}"
    bundle.write_bytes(bundle_bytes())
    # The native transport takes so many cancelled calls of one connection for an attack, and ends it.
    portable = ("--transport", "portable")
    running = running_sidecar([bundle], address, folder / "sidecar.log", portable, environment=ONE_HEAP)
    sidecar = await asyncio.to_thread(running.__enter__)
    try:
        before = await _resident_after(WARM_UP_CALLS, sidecar.address, sidecar.pid)
        after = await _resident_after(CALLS, sidecar.address, sidecar.pid)
        cancelled = sidecar.metric("gate_requests_total", model="guarded", outcome="cancelled")
        # On a busy machine some are cancelled before they are here; with so many the leak would still show.
        assert cancelled > 0.6 * (WARM_UP_CALLS + CALLS)
        return (after - before) / CALLS
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
        await upstream.server.stop(0)


async def _resident_after(calls: int, address: str, pid: int) -> int:
    """Bytes of memory, once this many calls more were cancelled while they waited for their answer."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(MODEL_INFER)
        for _ in range(calls // AT_ONCE):
            await asyncio.gather(*(_cancelled(call()) for _ in range(AT_ONCE)))
    await asyncio.sleep(0.5)
    return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


async def _cancelled(call: "grpc.aio.StreamStreamCall[bytes, bytes]") -> None:
    await call.write(INSIDE)
    await asyncio.sleep(0.04)
    call.cancel()
