"""What the native transport has counted, brought into the same series as everything else whenever these are read.

It counts by itself what it answers by itself, and Python what it hands over, so nothing is counted twice.
"""

import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

from sidecar.bundle.coverage import Label
from sidecar.errors import Reason
from sidecar.proxy.events import RequestOutcome, RowOutcome
from sidecar.proxy.metrics import NO_MODEL, Metrics
from sidecar.proxy.native_tables import labels_of

REFUSED: Final = {
    "too_many_calls": Reason.TOO_MANY_CALLS,
    "memory_exhausted": Reason.MEMORY_EXHAUSTED,
    "message_too_large": Reason.MESSAGE_TOO_LARGE,
    "slow_request": Reason.SLOW_REQUEST,
    "python_lane_full": Reason.PYTHON_LANE_FULL,
    "internal": Reason.INTERNAL,
}
"""What it refuses by itself, as it calls it."""

_ENDED: Final = {**{name: reason for name, reason in REFUSED.items() if name != "internal"}, "panics": Reason.INTERNAL}
"""As it counts them: each panic was answered as an internal error."""

_REQUESTS: Final = (
    ("outside_requests", RequestOutcome.OUTSIDE),
    ("untouched_requests", RequestOutcome.UNTOUCHED),
    ("cancelled_requests", RequestOutcome.CANCELLED),
)

_ROWS: Final = (("outside_rows", RowOutcome.OUTSIDE), ("untouched_rows", RowOutcome.UNTOUCHED))

_REQUESTS_REFUSED: Final = (
    "too_many_requests",
    "memory_exhausted",
    "message_too_large",
    "slow_request",
    "python_lane_full",
)
"""Of ModelInfer: calls of other methods are refused for their number only, until Python has them."""

OPEN_CONNECTIONS: Final = "open_connections"


class Counting(Protocol):
    """The native transport, as far as it counts; all of it only grows, except what is open."""

    def counts(self) -> Mapping[str, Mapping[str, Any]]:
        """By the key of tables, and by name."""

    def endings(self) -> Mapping[str, int]:
        """What was refused, given up, or went wrong, by name."""

    def handed_over(self) -> Mapping[str, int]:
        """Calls that were looked at and given to Python, by reason."""


class NativeCounts:
    """Remembers how far it has come. May be used from any thread."""

    def __init__(self, counting: Counting, metrics: Metrics) -> None:
        self._counting = counting
        self._metrics = metrics
        self._lock = threading.Lock()
        self._seen: dict[object, float] = {}

    def bring(self) -> None:
        """Add what has been counted since the last time."""
        with self._lock:
            for key, counts in self._counting.counts().items():
                self._bring_model(key, counts)
            self._bring_endings(self._counting.endings())
            for reason, count in self._counting.handed_over().items():
                self._metrics.native_handed_over(reason, self._since(("handed over", reason), count))

    def _bring_model(self, key: str, counts: Mapping[str, Any]) -> None:
        model, property_ids = labels_of(key)
        metrics = self._metrics
        for name, request_outcome in _REQUESTS:
            metrics.requests_finished(model, request_outcome, self._since((key, name), counts[name]))
        for name, row_outcome in _ROWS:
            metrics.rows_judged(model, row_outcome, self._since((key, name), counts[name]))
        for property_id, by_label in zip(property_ids, counts["domains"], strict=True):
            for label in (Label.SILENT, Label.VIOLATING, Label.OPEN):
                more = self._since((key, property_id, label), by_label[label])
                metrics.rows_in_domain(model, property_id, label.name.lower(), more)
        for name, histogram in (("call_seconds", metrics.call_seconds), ("gate_seconds", metrics.gate_seconds)):
            buckets, seconds = counts[name]
            new = [self._since((key, name, number), count) for number, count in enumerate(buckets)]
            if any(new):
                histogram.add(model, new, self._since((key, name, "sum"), seconds))

    def _bring_endings(self, endings: Mapping[str, int]) -> None:
        more = {name: self._since(name, count) for name, count in endings.items()}
        for name, reason in _ENDED.items():
            self._metrics.refused_many(reason, more[name])
        refused = sum(more[name] for name in _REQUESTS_REFUSED)
        self._metrics.requests_finished(NO_MODEL, RequestOutcome.REFUSED, refused)
        self._metrics.requests_finished(NO_MODEL, RequestOutcome.FAILED, more["panics"])
        self._metrics.requests_finished(NO_MODEL, RequestOutcome.CANCELLED, more["cancelled"])
        self._metrics.native_open_connections(endings[OPEN_CONNECTIONS])
        for name in endings.keys() - {*_ENDED, "too_many_requests", "cancelled", OPEN_CONNECTIONS}:
            self._metrics.native_event(name, more[name])

    def _since(self, what: object, now: Any) -> Any:
        before = self._seen.get(what, 0)
        self._seen[what] = now
        return now - before
