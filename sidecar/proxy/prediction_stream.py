"""StreamPredictions: one request, and any number of predictions, each judged as an answer to all of it.

A handler that is not made for streams loses its worker by such a call, and the model may hang for ever. So a model's
settings must allow it, and the upstream always has a deadline. StreamPredictions2 is denied whatever they say: it also
keeps state between requests.
"""

import asyncio
import functools
import logging
from typing import Final

from sidecar.errors import Reason
from sidecar.gates.steps import Steps
from sidecar.proxy.active_bundle import ActiveModels, Registry
from sidecar.proxy.deadlines import upstream_seconds
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.dialects import STREAMED_TORCHSERVE
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.failure_policy import REASON_KEY, Status, is_failure, status_of_failure, status_of_refusal
from sidecar.proxy.load import Lease, Load
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Admission, Judgement, admit, bundle_of, judge_in_steps
from sidecar.proxy.stream_client import ClientStream, Replies, StreamEnd
from sidecar.proxy.stream_path import ClientSide
from sidecar.proxy.streamed_request import StreamedRequest
from sidecar.proxy.torchserve_failures import retold
from sidecar.proxy.upstream import Upstream, UpstreamEnded, UpstreamFailure, UpstreamStream
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")


def admit_to_stream(request: bytes, metadata: Metadata, models: ActiveModels) -> Admission | Refusal:
    """Check a request before anything is forwarded."""
    admission = admit(request, metadata, models, STREAMED_TORCHSERVE)
    if isinstance(admission, Refusal):
        return admission
    bundle = bundle_of(admission.plan)
    if bundle is None:
        return Refusal(Reason.METHOD_DENIED, "streams are allowed for models with a gate bundle only: use Predictions")
    if bundle.policy.torchserve is not None and bundle.policy.torchserve.stream:
        return admission
    text = (
        f"streams are not allowed for model {bundle.model_name!r}: use Predictions, or see models, torchserve, stream"
    )
    return Refusal(Reason.METHOD_DENIED, text, bundle)


