"""What the native transport refuses by itself: what clients are told of it, and its audit records.

They come in floods, so that they wait there, as many as may, and are written down now and then.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from sidecar.config import ServeSettings
from sidecar.errors import Reason
from sidecar.proxy import audit
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import status_of_refusal
from sidecar.proxy.load import Load
from sidecar.proxy.native_counts import REFUSED

RECORDS_AT_ONCE: Final = 50
"""Calls that wait for Python come in between."""


class NativeRefusals:
    """By the names that the native transport has for them."""

    def __init__(self, settings: ServeSettings) -> None:
        load = Load(settings.limit_calls, settings.limit_held_bytes)
        self._text: Final = {
            Reason.TOO_MANY_CALLS: load.too_many_calls,
            Reason.MEMORY_EXHAUSTED: load.memory_exhausted,
            Reason.MESSAGE_TOO_LARGE: f"the message is larger than the limit of {settings.limit_bytes} bytes",
            Reason.SLOW_REQUEST: "the request did not arrive in time; retry later",
            Reason.PYTHON_LANE_FULL: "as many calls wait to be looked into as may; retry later",
        }

    def of(self, name: str) -> Refusal:
        """As the request path would have it."""
        return Refusal(REFUSED[name], self._text.get(REFUSED[name], ""))

    def told(self) -> Mapping[str, tuple[int, str]]:
        """Status code and details of each."""
        statuses = {name: status_of_refusal(self.of(name)) for name in REFUSED}
        return {name: (status.code.value[0], status.details) for name, status in statuses.items()}

    def record(self, refused: Sequence[tuple[str, str]]) -> None:
        """Write down calls, by their ids, that were refused and counted natively."""
        for call_id, name in refused:
            audit.record_refusal(decision_id(call_id, 1), self.of(name))

    async def keep_recording(self, refused: Sequence[tuple[str, str]]) -> None:
        """The same, without keeping the event loop."""
        for start in range(0, len(refused), RECORDS_AT_ONCE):
            self.record(refused[start : start + RECORDS_AT_ONCE])
            await asyncio.sleep(0)
