"""One call for a model's rows around the request path: admit, ask the upstream, judge, count, record.

This is where bytes move and clocks tick, still without knowing the transport on the client's side. It
fails closed: whatever goes wrong here, nothing of the upstream's response is answered.
"""

import asyncio
import concurrent.futures
import dataclasses
import functools
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final

from sidecar.config import DEFAULT_FALLBACK_RESERVE_SECONDS, UpstreamWords
from sidecar.errors import Reason
from sidecar.gates.steps import Steps
from sidecar.proxy.active_bundle import Registry
from sidecar.proxy.answer import Answer
from sidecar.proxy.deadlines import upstream_seconds
from sidecar.proxy.decision_ids import DECISION_KEY, decision_id
from sidecar.proxy.dialects import OPEN_INFERENCE, Dialect
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.failure_policy import (
    REASON_KEY,
    Status,
    as_told,
    calls_for_fallback,
    is_failure,
    status_of_failure,
    status_of_refusal,
)
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.going_away import IsServed, understood
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import (
    Judgement,
    Plan,
    admit,
    bundle_of,
    fall_back,
    judge_in_steps,
    may_fall_back,
)
from sidecar.proxy.torchserve_failures import retold
from sidecar.proxy.unguarded import Passage
from sidecar.proxy.upstream import Upstream, UpstreamFailure, UpstreamReply
from sidecar.proxy.workers import Workers

OUTCOME_KEY: Final = "gate-outcome"

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(eq=False)
class _Exchange(Exchange):
    """One call as it goes along."""

    decision: str = dataclasses.field(kw_only=True)
    client: str = dataclasses.field(kw_only=True)


def _exchange(call_id: str, client: str | None, age_seconds: float) -> _Exchange:
    return _Exchange(
        started=time.perf_counter() - age_seconds, decision=decision_id(call_id, 1), client=client or call_id
    )


