"""Requests that are still on their way in. gRPC keeps what it has of them, up to the limit of one message each, and
shows neither how much nor how large they will be: clients that never finish could fill the memory.

So only some may take long. Whenever more do, the oldest give way; an ordinary request is whole within milliseconds and
is never among them.
"""

import asyncio
import itertools
import time
from typing import Final, TypeAlias

import grpc.aio

from sidecar.errors import Reason
from sidecar.proxy.events import Refusal
from sidecar.proxy.undisturbed import undisturbed

STALE_SECONDS: Final = 2.0
"""From then on a request takes long."""

SWEEP_SECONDS: Final = 0.5

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Receipts:
    """Reads requests; ``limit`` of them may take long at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._since: dict[asyncio.Task[object], float] = {}  # oldest first
        self._given_up: set[asyncio.Task[object]] = set()

    async def read(self, context: _Context) -> bytes | Refusal | None:
        """A call's first message; None where there is none, a refusal where it had to give way."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (gRPC runs each call in a task)
        self._since[task] = time.monotonic()
        try:
            message = await undisturbed(context.read())
        except asyncio.CancelledError:
            if task not in self._given_up:
                raise
            task.uncancel()
            text = f"more than {self._limit} requests are slow to arrive, this one the longest; retry later"
            return Refusal(Reason.MEMORY_EXHAUSTED, text)
        finally:
            del self._since[task]
            self._given_up.discard(task)
        return message if isinstance(message, bytes) else None

    async def keep_sweeping(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep()

    def _sweep(self) -> None:
        too_many = max(0, len(self._since) - self._limit)
        stale = time.monotonic() - STALE_SECONDS
        for task, since in itertools.islice(self._since.items(), too_many):
            if since < stale and task not in self._given_up:
                self._given_up.add(task)
                task.cancel()
