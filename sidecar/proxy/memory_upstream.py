"""A model server in memory, for tests and for trying things out: answers what it is told to.

It keeps what it was asked, so that a test can say what was forwarded and what was not.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeAlias

import grpc

from sidecar.errors import Reason
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.upstream import UpstreamEnd, UpstreamEnded, UpstreamFailure, UpstreamOutcome, UpstreamReply

Answer: TypeAlias = bytes | UpstreamOutcome | Callable[[bytes], bytes | UpstreamOutcome]
"""A body, an outcome, or what makes one of them from the request."""

StreamAnswer: TypeAlias = Callable[[bytes], Iterable[bytes | UpstreamEnd]]
"""Makes from a request on a stream the messages that follow it, and maybe the end of the stream."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One call that reached the upstream."""

    method: str
    request: bytes
    metadata: Metadata
    timeout_seconds: float | None


class MemoryUpstream:
    """Answers by method; a method without an answer is UNIMPLEMENTED, as it is on a real server."""

    def __init__(
        self,
        answers: dict[str, Answer],
        delay_seconds: float = 0.0,
        stream_answers: dict[str, StreamAnswer] | None = None,
    ) -> None:
        self.answers = answers
        self.stream_answers = stream_answers or {}
        self.delay_seconds = delay_seconds
        self.asked: list[Asked] = []
        self.losses = 0
        self.initial: Metadata = ()

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Answer after the delay; past the timeout, fail as gRPC would."""
        self.asked.append(Asked(method, request, metadata, timeout_seconds))
        await asyncio.sleep(min(self.delay_seconds, timeout_seconds))
        if self.delay_seconds >= timeout_seconds:
            return UpstreamFailure(
                Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", answered=False
            )
        answer = self.answers.get(method)
        outcome = answer(request) if callable(answer) else answer
        match outcome:
            case None:
                return UpstreamFailure(
                    Reason.UPSTREAM_ERROR, grpc.StatusCode.UNIMPLEMENTED, "Method not found!", answered=True
                )
            case bytes():
                return UpstreamReply(outcome)
            case UpstreamReply() | UpstreamFailure():
                return outcome

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> "MemoryStream":
        """Open a stream; what it is sent counts as asked."""
        return MemoryStream(self, method, metadata, timeout_seconds)

    async def close(self) -> None:
        """Nothing is open."""


class MemoryStream:
    """Answers every message as soon as it comes, and ends when the client does."""

    def __init__(
        self, upstream: MemoryUpstream, method: str, metadata: Metadata, timeout_seconds: float | None
    ) -> None:
        self._upstream = upstream
        self._method = method
        self._metadata = metadata
        self._timeout_seconds = timeout_seconds
        self._coming: asyncio.Queue[bytes | UpstreamEnd] = asyncio.Queue()

    async def initial(self) -> Metadata:
        """The upstream's, the same for every stream."""
        return self._upstream.initial

    async def send(self, message: bytes) -> None:
        """Have the message answered."""
        self._upstream.asked.append(Asked(self._method, message, self._metadata, self._timeout_seconds))
        for each in self._upstream.stream_answers[self._method](message):
            self._coming.put_nowait(each)

    async def half_close(self) -> None:
        """The end follows what was answered so far."""
        self._coming.put_nowait(UpstreamEnded())

    async def receive(self) -> bytes | UpstreamEnd:
        """The next answer, or the end."""
        return await self._coming.get()

    def cancel(self) -> None:
        """The end comes at once."""
        self._coming.put_nowait(UpstreamEnded())


class MemoryClient:
    """The client's side of a stream: has messages to send, half-closes after them, and keeps what it gets."""

    def __init__(self, messages: Iterable[bytes]) -> None:
        self._messages = iter(messages)
        self.initial: Metadata | None = None
        self.got: list[bytes] = []

    async def read(self) -> bytes | None:
        """The next message."""
        return next(self._messages, None)

    async def write(self, message: bytes, initial: Metadata) -> None:
        """Keep the message, and the metadata that came with the first one."""
        self.initial = initial if self.initial is None else self.initial
        self.got.append(message)
