"""Where the computing is done: what is surely short on the event loop, everything else in threads."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from sidecar.errors import Reason
from sidecar.gates.steps import Steps, one_step
from sidecar.proxy.events import Refusal
from sidecar.proxy.request_path import Plan, bundle_of
from sidecar.proxy.turns import TooMuchWaiting, Turns
from sidecar.proxy.unguarded import Passage

MAX_ROWS_ON_THE_LOOP: Final = 16
"""Larger batches are judged in a thread from the start; of smaller ones, what is left once a gate has fired: a
correction takes rational arithmetic, and the loop serves everyone."""

MAX_REQUEST_BYTES_ON_THE_LOOP: Final = 16 * 1024
"""Larger requests are checked in a thread: thousands of rows may have to be looked for in thousands of boxes."""

MAX_PREDICTION_BYTES_ON_THE_LOOP: Final = 64 * 1024
"""Larger predictions of TorchServe's are read in a thread: JSON takes some milliseconds for these."""

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class Workers:
    """Where the computing is done."""

    def __init__(self) -> None:
        # Large requests take turns at a thread of their own, and never wait for corrections.
        self._large_requests = concurrent.futures.ThreadPoolExecutor(1, "large-requests")
        self._turns = Turns()

    async def check(
        self, request: bytes, compute: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Call what checks a request."""
        if len(request) <= MAX_REQUEST_BYTES_ON_THE_LOOP:
            return compute(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._large_requests, compute, *arguments)

    async def judge(
        self, plan: Plan | Passage, client: str, steps: Steps[_Result], response_bytes: int = 0
    ) -> _Result | Refusal:
        """Take the steps that judge an answer for a client; a refusal where too many corrections are waiting."""
        begun = self.begin(plan, client, steps, response_bytes)
        if isinstance(begun, concurrent.futures.Future):
            return await self.finish(plan, begun)
        return begun

    def begin(
        self, plan: Plan | Passage, client: str, steps: Steps[_Result], response_bytes: int = 0
    ) -> _Result | concurrent.futures.Future[_Result]:
        """The same; what is surely short is done here and now, of anything else comes what ``finish`` waits for."""
        left = 0
        if _is_short(plan) and not _is_slow_to_read(plan, response_bytes):
            try:
                left = next(steps)
            except StopIteration as end:
                judged: _Result = end.value
                return judged
        return self._turns.take(client, steps, left)

    async def finish(self, plan: Plan | Passage, begun: concurrent.futures.Future[_Result]) -> _Result | Refusal:
        """What comes of what was begun."""
        try:
            judged = await asyncio.wrap_future(begun)
        except TooMuchWaiting:
            text = "as many rows wait to be corrected as may; retry later, or send smaller batches"
            return Refusal(Reason.TOO_MANY_CORRECTIONS, text, bundle_of(plan))
        return judged

    async def compute(
        self,
        plan: Plan | Passage,
        client: str,
        compute: Callable[[*_Arguments], _Result],
        *arguments: *_Arguments,
    ) -> _Result:
        """Call what answers a request without the upstream; for a large batch, when it is the client's turn."""
        if _is_short(plan):
            return compute(*arguments)
        computed: _Result = await asyncio.wrap_future(self._turns.take(client, one_step(compute, *arguments), 0))
        return computed

    def close(self) -> None:
        """End the threads; nothing is in flight any more."""
        self._large_requests.shutdown()
        self._turns.close()


def _is_short(plan: Plan | Passage) -> bool:
    return isinstance(plan, Passage) or len(plan.inputs) <= MAX_ROWS_ON_THE_LOOP


def _is_slow_to_read(plan: Plan | Passage, response_bytes: int) -> bool:
    is_prediction = isinstance(plan, Plan) and plan.bundle.codec is not None
    return is_prediction and response_bytes > MAX_PREDICTION_BYTES_ON_THE_LOOP
