"""One call for a model's rows around the request path: admit, ask the upstream, judge, count, record.

This is where bytes move and clocks tick, still without knowing the transport on the client's side. It
fails closed: whatever goes wrong here, nothing of the upstream's response is answered.
"""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from sidecar.errors import Reason
from sidecar.gates.steps import Steps
from sidecar.proxy.active_bundle import ActiveBundle, Registry
from sidecar.proxy.answer import Answer
from sidecar.proxy.decision_ids import DECISION_KEY, decision_id
from sidecar.proxy.dialects import OPEN_INFERENCE, Dialect
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.failure_policy import REASON_KEY, Status, is_failure, status_of_failure, status_of_refusal
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Judgement, Plan, admit, judge_in_steps
from sidecar.proxy.torchserve_failures import retold
from sidecar.proxy.upstream import Upstream, UpstreamFailure, UpstreamReply
from sidecar.proxy.workers import Workers

OUTCOME_KEY: Final = "gate-outcome"

_SAID_WHEN_STOPPING: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED)
"""Of models that they have served, by servers that are stopping; a client would not try again. (Triton, for about
three seconds.)"""

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(eq=False)
class _Exchange(Exchange):
    """One call as it goes along."""

    decision: str = dataclasses.field(kw_only=True)
    client: str = dataclasses.field(kw_only=True)


class ModelInfer:
    """Answers ModelInfer calls by the bundles that are active when a call starts.

    ``is_served``, where given, asks whether the upstream has a guarded model at the moment.
    """

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        workers: Workers,
        is_served: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._workers = workers
        self._books = Bookkeeping(metrics)
        self._is_served = is_served

    async def answer(
        self,
        call_id: str,
        request: bytes,
        metadata: Metadata,
        timeout_seconds: float,
        client: str | None = None,
        dialect: Dialect[Any, Any] = OPEN_INFERENCE,
        age_seconds: float = 0.0,
    ) -> Answer:
        """Answer one request; the upstream gets ``timeout_seconds``. Corrections for one ``client`` take turns with
        others'; None stands for one of which nothing is known. The call came in ``age_seconds`` ago.
        """
        exchange = _Exchange(
            started=time.perf_counter() - age_seconds, decision=decision_id(call_id, 1), client=client or call_id
        )
        try:
            return await self._answer(exchange, request, metadata, timeout_seconds, dialect)
        except asyncio.CancelledError:
            self._books.finished(exchange, RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("decision %s failed", exchange.decision)
            return self._refuse(exchange, Refusal(Reason.INTERNAL, repr(error), exchange.bundle))

    async def _answer(
        self,
        exchange: _Exchange,
        request: bytes,
        metadata: Metadata,
        timeout_seconds: float,
        dialect: Dialect[Any, Any],
    ) -> Answer:
        check = functools.partial(exchange.timed, admit, request, metadata, self._registry.current, dialect)
        admission = await self._workers.check(request, check)
        if isinstance(admission, Refusal):
            exchange.bundle = admission.bundle
            return self._refuse(exchange, admission)
        exchange.bundle = admission.plan.bundle
        reply = await self._upstream.call(dialect.method, admission.forward, admission.metadata, timeout_seconds)
        if isinstance(reply, UpstreamFailure):
            if not dialect.tells_errors:
                return self._fail(exchange, reply, retold(reply, len(admission.forward)))
            understood = await self._understood(admission.plan.bundle, reply)
            return self._fail(exchange, understood, understood)
        steps = self._judge_and_record(exchange, admission.plan, reply.body)
        judgement = await self._workers.judge(admission.plan, exchange.client, steps, len(reply.body))
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

    def _judge_and_record(self, exchange: _Exchange, plan: Plan, response: bytes) -> Steps[Judgement | Refusal]:
        """Judge, and write down what was seen: also where the client gives up meanwhile."""
        judgement = yield from exchange.timed_steps(judge_in_steps(plan, response))
        if isinstance(judgement, Judgement):
            self._books.judged(plan, exchange.decision, judgement.events)
        return judgement

    def _conclude(self, exchange: _Exchange, judgement: Judgement, reply: UpstreamReply) -> Answer:
        if isinstance(judgement.answer, Refusal):
            return self._refuse(exchange, judgement.answer)
        self._books.finished(exchange, judgement.outcome)
        own = ((DECISION_KEY, exchange.decision), (OUTCOME_KEY, judgement.outcome))
        return Answer(judgement.answer, reply.initial, reply.trailing + own)

    def _refuse(self, exchange: _Exchange, refusal: Refusal) -> Answer:
        # Nothing of the upstream's answer goes to the client, its metadata included.
        return self._end(exchange, refusal, status_of_refusal(refusal))

    def _fail(self, exchange: _Exchange, failure: UpstreamFailure, told: UpstreamFailure) -> Answer:
        """``failure`` goes into the books, and ``told`` to the client."""
        refusal = Refusal(told.reason, f"{failure.code.name}: {failure.details}", exchange.bundle)
        answer = self._end(exchange, refusal, status_of_failure(told))
        return dataclasses.replace(answer, initial=told.initial, trailing=told.trailing + answer.trailing)

    def _end(self, exchange: _Exchange, refusal: Refusal, status: Status) -> Answer:
        outcome = RequestOutcome.FAILED if is_failure(refusal.reason) else RequestOutcome.REFUSED
        self._books.finished(exchange, outcome)
        self._books.refused(exchange.decision, refusal)
        own = ((DECISION_KEY, exchange.decision), (OUTCOME_KEY, outcome), (REASON_KEY, status.reason))
        return Answer(status, (), own)
