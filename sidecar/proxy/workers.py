"""Where the computing is done: small requests and answers on the event loop, large ones in threads."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from sidecar.proxy.request_path import Plan
from sidecar.proxy.unguarded import Passage

MAX_ROWS_ON_THE_LOOP: Final = 16
"""Larger batches are judged in a thread: a correction takes up to about a millisecond, and the loop serves everyone."""

MAX_REQUEST_BYTES_ON_THE_LOOP: Final = 16 * 1024
"""Larger requests are checked in a thread: thousands of rows may have to be looked for in thousands of boxes."""

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class Workers:
    """Where the computing is done."""

    def __init__(self) -> None:
        # One thread each: large ones take turns, and small requests are never behind more than one of each.
        self._large_requests = concurrent.futures.ThreadPoolExecutor(1, "large-requests")
        self._large_batches = concurrent.futures.ThreadPoolExecutor(1, "large-batches")

    async def check(
        self, request: bytes, compute: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Call what checks a request."""
        if len(request) <= MAX_REQUEST_BYTES_ON_THE_LOOP:
            return compute(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._large_requests, compute, *arguments)

    async def judge(
        self, plan: Plan | Passage, compute: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Call what judges an answer."""
        if isinstance(plan, Passage) or len(plan.inputs) <= MAX_ROWS_ON_THE_LOOP:
            return compute(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._large_batches, compute, *arguments)

    def close(self) -> None:
        """End the threads; nothing is in flight any more."""
        self._large_requests.shutdown()
        self._large_batches.shutdown()
