"""The connections to the upstream: how many, which one a call takes, and how they are replaced under way.

A connection is made with its first call and remade when lost, at once and then with growing pauses: that is gRPC's
work, by the options given to the channel.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio

from sidecar.proxy.methods import RULES, STREAMED, Rule


class Line:
    """One channel, how many calls, streams among them, it carries, and how often its connection was lost."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel: Final = channel
        self.unary: Final[dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]] = {
            method: channel.unary_unary(method) for method, rule in RULES.items() if rule in (Rule.GATED, Rule.PASSED)
        }
        self.streams: Final[dict[str, grpc.aio.StreamStreamMultiCallable[bytes, bytes]]] = {
            method: channel.stream_stream(method) for method, rule in RULES.items() if rule in STREAMED
        }
        self.calls = 0
        self.losses = 0
        self._watching: Final = asyncio.ensure_future(self._count_losses())

    async def _count_losses(self) -> None:
        while True:
            state = self.channel.get_state()
            await self.channel.wait_for_state_change(state)
            # Also where it is remade by now: servers restart faster than anybody asks.
            self.losses += state is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Calls in flight fail."""
        self._watching.cancel()
        await self.channel.close()


class Lines:
    """Some channels to one upstream; ``connect`` opens one more."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel], count: int) -> None:
        self._connect = connect
        self._count = count
        self._lines = self._opened()
        self._replaced: list[Line] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._losses_of_closed = 0

    @property
    def losses(self) -> int:
        """How often a connection was lost, over all lines."""
        return self._losses_of_closed + sum(line.losses for line in (*self._lines, *self._replaced))

    def _opened(self) -> list[Line]:
        return [Line(self._connect()) for _ in range(self._count)]

    def take(self) -> Line:
        """The line with the fewest calls; to be given back when its call, or its stream, has ended."""
        line = min(self._lines, key=lambda each: each.calls)
        line.calls += 1
        return line

    def give_back(self, line: Line) -> None:
        """What was taken."""
        line.calls -= 1
        self._close_idle()

    def replace(self) -> None:
        """Calls from now on go over new channels; the old ones close when their last call has ended."""
        self._replaced += self._lines
        self._lines = self._opened()
        self._close_idle()

    def _close_idle(self) -> None:
        for line in [each for each in self._replaced if not each.calls]:
            self._replaced.remove(line)
            self._losses_of_closed += line.losses
            task = asyncio.ensure_future(line.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all; calls in flight fail."""
        await asyncio.gather(*self._closing, *(line.close() for line in (*self._lines, *self._replaced)))
