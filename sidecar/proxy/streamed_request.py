"""One admitted request of a stream, from its plan to the outcome that it counts as."""

import asyncio
import dataclasses
from typing import Final

from sidecar.proxy.events import RequestOutcome
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.load import Lease
from sidecar.proxy.request_path import Plan
from sidecar.proxy.stream_path import ClientSide
from sidecar.proxy.unguarded import Passage

_WORST_FIRST: Final = (
    RequestOutcome.FAILED,
    RequestOutcome.REFUSED,
    RequestOutcome.FALLBACK,
    RequestOutcome.BYPASSED,
    RequestOutcome.CORRECTED,
    RequestOutcome.UNJUDGED,
    RequestOutcome.UNGUARDED,
    RequestOutcome.UNTOUCHED,
    RequestOutcome.OUTSIDE,
)


@dataclasses.dataclass(eq=False)
class StreamedRequest(Exchange):
    """An exchange with any number of responses.

    Args:
        plan: by which each of them is judged.
        side: what the client expects to see in them.
        lease: what it holds until it is answered.
        worst: the worst outcome among those so far.
        is_answered: whether the client got anything for it.
        is_given_up: whether it was answered without the upstream, and counted: what still comes is for nobody.
        giving_up: what does that in time.
    """

    plan: Plan | Passage = dataclasses.field(kw_only=True)
    side: ClientSide = dataclasses.field(kw_only=True)
    lease: Lease = dataclasses.field(kw_only=True)
    worst: RequestOutcome | None = None
    is_answered: bool = False
    is_given_up: bool = False
    giving_up: asyncio.Task[None] | None = None

    def saw(self, outcome: RequestOutcome | None) -> None:
        """A response had this outcome; None where there was nothing in it to judge."""
        self.is_answered = True
        seen = [each for each in (self.worst, outcome) if each is not None]
        self.worst = min(seen, key=_WORST_FIRST.index, default=None)

    @property
    def outcome(self) -> RequestOutcome:
        """Of the whole request: the worst. Without any response but the empty final one it was answered as it is."""
        return self.worst or RequestOutcome.UNTOUCHED