class PredictionStream:
    """Answers StreamPredictions by the bundles that are active when a call starts."""

    def __init__(self, registry: Registry, upstream: Upstream, metrics: Metrics, workers: Workers, load: Load) -> None:
        self._registry = registry
        self._upstream = upstream
        self._books = Bookkeeping(metrics)
        self._workers = workers
        self._load = load

    async def answer(
        self,
        call_id: str,
        client: ClientStream,
        request: bytes,
        metadata: Metadata,
        timeout_seconds: float,
        client_name: str | None = None,
    ) -> StreamEnd:
        """Answer a request to the end of its stream, for which the upstream gets ``timeout_seconds``, or less by its
        model's policy. Corrections of one client take turns with those of others; its name is None where nothing is
        known of it.
        """
        exchange, decision = Exchange(), decision_id(call_id, 1)
        lease = self._load.open(len(request))
        if isinstance(lease, Refusal):
            return self._turn_away(exchange, decision, lease)
        try:
            admission = await self._admit(exchange, request, metadata)
            if isinstance(admission, Refusal):
                exchange.bundle = admission.bundle
                return self._turn_away(exchange, decision, admission)
            replies, name = Replies(call_id, client), client_name or call_id
            return await self._stream(replies, name, admission, exchange, lease, timeout_seconds)
        finally:
            lease.close()

    async def _admit(self, exchange: Exchange, request: bytes, metadata: Metadata) -> Admission | Refusal:
        check = functools.partial(admit_to_stream, request, metadata, self._registry.current)
        try:
            return await self._workers.check(request, exchange.timed, check)
        except asyncio.CancelledError:
            self._books.finished(exchange, RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("a request for predictions could not be checked")
            return Refusal(Reason.INTERNAL, repr(error))

    def _turn_away(self, exchange: Exchange, decision: str, refusal: Refusal) -> StreamEnd:
        self._books.finished(exchange, _outcome(refusal.reason))
        self._books.refused(decision, refusal)
        return StreamEnd(status_of_refusal(refusal), trailing=((REASON_KEY, refusal.reason),))

    async def _stream(
        self,
        replies: Replies,
        client_name: str,
        admission: Admission,
        exchange: Exchange,
        lease: Lease,
        timeout_seconds: float,
    ) -> StreamEnd:
        plan = admission.plan
        streamed = StreamedRequest(
            exchange.started, bundle_of(plan), exchange.gate_seconds, plan=plan, side=ClientSide(), lease=lease
        )
        policy = None if streamed.bundle is None else streamed.bundle.policy
        seconds = upstream_seconds(policy, timeout_seconds, 0.0)
        upstream = self._upstream.stream(STREAMED_TORCHSERVE.method, admission.metadata, seconds)
        call = _Call(self._books, self._workers, streamed, replies, upstream, client_name)
        try:
            return await call.run(admission.forward)
        except asyncio.CancelledError:
            self._books.finished(streamed, RequestOutcome.CANCELLED)
            raise
        finally:
            upstream.cancel()


def _outcome(reason: Reason) -> RequestOutcome:
    return RequestOutcome.FAILED if is_failure(reason) else RequestOutcome.REFUSED


class _Call:
    """One stream as it goes along."""

    def __init__(
        self,
        books: Bookkeeping,
        workers: Workers,
        request: StreamedRequest,
        replies: Replies,
        upstream: UpstreamStream,
        client_name: str,
    ) -> None:
        self._books = books
        self._workers = workers
        self._request = request
        self._replies = replies
        self._upstream = upstream
        self._client_name = client_name

    async def run(self, forward: bytes) -> StreamEnd:
        try:
            await self._upstream.send(forward)
            await self._upstream.half_close()
            self._replies.initial = await self._upstream.initial()
            return await self._give_all(len(forward))
        except Exception as error:
            _LOGGER.exception("decision %s failed", self._replies.next_decision)
            return self._refuse(Refusal(Reason.INTERNAL, repr(error), self._request.bundle))

    async def _give_all(self, request_bytes: int) -> StreamEnd:
        while True:
            received = await self._upstream.receive()
            match received:
                case bytes():
                    refusal = await self._give(received)
                    if refusal is not None:
                        return self._refuse(refusal)
                case UpstreamEnded():
                    self._books.finished(self._request, self._request.outcome)
                    return StreamEnd(None, self._replies.initial, received.trailing)
                case UpstreamFailure():
                    told = retold(received, request_bytes)
                    said = f"{received.code.name}: {received.details}"
                    refusal = Refusal(told.reason, said, self._request.bundle)
                    return self._refuse(refusal, status_of_failure(told))

    async def _give(self, message: bytes) -> Refusal | None:
        """Judge a prediction and send it, or say why not."""
        lease = self._request.lease
        refusal = lease.hold(len(message))
        if refusal is not None:
            return refusal
        try:
            steps = self._judge(message)
            judgement = await self._workers.judge(self._request.plan, self._client_name, steps, len(message))
            if isinstance(judgement, Refusal):
                return judgement
            if isinstance(judgement.answer, Refusal):
                return judgement.answer
            self._request.saw(judgement.outcome)
            async with self._replies.turn():
                await self._replies.send(judgement.answer)
            return None
        finally:
            lease.release(len(message))

    def _judge(self, message: bytes) -> Steps[Judgement | Refusal]:
        judgement = yield from self._request.timed_steps(judge_in_steps(self._request.plan, message))
        if isinstance(judgement, Judgement):
            self._books.judged(self._request.plan, self._replies.next_decision, judgement.events)
        return judgement

    def _refuse(self, refusal: Refusal, status: Status | None = None) -> StreamEnd:
        """End the stream in an error."""
        status = status or status_of_refusal(refusal)
        self._books.finished(self._request, _outcome(refusal.reason))
        self._books.refused(self._replies.next_decision, refusal)
        # Nothing of the upstream's goes with it, its metadata included.
        return StreamEnd(status, trailing=((REASON_KEY, status.reason),))
