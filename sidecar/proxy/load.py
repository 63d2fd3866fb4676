"""How much is in flight in this process: calls, and the bytes of their messages, inflated; each with a limit.

A call counts from its whole request to its sent answer, its request's bytes as long, the upstream's answer from when
it is here. A stream counts as a call, and so does each of its requests until it is answered; a response counts until it
is sent. What gRPC is still receiving is not seen from here; the limit of one message bounds each of those. Of unary
calls only some may take long (:mod:`sidecar.proxy.receipts`), but a stream that waits for its next message looks the
same whether that is under way or not. So beside what is held, gRPC may keep one unfinished message of each stream. And
a client that takes no answers, by HTTP/2's flow control, keeps its calls until it goes: gRPC has no way to end them.

Runs on the event loop's thread only. Which lease is a call's own is found through its context, so that what receives
the upstream's answers need not be handed one through every layer.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Final

import grpc

from sidecar.errors import Reason
from sidecar.proxy.events import Refusal
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.upstream import Upstream, UpstreamFailure, UpstreamOutcome, UpstreamReply, UpstreamStream

_LEASE: Final[contextvars.ContextVar["Lease"]] = contextvars.ContextVar("lease")


class Load:
    """What is in flight, and how much may be."""

    def __init__(self, limit_calls: int, limit_held_bytes: int) -> None:
        self.calls = 0
        self.held_bytes = 0
        self.limit_calls: Final = limit_calls
        self.limit_held_bytes: Final = limit_held_bytes

    @contextlib.contextmanager
    def call(self, request_bytes: int) -> Iterator[Refusal | None]:
        """While a call is answered; why it must not be, where there is too much already."""
        lease = self.open(request_bytes)
        if isinstance(lease, Refusal):
            yield lease
            return
        token = _LEASE.set(lease)
        try:
            yield None
        finally:
            _LEASE.reset(token)
            lease.close()

    def open(self, request_bytes: int) -> "Lease | Refusal":
        """Let a call in; or why not. The lease is to be closed when the call has ended."""
        if self.calls >= self.limit_calls:
            return Refusal(Reason.TOO_MANY_CALLS, f"{self.limit_calls} calls are in flight already; retry later")
        lease = Lease(self)
        refusal = lease.hold(request_bytes)
        if refusal is not None:
            return refusal
        self.calls += 1
        return lease


class Lease:
    """What one call holds."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._held_bytes = 0
        self._is_call = True
        self._closed = False

    def hold(self, count: int) -> Refusal | None:
        """Hold some more bytes until the call has ended; why not, where that would be too many."""
        if self._load.held_bytes + count > self._load.limit_held_bytes:
            text = f"calls in flight hold as many of {self._load.limit_held_bytes} bytes as may be; retry later"
            return Refusal(Reason.MEMORY_EXHAUSTED, text)
        self._load.held_bytes += count
        self._held_bytes += count
        return None

    def release(self, count: int) -> None:
        """Give some of the bytes back."""
        self._load.held_bytes -= count
        self._held_bytes -= count

    def leave(self) -> None:
        """Be no call any more, and hold what is held."""
        if self._is_call:
            self._is_call = False
            self._load.calls -= 1

    def close(self) -> None:
        """Give everything back, once."""
        if not self._closed:
            self._closed = True
            self.leave()
            self.release(self._held_bytes)


class CountedUpstream:
    """An upstream whose answers count as held by the calls that asked; one that is too much is dropped at once.

    Responses on streams are counted by who reads them, since each is held for a while of its own.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """See :class:`Upstream`."""
        outcome = await self._upstream.call(method, request, metadata, timeout_seconds)
        lease = _LEASE.get(None)
        if lease is None or not isinstance(outcome, UpstreamReply):
            return outcome
        refusal = lease.hold(len(outcome.body))
        if refusal is None:
            return outcome
        return UpstreamFailure(refusal.reason, grpc.StatusCode.RESOURCE_EXHAUSTED, refusal.message, answered=False)

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> UpstreamStream:
        """See :class:`Upstream`."""
        return self._upstream.stream(method, metadata, timeout_seconds)

    @property
    def losses(self) -> int:
        """See :class:`Upstream`."""
        return self._upstream.losses

    async def close(self) -> None:
        """See :class:`Upstream`."""
        await self._upstream.close()