class ModelInfer:
    """Answers ModelInfer calls by the bundles that are active when a call starts.

    ``is_served``, where given, asks whether the upstream has a guarded model at the moment; ``reserve_seconds`` of the
    time for a request are kept for an answer without the upstream, where there may be one; ``words`` says which of the
    upstream's error texts go to clients.
    """

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        workers: Workers,
        is_served: IsServed | None = None,
        *,
        reserve_seconds: float = DEFAULT_FALLBACK_RESERVE_SECONDS,
        first_seen: FirstSeen | None = None,
        words: UpstreamWords = UpstreamWords.CALLERS,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._workers = workers
        self._books = Bookkeeping(metrics, first_seen)
        self._is_served = is_served
        self._reserve_seconds = reserve_seconds
        self._words = words

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
        """Answer one request within ``timeout_seconds``, which is the upstream's time too. Corrections for one
        ``client`` take turns with others'; None stands for one of which nothing is known. The call came in
        ``age_seconds`` ago.
        """
        exchange = _exchange(call_id, client, age_seconds)
        return await self._failing_closed(exchange, self._answer(exchange, request, metadata, timeout_seconds, dialect))

    def judge(
        self, call_id: str, request: bytes, reply: UpstreamReply, client: str, age_seconds: float
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """As :meth:`answer`, where a small request has been to the upstream already. What is surely short is done here
        and now; of anything else comes what gives the answer.
        """
        exchange = _exchange(call_id, client, age_seconds)
        try:
            answer = self._judge_admitted(exchange, request, reply)
        except Exception as error:
            return self._failed(exchange, error)
        return answer if isinstance(answer, Answer) else self._failing_closed(exchange, answer)

    async def _failing_closed(self, exchange: _Exchange, answering: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            return await answering
        except asyncio.CancelledError:
            self._books.finished(exchange, RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            return self._failed(exchange, error)

    def _failed(self, exchange: _Exchange, error: Exception) -> Answer:
        _LOGGER.exception("decision %s failed", exchange.decision, exc_info=error)
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
        plan = admission.plan
        exchange.bundle = bundle_of(plan)
        seconds = self._upstream_seconds(exchange, plan, timeout_seconds)
        reply = await self._upstream.call(dialect.method, admission.forward, admission.metadata, seconds)
        if isinstance(reply, UpstreamFailure):
            failure, told = await self._understood(exchange, reply, dialect, len(admission.forward))
            return await self._without_answer(exchange, plan, failure, told)
        answer = self._judge(exchange, plan, reply)
        return answer if isinstance(answer, Answer) else await answer

    def _judge_admitted(
        self, exchange: _Exchange, request: bytes, reply: UpstreamReply
    ) -> Answer | Coroutine[Any, Any, Answer]:
        admission = exchange.timed(admit, request, (), self._registry.current)
        if isinstance(admission, Refusal):
            exchange.bundle = admission.bundle
            return self._refuse(exchange, admission)
        exchange.bundle = bundle_of(admission.plan)
        return self._judge(exchange, admission.plan, reply)

    def _judge(
        self, exchange: _Exchange, plan: Plan | Passage, reply: UpstreamReply
    ) -> Answer | Coroutine[Any, Any, Answer]:
        steps = self._judge_and_record(exchange, plan, reply.body)
        begun = self._workers.begin(plan, exchange.client, steps, len(reply.body))
        if isinstance(begun, concurrent.futures.Future):
            return self._finish(exchange, plan, begun, reply)
        return self._judged(exchange, begun, reply)

    async def _finish(
        self,
        exchange: _Exchange,
        plan: Plan | Passage,
        begun: concurrent.futures.Future[Judgement | Refusal],
        reply: UpstreamReply,
    ) -> Answer:
        return self._judged(exchange, await self._workers.finish(plan, begun), reply)

    def _judged(self, exchange: _Exchange, judgement: Judgement | Refusal, reply: UpstreamReply) -> Answer:
        if isinstance(judgement, Refusal):
            return self._refuse(exchange, judgement)
        return self._conclude(exchange, judgement, reply)

    def _upstream_seconds(self, exchange: _Exchange, plan: Plan | Passage, timeout_seconds: float) -> float:
        left_seconds = timeout_seconds - (time.perf_counter() - exchange.started)
        policy = None if exchange.bundle is None else exchange.bundle.policy
        return upstream_seconds(policy, left_seconds, self._reserve_seconds if may_fall_back(plan) else 0.0)

    async def _understood(
        self, exchange: _Exchange, failure: UpstreamFailure, dialect: Dialect[Any, Any], request_bytes: int
    ) -> tuple[UpstreamFailure, UpstreamFailure]:
        """What a failure means, for the books and for the client."""
        if not dialect.tells_errors:
            return failure, retold(failure, request_bytes)
        names = () if exchange.bundle is None else (exchange.bundle.model_name,)
        failure = await understood(failure, names, self._is_served)
        return failure, as_told(failure, self._words)

    async def _without_answer(
        self, exchange: _Exchange, plan: Plan | Passage, failure: UpstreamFailure, told: UpstreamFailure
    ) -> Answer:
        """Where the upstream gave none: an error, or the properties' fallbacks."""
        if may_fall_back(plan) and calls_for_fallback(failure):
            why = Refusal(failure.reason, f"{failure.code.name}: {failure.details}", exchange.bundle)
            judgement = await self._workers.compute(
                plan, exchange.client, self._fall_back_and_record, exchange, plan, why
            )
            if judgement is not None:
                return self._conclude(exchange, judgement, None)
        return self._fail(exchange, failure, told)

    def _fall_back_and_record(self, exchange: _Exchange, plan: Plan | Passage, why: Refusal) -> Judgement | None:
        judgement = exchange.timed(fall_back, plan, why)
        if judgement is not None:
            self._books.judged(plan, exchange.decision, judgement.events)
        return judgement

    def _judge_and_record(
        self, exchange: _Exchange, plan: Plan | Passage, response: bytes
    ) -> Steps[Judgement | Refusal]:
        """Judge, and write down what was seen: also where the client gives up meanwhile."""
        judgement = yield from exchange.timed_steps(judge_in_steps(plan, response))
        if isinstance(judgement, Judgement):
            self._books.judged(plan, exchange.decision, judgement.events)
        return judgement

    def _conclude(self, exchange: _Exchange, judgement: Judgement, reply: UpstreamReply | None) -> Answer:
        if isinstance(judgement.answer, Refusal):
            return self._refuse(exchange, judgement.answer)
        self._books.finished(exchange, judgement.outcome)
        own: Metadata = ((DECISION_KEY, exchange.decision), (OUTCOME_KEY, judgement.outcome))
        if judgement.reason is not None:
            own = (*own, (REASON_KEY, judgement.reason))
        if reply is None or judgement.outcome is RequestOutcome.FALLBACK:
            return Answer(judgement.answer, (), own)
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
