"""One request from its start to its end, and the books that are kept of it: metrics and audit records.

Calls and requests within streams are counted alike, and here only.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from sidecar.gates.steps import Steps
from sidecar.proxy import audit
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import Events, Refusal, RequestOutcome
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Plan
from sidecar.proxy.unguarded import Passage

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


@dataclasses.dataclass(eq=False)
class Exchange:
    """One request as it goes along; what is counted in the end."""

    started: float = dataclasses.field(default_factory=time.perf_counter)
    bundle: ActiveBundle | None = None
    gate_seconds: float = 0.0

    def timed(self, compute: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Call a function, and add its time to the sidecar's own."""
        started = time.perf_counter()
        try:
            return compute(*arguments)
        finally:
            self.gate_seconds += time.perf_counter() - started

    def timed_steps(self, steps: Steps[_Result]) -> Steps[_Result]:
        """The same steps; the time that they take is added, not the time between them."""
        while True:
            started = time.perf_counter()
            try:
                left = next(steps)
            except StopIteration as end:
                result: _Result = end.value
                return result
            finally:
                self.gate_seconds += time.perf_counter() - started
            yield left


class Bookkeeping:
    """Counts what happens to requests, and writes it down."""

    def __init__(self, metrics: Metrics, first_seen: FirstSeen | None = None) -> None:
        self._metrics = metrics
        self._first_seen = first_seen or FirstSeen()

    def judged(self, plan: Plan | Passage, decision: str, events: Events) -> None:
        """An answer was judged, or passed without it."""
        if isinstance(plan, Passage):
            self._passed(plan, decision)
            return
        self._metrics.judged(plan.bundle.model_name, events)
        audit.record_events(plan.bundle, decision, events)
        if events.unproved_version is not None:
            self._first_seen.unproved(plan.bundle.model_name, events.unproved_version)

    def _passed(self, passage: Passage, decision: str) -> None:
        if passage.outcome is RequestOutcome.UNGUARDED:
            self._first_seen.unguarded(passage.model_name)
        else:
            self._metrics.bypassed(passage.model_name, passage.why.reason)
            audit.record_bypass(passage.model_name, decision, passage.why)

    def refused(self, decision: str, refusal: Refusal) -> None:
        """The client gets an error."""
        self._metrics.refused(refusal.bundle, refusal.reason)
        audit.record_refusal(decision, refusal)

    def finished(self, exchange: Exchange, outcome: RequestOutcome) -> None:
        """Nothing more happens to a request."""
        total_seconds = time.perf_counter() - exchange.started
        self._metrics.request_finished(exchange.bundle, outcome, total_seconds, exchange.gate_seconds)
