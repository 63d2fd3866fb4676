"""A relay of bytes between the sidecar and the model server that can be slow, and that can break connections."""

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import threading
from collections.abc import Iterator

CHUNK_BYTES = 16 * 1024


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to the bytes from the upstream.

    Args:
        delay_seconds: before each piece.
        piece_bytes: the size of a piece.
        cut_after: connections are reset after between 1 and so many bytes; 0: not at all.
    """

    delay_seconds: float = 0.0
    piece_bytes: int = CHUNK_BYTES
    cut_after: int = 0


NONE = Fault()


class Relay:
    """Listens on ``address``; ``fault`` may be set at any time, also for connections that are open."""

    def __init__(self, upstream: str) -> None:
        self.fault = NONE
        self.address = ""
        self.cuts = 0
        self._upstream = upstream.rpartition(":")[0::2]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._chance = random.Random(1)  # noqa: S311 (no secret)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self.address = f"127.0.0.1:{server.result(10).sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Break off whatever is open."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            from_upstream, to_upstream = await asyncio.open_connection(*self._upstream)
            up = asyncio.create_task(self._copy(reader, to_upstream))
            down = asyncio.create_task(self._copy_with_faults(from_upstream, writer))
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                to_upstream.close()
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK_BYTES):
                writer.write(piece)
                await writer.drain()

    async def _copy_with_faults(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = None
        with contextlib.suppress(OSError):
            while piece := await reader.read(self.fault.piece_bytes):
                fault = self.fault
                if fault.delay_seconds:
                    await asyncio.sleep(fault.delay_seconds)
                if not fault.cut_after:
                    left = None
                elif left is None:
                    left = self._chance.randint(1, fault.cut_after)
                writer.write(piece if left is None else piece[:left])
                await writer.drain()
                if left is not None and (left := left - len(piece)) <= 0:
                    self._reset(writer)
                    return

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """RST rather than FIN."""
        self.cuts += 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@contextlib.contextmanager
def running_relay(upstream: str) -> Iterator[Relay]:
    """A relay that listens, stopped when the block is left."""
    relay = Relay(upstream)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
