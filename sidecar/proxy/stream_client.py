"""The client's side of a stream: where requests come from, and where numbered messages go."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol

from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.failure_policy import Status
from sidecar.proxy.metadata import Metadata


class ClientStream(Protocol):
    """A transport's end of the stream. Reading and writing go on at the same time, each from one task."""

    async def read(self) -> bytes | None:
        """The next message, or None where no more follow."""

    async def write(self, message: bytes, initial: Metadata) -> None:
        """Send a message. With the first one the initial metadata goes out."""


@dataclasses.dataclass(frozen=True)
class StreamEnd:
    """How the stream ends for the client.

    Args:
        status: None where it ends without an error.
        initial: goes out where no message did.
        trailing: metadata.
    """

    status: Status | None
    initial: Metadata = ()
    trailing: Metadata = ()


class Replies:
    """Numbers the messages to the client, which come from both directions of the stream.

    ``initial`` is the upstream's initial metadata, as soon as it is there.
    """

    def __init__(self, call_id: str, client: ClientStream) -> None:
        self._call_id = call_id
        self._client = client
        self._turn = asyncio.Lock()
        self._sent = 0
        self.initial: Metadata = ()

    @property
    def next_decision(self) -> str:
        """The decision id of the next message, or of the end of the stream."""
        return decision_id(self._call_id, self._sent + 1)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[str]:
        """The right to make and send the next message; gives its decision id."""
        async with self._turn:
            yield self.next_decision

    async def send(self, message: bytes | None) -> None:
        """Send the message of this turn; None where the client is to get none, and the number stays."""
        if message is not None:
            self._sent += 1
            await self._client.write(message, self.initial)
