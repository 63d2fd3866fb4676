"""How much is in flight in this process: calls, and the bytes of their messages, inflated; each with a limit.

A call counts from its whole request to its sent answer, its request's bytes as long, the upstream's answer from when
it is here. A stream counts as a call, and so does each of its requests until it is answered; a response counts until it
is sent. What gRPC is still receiving is not seen from here; the limit of one message bounds each of those. Of unary
calls only some may take long (:mod:`sidecar.proxy.receipts`), but a stream that waits for its next message looks the
same whether that is under way or not. So beside what is held, gRPC may keep one unfinished message of each stream. And
a client that takes no answers, by HTTP/2's flow control, keeps its calls until it goes: gRPC has no way to end them.

Where there is room is kept by a :class:`Room`: numbers of our own, or those of a transport that counts calls and bytes
itself, so that there is one budget. Such a transport has let in a call before it is handed to us (:func:`let_in`), and
may hold its request; what we hold for it beside that counts as everything else does.

Runs on the event loop's thread only. Which lease is a call's own is found through its context, so that what receives
the upstream's answers need not be handed one through every layer.
"""

import contextvars
import enum
from typing import Final, Protocol

import grpc

from sidecar.errors import Reason
from sidecar.proxy.events import Refusal
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.upstream import Upstream, UpstreamFailure, UpstreamOutcome, UpstreamReply, UpstreamStream

_LEASE: Final[contextvars.ContextVar["Lease"]] = contextvars.ContextVar("lease")


class _LetIn(enum.Enum):
    """What is counted already of the call that the current task answers."""

    NOTHING = enum.auto()
    CALL = enum.auto()
    CALL_AND_REQUEST = enum.auto()


_LET_IN: Final[contextvars.ContextVar[_LetIn]] = contextvars.ContextVar("let_in", default=_LetIn.NOTHING)


class Room(Protocol):
    """What is in flight, within limits. Implemented by :class:`OwnRoom`, and by the native transport."""

    @property
    def calls(self) -> int:
        """In flight."""

    @property
    def held_bytes(self) -> int:
        """Of their messages."""

    def take_call(self) -> bool:
        """One more call; False where there are as many as may be."""

    def give_call(self) -> None:
        """One has ended."""

    def hold(self, count: int) -> bool:
        """Hold so many more bytes; False where that would be too many."""

    def give_back(self, count: int) -> None:
        """So many are gone."""


class OwnRoom:
    """Counted here."""

    def __init__(self, limit_calls: int, limit_held_bytes: int) -> None:
        self._limit_calls = limit_calls
        self._limit_held_bytes = limit_held_bytes
        self.calls = 0
        self.held_bytes = 0

    def take_call(self) -> bool:
        """See :class:`Room`."""
        if self.calls >= self._limit_calls:
            return False
        self.calls += 1
        return True

    def give_call(self) -> None:
        """See :class:`Room`."""
        self.calls -= 1

    def hold(self, count: int) -> bool:
        """See :class:`Room`."""
        if self.held_bytes + count > self._limit_held_bytes:
            return False
        self.held_bytes += count
        return True

    def give_back(self, count: int) -> None:
        """See :class:`Room`."""
        self.held_bytes -= count


def let_in(*, is_request_held: bool) -> None:
    """The call that the current task answers is counted by the room already; and its request, where that is held."""
    _LET_IN.set(_LetIn.CALL_AND_REQUEST if is_request_held else _LetIn.CALL)


class Load:
    """What is in flight, and how much may be; ``room`` keeps the numbers, where a transport does."""

    def __init__(self, limit_calls: int, limit_held_bytes: int, room: Room | None = None) -> None:
        self.limit_calls: Final = limit_calls
        self.limit_held_bytes: Final = limit_held_bytes
        self.room: Final[Room] = room or OwnRoom(limit_calls, limit_held_bytes)

    @property
    def calls(self) -> int:
        """In flight."""
        return self.room.calls

    @property
    def held_bytes(self) -> int:
        """Of their messages."""
        return self.room.held_bytes

    def call(self, request_bytes: int) -> "_Answering":
        """While a call is answered; why it must not be, where there is too much already."""
        return _Answering(self, request_bytes)

    def open(self, request_bytes: int) -> "Lease | Refusal":
        """Let a call in; or why not. The lease is to be closed when the call has ended."""
        let_in = _LET_IN.get()
        _LET_IN.set(_LetIn.NOTHING)  # what else is opened while a call is answered is not the call itself
        if let_in is _LetIn.NOTHING and not self.room.take_call():
            return Refusal(Reason.TOO_MANY_CALLS, self.too_many_calls)
        lease = Lease(self, is_counted=let_in is _LetIn.NOTHING)
        refusal = None if let_in is _LetIn.CALL_AND_REQUEST else lease.hold(request_bytes)
        if refusal is not None:
            lease.close()
            return refusal
        return lease

    @property
    def too_many_calls(self) -> str:
        """What a client is told of that."""
        return f"{self.limit_calls} calls are in flight already; retry later"

    @property
    def memory_exhausted(self) -> str:
        """What a client is told of that."""
        return f"calls in flight hold as many of {self.limit_held_bytes} bytes as may be; retry later"


class Lease:
    """What one call holds; ``is_counted``: as a call, which then ends with it."""

    def __init__(self, load: Load, *, is_counted: bool = True) -> None:
        self._load = load
        self._is_counted = is_counted
        self._held_bytes = 0
        self._closed = False

    def hold(self, count: int) -> Refusal | None:
        """Hold some more bytes until the call has ended; why not, where that would be too many."""
        if not self._load.room.hold(count):
            return Refusal(Reason.MEMORY_EXHAUSTED, self._load.memory_exhausted)
        self._held_bytes += count
        return None

    def release(self, count: int) -> None:
        """Give some of the bytes back."""
        self._load.room.give_back(count)
        self._held_bytes -= count

    def leave(self) -> None:
        """Be no call any more, and hold what is held."""
        if self._is_counted:
            self._is_counted = False
            self._load.room.give_call()

    def close(self) -> None:
        """Give everything back, once."""
        if not self._closed:
            self._closed = True
            self.release(self._held_bytes)
            self.leave()


class _Answering:
    """See :meth:`Load.call`. A class, for generators take several times as long to enter and to leave."""

    def __init__(self, load: Load, request_bytes: int) -> None:
        self._load = load
        self._request_bytes = request_bytes

    def __enter__(self) -> Refusal | None:
        self._lease = self._load.open(self._request_bytes)
        if isinstance(self._lease, Refusal):
            return self._lease
        self._token = _LEASE.set(self._lease)
        return None

    def __exit__(self, *_: object) -> None:
        if isinstance(self._lease, Lease):
            _LEASE.reset(self._token)
            self._lease.close()


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
