"""A model server in memory, for tests and for trying things out: answers what it is told to.

It keeps what it was asked, so that a test can say what was forwarded and what was not.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import grpc

from sidecar.errors import Reason
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.upstream import UpstreamFailure, UpstreamOutcome, UpstreamReply

Answer: TypeAlias = bytes | UpstreamOutcome | Callable[[bytes], bytes | UpstreamOutcome]
"""A body, an outcome, or what makes one of them from the request."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One call that reached the upstream."""

    method: str
    request: bytes
    metadata: Metadata
    timeout_seconds: float


class MemoryUpstream:
    """Answers by method; a method without an answer is UNIMPLEMENTED, as it is on a real server."""

    def __init__(self, answers: dict[str, Answer], delay_seconds: float = 0.0) -> None:
        self.answers = answers
        self.delay_seconds = delay_seconds
        self.asked: list[Asked] = []

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

    async def close(self) -> None:
        """Nothing is open."""
