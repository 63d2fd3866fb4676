"""A call that the native transport hands over, for handlers that are written for gRPC's own library.

What the native transport wants is said by :class:`HandedCall`, so that nothing here needs it to be installed. A call
that Python answers is opened, written to and ended once, whatever its handler does.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio

from sidecar.proxy.failure_policy import REASON_KEY, Status
from sidecar.proxy.metadata import Metadata

CONNECTION: Final = "connection:"
"""Stands before the number of a client's connection, where gRPC would name its address."""

Pairs: TypeAlias = list[tuple[str, bytes]]


class HandedCall(Protocol):
    """The native transport's side of it; every method only leaves word, and none waits."""

    @property
    def method(self) -> str:
        """Its path."""

    @property
    def call_id(self) -> str:
        """As the client knows it."""

    @property
    def peer(self) -> int:
        """Which connection it came over."""

    @property
    def metadata(self) -> Pairs:
        """The client's."""

    @property
    def timeout(self) -> float | None:
        """What is left of the client's deadline, in seconds; None where there is none."""

    @property
    def age(self) -> float:
        """Seconds since it began."""

    @property
    def request(self) -> bytes | None:
        """Where it was read already."""

    @property
    def models(self) -> Any:
        """The set of bundles that it started with, where it was looked at."""

    @property
    def outcome(self) -> tuple[bytes, Pairs, Pairs] | tuple[int, str, bool, Pairs, Pairs] | None:
        """What the upstream said, where it was asked: body, or code, details and whether these are its own; metadata."""

    def key(self) -> int:
        """The same for values that are the same call."""

    def read(self) -> None:
        """Have the next message read."""

    def open(self, initial: Pairs) -> None:
        """Send the initial metadata, once."""

    def write(self, message: bytes) -> None:
        """Send a message."""

    def end(self, code: int, details: str, trailing: Pairs) -> None:
        """End the call."""


class HandedContext:
    """What handlers use of gRPC's context."""

    def __init__(self, call: HandedCall, loop: asyncio.AbstractEventLoop) -> None:
        self.call: Final = call
        self.call_id: Final = call.call_id
        self._loop = loop
        self._ends_at = None if call.timeout is None else loop.time() + call.timeout
        self._reading: asyncio.Future[Any] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._trailing: Metadata = ()
        self._is_over = False

    # For handlers; see grpc.aio.ServicerContext.

    def invocation_metadata(self) -> Metadata:
        """The client's metadata."""
        return metadata_of(self.call.metadata)

    def time_remaining(self) -> float | None:
        """Seconds that the client's deadline leaves; None where it set none."""
        return None if self._ends_at is None else self._ends_at - self._loop.time()

    def peer(self) -> str:
        """The client's connection."""
        return f"{CONNECTION}{self.call.peer}"

    async def read(self) -> Any:
        """The next message, or grpc.aio.EOF."""
        self._reading = self._loop.create_future()
        self.call.read()
        return await self._reading

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send the initial metadata."""
        self.call.open(_pairs(metadata))

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Have these sent with the end."""
        self._trailing = metadata

    async def write(self, message: bytes) -> None:
        """Send a message; returns when it is on its way."""
        self._writing = self._loop.create_future()
        self.call.write(message)
        await self._writing

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with an error, and the handler with an exception."""
        self._end(code, details, trailing_metadata)
        raise grpc.aio.AbortError("Locally aborted.")

    # For the transport.

    def got(self, message: bytes | None) -> None:
        """A message has come; None: no more will."""
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(grpc.aio.EOF if message is None else message)

    def written(self) -> None:
        """A message is on its way."""
        if self._writing is not None and not self._writing.done():
            self._writing.set_result(None)

    def end(self) -> None:
        """The handler is done."""
        self._end(grpc.StatusCode.OK, "", self._trailing)

    def break_off(self, status: Status) -> None:
        """The handler is not done, and will not be."""
        self._end(status.code, status.details, ((REASON_KEY, status.reason),))

    def _end(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        if not self._is_over:
            self._is_over = True
            self.call.end(code.value[0], details, _pairs(trailing))


def metadata_of(pairs: Iterable[tuple[str, bytes]]) -> Metadata:
    """Pairs as they stand in headers, as gRPC's library gives them to handlers."""
    return tuple((name, value if name.endswith("-bin") else value.decode("latin-1")) for name, value in pairs)


def _pairs(metadata: Metadata) -> Pairs:
    return [(name, value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in metadata]
