"""One ModelInfer call around the request path: admit, ask the upstream, judge, count, record.

This is where bytes move and clocks tick, still without knowing the transport on the client's side. It
fails closed: whatever goes wrong here, nothing of the upstream's response is answered.
"""

import asyncio
import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple

import grpc

from sidecar.errors import Reason
from sidecar.proxy import audit
from sidecar.proxy.active_bundle import ActiveBundle, Registry
from sidecar.proxy.answer import Answer
from sidecar.proxy.decision_ids import DECISION_KEY, decision_id
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.failure_policy import REASON_KEY, Status, is_failure, status_of_failure, status_of_refusal
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Admission, Judgement, Plan, admit, judge
from sidecar.proxy.upstream import Upstream, UpstreamFailure, UpstreamReply

OUTCOME_KEY: Final = "gate-outcome"

MAX_ROWS_ON_THE_LOOP: Final = 16
"""Larger batches are judged in a thread: a correction takes up to about a millisecond, and the loop serves everyone."""

MAX_REQUEST_BYTES_ON_THE_LOOP: Final = 16 * 1024
"""Larger requests are checked in a thread: thousands of rows may have to be looked for in thousands of boxes."""

_SAID_WHEN_STOPPING: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED)
"""Of models that they have served, by servers that are stopping; a client would not try again. (Triton, for about
three seconds.)"""

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


@dataclasses.dataclass(eq=False)
class _Exchange:
    """One call as it goes along; what is counted in the end."""

    decision: str
    started: float
    bundle: ActiveBundle | None = None
    gate_seconds: float = 0.0

    def timed(self, compute: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Call a function, and add its time to the sidecar's own."""
        started = time.perf_counter()
        try:
            return compute(*arguments)
        finally:
            self.gate_seconds += time.perf_counter() - started


class ModelInfer:
    """Answers ModelInfer calls by the bundles that are active when a call starts.

    ``is_served``, where given, asks whether the upstream has a guarded model at the moment.
    """

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        is_served: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._metrics = metrics
        self._is_served = is_served
        # One thread each: large ones take turns, and small requests are never behind more than one of each.
        self._large_requests = concurrent.futures.ThreadPoolExecutor(1, "large-requests")
        self._large_batches = concurrent.futures.ThreadPoolExecutor(1, "large-batches")

    def close(self) -> None:
        """End the threads; no call is in flight any more."""
        self._large_requests.shutdown()
        self._large_batches.shutdown()

    async def answer(self, call_id: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> Answer:
        """Answer one request; the upstream gets ``timeout_seconds``."""
        exchange = _Exchange(decision_id(call_id, 1), time.perf_counter())
        try:
            return await self._answer(exchange, request, metadata, timeout_seconds)
        except asyncio.CancelledError:
            self._count(exchange, RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("decision %s failed", exchange.decision)
            return self._refuse(exchange, Refusal(Reason.INTERNAL, repr(error), exchange.bundle))

    async def _answer(self, exchange: _Exchange, request: bytes, metadata: Metadata, timeout_seconds: float) -> Answer:
        admission = await self._admit(exchange, request, metadata)
        if isinstance(admission, Refusal):
            exchange.bundle = admission.bundle
            return self._refuse(exchange, admission)
        exchange.bundle = admission.plan.bundle
        reply = await self._upstream.call(MODEL_INFER, admission.forward, admission.metadata, timeout_seconds)
        if isinstance(reply, UpstreamFailure):
            return self._fail(exchange, await self._understood(admission.plan.bundle, reply))
        judgement = await self._judge(exchange, admission.plan, reply.body)
        if isinstance(judgement, Refusal):
            return self._refuse(exchange, judgement)
        return self._conclude(exchange, judgement, reply)

    async def _understood(self, bundle: ActiveBundle, failure: UpstreamFailure) -> UpstreamFailure:
        """What a failure means. Where the model is gone by now, the upstream's way of saying so is UNAVAILABLE."""
        if failure.code not in _SAID_WHEN_STOPPING or self._is_served is None:
            return failure
        if await self._is_served(bundle.model_name):
            return failure
        details = f"{failure.code.name}: {failure.details}"
        return UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, details, answered=False)

    async def _admit(self, exchange: _Exchange, request: bytes, metadata: Metadata) -> Admission | Refusal:
        models = self._registry.current
        if len(request) <= MAX_REQUEST_BYTES_ON_THE_LOOP:
            return exchange.timed(admit, request, metadata, models)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._large_requests, exchange.timed, admit, request, metadata, models)

    async def _judge(self, exchange: _Exchange, plan: Plan, response: bytes) -> Judgement | Refusal:
        if len(plan.inputs) <= MAX_ROWS_ON_THE_LOOP:
            return self._judge_and_record(exchange, plan, response)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._large_batches, self._judge_and_record, exchange, plan, response)

    def _judge_and_record(self, exchange: _Exchange, plan: Plan, response: bytes) -> Judgement | Refusal:
        """Judge, and write down what was seen: also where the client gives up meanwhile."""
        judgement = exchange.timed(judge, plan, response)
        if isinstance(judgement, Judgement):
            self._metrics.judged(plan.bundle.model_name, judgement.events)
            audit.record_events(plan.bundle, exchange.decision, judgement.events)
        return judgement

    def _conclude(self, exchange: _Exchange, judgement: Judgement, reply: UpstreamReply) -> Answer:
        if isinstance(judgement.answer, Refusal):
            return self._refuse(exchange, judgement.answer)
        self._count(exchange, judgement.outcome)
        own = ((DECISION_KEY, exchange.decision), (OUTCOME_KEY, judgement.outcome))
        return Answer(judgement.answer, reply.initial, reply.trailing + own)

    def _refuse(self, exchange: _Exchange, refusal: Refusal) -> Answer:
        # Nothing of the upstream's answer goes to the client, its metadata included.
        return self._end(exchange, refusal, status_of_refusal(refusal))

    def _fail(self, exchange: _Exchange, failure: UpstreamFailure) -> Answer:
        refusal = Refusal(failure.reason, f"{failure.code.name}: {failure.details}", exchange.bundle)
        answer = self._end(exchange, refusal, status_of_failure(failure))
        return dataclasses.replace(answer, initial=failure.initial, trailing=failure.trailing + answer.trailing)

    def _end(self, exchange: _Exchange, refusal: Refusal, status: Status) -> Answer:
        outcome = RequestOutcome.FAILED if is_failure(refusal.reason) else RequestOutcome.REFUSED
        self._metrics.refused(exchange.bundle, refusal.reason)
        self._count(exchange, outcome)
        audit.record_refusal(exchange.decision, refusal)
        own = ((DECISION_KEY, exchange.decision), (OUTCOME_KEY, outcome), (REASON_KEY, status.reason))
        return Answer(status, (), own)

    def _count(self, exchange: _Exchange, outcome: RequestOutcome) -> None:
        total_seconds = time.perf_counter() - exchange.started
        self._metrics.request_finished(exchange.bundle, outcome, total_seconds, exchange.gate_seconds)
