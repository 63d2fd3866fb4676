"""A call that the native transport hands over, for handlers that are written for gRPC's own library.

A call is ended once, whatever its handler does.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from sidecar.proxy.answer import Answer
from sidecar.proxy.decision_ids import CALL_ID_KEY
from sidecar.proxy.failure_policy import REASON_KEY, Status
from sidecar.proxy.metadata import Metadata

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Call

CONNECTION: Final = "connection:"
"""Stands before the number of a client's connection, where gRPC would name its address."""

Pairs: TypeAlias = list[tuple[str, bytes]]


class HandedContext:
    """What handlers use of gRPC's context."""

    def __init__(self, call: "Call", loop: asyncio.AbstractEventLoop) -> None:
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

    def answer(self, answer: Answer) -> None:
        """Send all of a unary call's answer, and end it."""
        own = ((CALL_ID_KEY, self.call_id),)
        initial, trailing = answer.initial + own, answer.trailing + own
        if isinstance(answer.result, Status):
            self.call.open(_pairs(initial))
            self._end(answer.result.code, answer.result.details, trailing)
        else:
            self._is_over = True
            self.call.answer(_pairs(initial), answer.result, _pairs(trailing))

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
            # Nobody will tell of these any more, and a task may be waiting whose own end nobody waits for.
            for awaited in (self._reading, self._writing):
                if awaited is not None:
                    awaited.cancel()


def metadata_of(pairs: Iterable[tuple[str, bytes]]) -> Metadata:
    """Pairs as they stand in headers, as gRPC's library gives them to handlers."""
    return tuple([(name, value if name.endswith("-bin") else value.decode("latin-1")) for name, value in pairs])


def _pairs(metadata: Metadata) -> Pairs:
    return [(name, value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in metadata]
