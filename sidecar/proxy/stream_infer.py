"""One ModelStreamInfer call around the request path: requests one way, their responses the other.

Every request is admitted on its own and goes upstream under an id of ours; every response is judged by the plan of
the request that it belongs to. What is refused becomes an error within the stream, and the stream goes on. The n-th
message that the client gets has the decision id ``<call id>/<n>``. Like its unary sister this fails closed, and does
not know the transport on the client's side.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Awaitable, Iterator, Sequence
from typing import Final, TypeVar

import grpc

from sidecar.config import DEFAULT_FALLBACK_RESERVE_SECONDS, DEFAULT_STREAM_IDLE_SECONDS, UpstreamWords
from sidecar.errors import Reason
from sidecar.gates.steps import Steps
from sidecar.protocols.open_inference.stream import StreamedResponse, with_own_id
from sidecar.proxy.active_bundle import Registry
from sidecar.proxy.correlation import Correlation, Phase
from sidecar.proxy.deadlines import upstream_seconds
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.failure_policy import (
    REASON_KEY,
    Status,
    as_told,
    calls_for_fallback,
    status_of_failure,
    status_of_refusal,
)
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.going_away import IsServed, is_going_away, understood
from sidecar.proxy.load import Lease, Load
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Admission, bundle_of, may_fall_back
from sidecar.proxy.stream_client import ClientStream, Replies, StreamEnd
from sidecar.proxy.stream_path import (
    ClientSide,
    StreamedAnswer,
    admit_streamed,
    client_side,
    fall_back_streamed,
    judge_streamed,
    read_streamed,
    refused,
)
from sidecar.proxy.streamed_request import StreamedRequest
from sidecar.proxy.upstream import Upstream, UpstreamEnd, UpstreamEnded, UpstreamFailure, UpstreamStream
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_Received = TypeVar("_Received")


@dataclasses.dataclass(frozen=True)
class StreamLimits:
    """How long things may take on a stream.

    Args:
        silence_seconds: of the upstream, while requests are in flight.
        reserve_seconds: of a client's deadline, kept for answers without the upstream.
        idle_seconds: without any message, and without a request in flight.
    """

    silence_seconds: float
    reserve_seconds: float
    idle_seconds: float


class ModelStreamInfer:
    """Answers ModelStreamInfer calls, each request by the bundles that are active when it arrives.

    ``silence_seconds`` is how long the upstream may be silent while requests are in flight; for the others see
    :class:`StreamLimits`, and :class:`~sidecar.proxy.infer.ModelInfer`.
    """

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        workers: Workers,
        load: Load,
        silence_seconds: float,
        is_served: IsServed | None = None,
        *,
        reserve_seconds: float = DEFAULT_FALLBACK_RESERVE_SECONDS,
        idle_seconds: float = DEFAULT_STREAM_IDLE_SECONDS,
        first_seen: FirstSeen | None = None,
        words: UpstreamWords = UpstreamWords.CALLERS,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._books = Bookkeeping(metrics, first_seen)
        self._workers = workers
        self._load = load
        self._limits = StreamLimits(silence_seconds, reserve_seconds, idle_seconds)
        self._is_served = is_served
        self._words = words
        self._calls: set[_Call] = set()

    def drain(self) -> None:
        """Take no more requests: each stream ends once those in flight are answered."""
        for call in self._calls:
            call.drain()

    async def answer(
        self,
        call_id: str,
        client: ClientStream,
        metadata: Metadata,
        timeout_seconds: float | None,
        client_name: str | None = None,
    ) -> StreamEnd:
        """Answer a stream to its end; ``timeout_seconds`` is what the client's deadline leaves, where it set one.
        Corrections of one client take turns with those of others; its name is None where nothing is known of it.
        """
        lease = self._load.open(0)
        if isinstance(lease, Refusal):
            self._books.refused(decision_id(call_id, 1), lease)
            return StreamEnd(status_of_refusal(lease), trailing=((REASON_KEY, lease.reason),))
        call = _Call(
            call_id=call_id,
            client=client,
            client_name=client_name or call_id,
            metadata=metadata,
            timeout_seconds=timeout_seconds,
            limits=self._limits,
            is_served=self._is_served,
            words=self._words,
            registry=self._registry,
            upstream=self._upstream,
            books=self._books,
            workers=self._workers,
            load=self._load,
            lease=lease,
        )
        self._calls.add(call)
        try:
            return await call.run()
        finally:
            self._calls.discard(call)
            lease.close()


class _Call:
    """One stream as it goes along."""

    def __init__(
        self,
        *,
        call_id: str,
        client: ClientStream,
        client_name: str,
        metadata: Metadata,
        timeout_seconds: float | None,
        limits: StreamLimits,
        is_served: IsServed | None,
        words: UpstreamWords,
        registry: Registry,
        upstream: Upstream,
        books: Bookkeeping,
        workers: Workers,
        load: Load,
        lease: Lease,
    ) -> None:
        self._call_id = call_id
        self._client = client
        self._client_name = client_name
        self._words = words
        self._metadata = metadata
        self._timeout_seconds = timeout_seconds
        self._limits = limits
        self._is_served = is_served
        self._registry = registry
        self._upstream = upstream
        self._books = books
        self._workers = workers
        self._load = load
        self._lease = lease
        self._requests: Correlation[StreamedRequest] = Correlation(call_id)
        self._over = asyncio.Event()  # some request is
        self._opened: asyncio.Future[UpstreamStream | None] = asyncio.get_running_loop().create_future()
        self._half_closed = False
        self._draining = False
        self._gave_up = False
        self._reading: asyncio.Timeout | None = None
        self._silence: asyncio.Timeout | None = None
        self._replies = Replies(call_id, client)
        self._active_at = asyncio.get_running_loop().time()
        self._ends_at = self._active_at + (math.inf if timeout_seconds is None else timeout_seconds)

    async def run(self) -> StreamEnd:
        """Move requests and responses until either side ends the stream."""
        taking = asyncio.create_task(self._take_requests())
        giving = asyncio.create_task(self._give_responses())
        idling = asyncio.create_task(self._wait_for_idleness())
        try:
            await asyncio.wait((taking, giving, idling), return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                taking.result()
            await asyncio.wait((giving, idling), return_when=asyncio.FIRST_COMPLETED)
            if not giving.done():
                return self._fail(idling.result())
            end = giving.result()
            await self._answer_without(end)
            return self._conclude(end)
        except asyncio.CancelledError:
            self._abandon(RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("stream %s failed", self._call_id)
            return self._fail(Refusal(Reason.INTERNAL, repr(error)))
        finally:
            await self._stop(taking, giving, idling)

    async def _wait_for_idleness(self) -> Refusal:
        """Until nothing has happened for a while, and nothing is waited for."""
        idle_seconds, now = self._limits.idle_seconds, asyncio.get_running_loop().time
        while (left := self._active_at + idle_seconds - now()) > 0:
            await asyncio.sleep(left)
            if self._requests.in_flight:
                self._active_at = now()
        text = f"no message for {idle_seconds:g} s and no request in flight; open another stream when there is one"
        return Refusal(Reason.STREAM_IDLE, text)

    async def _stop(self, *tasks: "asyncio.Task[object]") -> None:
        for task in tasks:
            task.cancel()
        if self._opened.done() and not self._opened.cancelled() and (stream := self._opened.result()) is not None:
            stream.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # From the client to the upstream.

    def drain(self) -> None:
        """Take no more requests."""
        self._draining = True
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> bytes | None:
        if self._draining:
            return None
        try:
            async with asyncio.timeout(None) as reading:
                self._reading = reading
                return await self._client.read()
        except TimeoutError:
            return None
        finally:
            self._reading = None

    async def _take_requests(self) -> None:
        while (message := await self._read()) is not None:
            self._active_at = asyncio.get_running_loop().time()
            await self._take(message)
            while not self._requests.has_room:
                self._over.clear()
                await self._over.wait()
        self._half_closed = True
        if not self._opened.done():
            self._opened.set_result(None)
        elif (stream := self._opened.result()) is not None:
            await stream.half_close()
            self._expect_more()

    async def _take(self, message: bytes) -> None:
        exchange = Exchange()
        lease = self._load.open(len(message))
        if isinstance(lease, Refusal):
            await self._turn_away(exchange, lease, await self._workers.check(message, client_side, message))
            return
        with contextlib.ExitStack() as stack:
            stack.callback(lease.close)
            side, admission = await self._admit(exchange, message)
            if isinstance(admission, Refusal):
                await self._turn_away(exchange, admission, side)
                return
            bundle, seconds = bundle_of(admission.plan), exchange.gate_seconds
            request = StreamedRequest(exchange.started, bundle, seconds, plan=admission.plan, side=side, lease=lease)
            upstream_id = self._requests.add(request, len(message))
            stack.pop_all()  # from here on it is the request's
        self._give_up_in_time(request, upstream_id)
        self._expect_more()
        await self._open(admission.metadata).send(with_own_id(admission.forward, upstream_id))

    async def _turn_away(self, exchange: Exchange, refusal: Refusal, side: ClientSide) -> None:
        """Answer a request that is not forwarded."""
        exchange.bundle = refusal.bundle
        answer = refused(refusal, side)
        self._books.finished(exchange, answer.outcome or RequestOutcome.REFUSED)
        await self._refuse(refusal, answer)

    async def _admit(self, exchange: Exchange, message: bytes) -> tuple[ClientSide, Admission | Refusal]:
        models = self._registry.current
        try:
            return await self._workers.check(message, exchange.timed, admit_streamed, message, self._metadata, models)
        except asyncio.CancelledError:
            self._books.finished(exchange, RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("a request of stream %s failed", self._call_id)
            return ClientSide(), Refusal(Reason.INTERNAL, repr(error))

    def _open(self, metadata: Metadata) -> UpstreamStream:
        """The stream to the upstream, which the first admitted request opens."""
        if self._opened.done() and (stream := self._opened.result()) is not None:
            return stream
        stream = self._upstream.stream(MODEL_STREAM_INFER, metadata, self._timeout_seconds)
        self._opened.set_result(stream)
        return stream

    def _give_up_in_time(self, request: StreamedRequest, upstream_id: str) -> None:
        """Where a request has a time of its own: because its model has, or because there may be an answer without the
        upstream. All others share the stream's.
        """
        policy = None if request.bundle is None else request.bundle.policy
        falls_back = may_fall_back(request.plan)
        if falls_back or (policy is not None and policy.upstream_timeout_seconds is not None):
            left = min(self._limits.silence_seconds, self._ends_at - asyncio.get_running_loop().time())
            seconds = upstream_seconds(policy, left, self._limits.reserve_seconds if falls_back else 0.0)
            request.giving_up = asyncio.create_task(self._give_up(request, upstream_id, seconds))

    async def _give_up(self, request: StreamedRequest, upstream_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        why = Refusal(Reason.UPSTREAM_DEADLINE, f"no response for {seconds:g} s", request.bundle)
        try:
            if await self._answer_one(request, why, or_error=True):
                self._finish(self._requests.give_up(upstream_id))
                self._over.set()
                self._gave_up = True
        except Exception:  # the request stays in flight, and ends with the stream
            _LOGGER.exception("giving up a request of stream %s failed", self._call_id)
        request.giving_up = None  # what is in flight still shares the stream's time from here on
        self._expect_more()

    async def _answer_one(self, request: StreamedRequest, why: Refusal, *, or_error: bool) -> bool:
        """Answer a request that has got no response yet without the upstream; whether that could be done."""
        async with self._replies.turn() as decision:
            if request.is_answered:
                return False
            answer = await self._workers.compute(
                request.plan, self._client_name, request.timed, fall_back_streamed, request.plan, why, True
            )
            if answer is None:
                if not or_error:
                    return False
                answer = refused(why, request.side, is_final=True)
            self._write_down(request, decision, answer)
            request.saw(answer.outcome)
            await self._replies.send(answer.message)
            request.is_given_up = True
            request.lease.close()
            self._books.finished(request, request.outcome)
        return True

    async def _answer_without(self, end: UpstreamEnd) -> None:
        """The upstream's stream is over: answer the requests in flight that have fallbacks, if it failed."""
        why = self._why_over(end)
        if why is not None:
            for request in self._requests.unanswered:
                if may_fall_back(request.plan):
                    await self._answer_one(request, dataclasses.replace(why, bundle=request.bundle), or_error=False)

    def _why_over(self, end: UpstreamEnd) -> Refusal | None:
        if isinstance(end, UpstreamFailure):
            return Refusal(end.reason, f"{end.code.name}: {end.details}") if calls_for_fallback(end) else None
        text = f"the upstream ended the stream early, with {self._requests.in_flight} requests in flight"
        return Refusal(Reason.UPSTREAM_UNAVAILABLE, text) if self._requests.in_flight else None

    # From the upstream to the client.

    async def _give_responses(self) -> UpstreamEnd:
        stream = await self._opened
        if stream is None:
            return UpstreamEnded()
        try:
            self._replies.initial = await self._within_silence(stream.initial())
            while isinstance(received := await self._within_silence(stream.receive()), bytes):
                response = read_streamed(received)
                if isinstance(response, Refusal):
                    # Whose it was is not known, and its request would wait for ever: no more can be had of this stream.
                    return UpstreamFailure(response.reason, grpc.StatusCode.INTERNAL, response.message, answered=False)
                await self._give(response)
        except TimeoutError:
            text = f"no response for {self._limits.silence_seconds:g} s while requests were in flight"
            return UpstreamFailure(Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, text, answered=False)
        if isinstance(received, UpstreamEnded):
            return received
        bundles = [request.bundle for request in self._requests.unanswered]
        return await understood(received, {each.model_name for each in bundles if each is not None}, self._is_served)

    async def _within_silence(self, receiving: Awaitable[_Received]) -> _Received:
        async with asyncio.timeout(None) as silence:
            self._silence = silence
            self._expect()
            try:
                return await receiving
            finally:
                self._silence = None

    def _expect(self) -> None:
        """From now on the upstream may be silent for its time, or for ever where nothing is waited for: requests with a
        time of their own are not. Where the client is through, and one was given up, that is the stream's end.
        """
        if self._silence is not None:
            now = asyncio.get_running_loop().time()
            shared = any(request.giving_up is None for request in self._requests.waited_for())
            waiting = shared or (self._half_closed and self._gave_up)
            self._silence.reschedule(now + self._limits.silence_seconds if waiting else None)

    def _expect_more(self) -> None:
        """The same, where nothing has been waited for; else one more is no sign of life."""
        if self._silence is not None and self._silence.when() is None:
            self._expect()

    async def _give(self, response: StreamedResponse) -> None:
        self._active_at = asyncio.get_running_loop().time()
        match = self._requests.match(response.id, response.is_final)
        if match is None:
            text = f"response to {response.id!r}, which is no request in flight: {response.error or 'no error'}"
            refusal = Refusal(Reason.UPSTREAM_UNCORRELATED, text)
            await self._refuse(refusal, refused(refusal, ClientSide()))
            return
        try:
            await self._judge_and_send(match.request, response)
        finally:
            if self._requests.phase(response.id) is Phase.OPEN_ENDED:
                # Nobody knows whether more is to come: it counts as answered, and its rows are still here.
                match.request.lease.leave()
            self._finish(match.over)
            self._over.set()

    async def _judge_and_send(self, request: StreamedRequest, response: StreamedResponse) -> None:
        going_away = (
            bool(response.error)
            and request.bundle is not None
            and await is_going_away(response.error, request.bundle.model_name, self._is_served)
        )
        with self._holding(len(response.content)) as too_much:
            async with self._replies.turn() as decision:
                if request.is_given_up:
                    return
                if too_much is not None:
                    answer = refused(too_much, request.side, response.is_final)
                    self._books.refused(decision, too_much)
                else:
                    answer = await self._judged(request, response, decision, going_away)
                request.saw(answer.outcome)
                await self._replies.send(answer.message)

    @contextlib.contextmanager
    def _holding(self, count: int) -> Iterator[Refusal | None]:
        """While some bytes of the upstream's are here; why they must not be, where that would be too many."""
        refusal = self._lease.hold(count)
        try:
            yield refusal
        finally:
            if refusal is None:
                self._lease.release(count)

    async def _judged(
        self, request: StreamedRequest, response: StreamedResponse, decision: str, going_away: bool
    ) -> StreamedAnswer:
        steps = self._judge(request, response, decision, going_away)
        answer = await self._workers.judge(request.plan, self._client_name, steps)
        if isinstance(answer, Refusal):
            self._books.refused(decision, answer)
            return refused(answer, request.side, response.is_final)
        return answer

    def _judge(
        self, request: StreamedRequest, response: StreamedResponse, decision: str, going_away: bool
    ) -> Steps[StreamedAnswer]:
        """Judge, and write down what was seen: also where the client gives up meanwhile."""
        try:
            steps = judge_streamed(request.plan, request.side, response, self._words, going_away=going_away)
            answer = yield from request.timed_steps(steps)
        except Exception as error:
            _LOGGER.exception("decision %s failed", decision)
            why = Refusal(Reason.INTERNAL, repr(error), request.bundle)
            answer = refused(why, request.side, response.is_final)
        self._write_down(request, decision, answer)
        return answer

    def _write_down(self, request: StreamedRequest, decision: str, answer: StreamedAnswer) -> None:
        if answer.events is not None:
            self._books.judged(request.plan, decision, answer.events)
        if answer.refusal is not None:
            self._books.refused(decision, answer.refusal)

    async def _refuse(self, refusal: Refusal, answer: StreamedAnswer) -> None:
        """Send an error that stands for no response to a request."""
        async with self._replies.turn() as decision:
            self._books.refused(decision, refusal)
            await self._replies.send(answer.message)

    # The end.

    def _conclude(self, end: UpstreamEnd) -> StreamEnd:
        if isinstance(end, UpstreamFailure):
            refusal = Refusal(end.reason, f"{end.code.name}: {end.details}")
            failure = as_told(end, self._words)
            return self._fail(refusal, status_of_failure(failure), failure.initial, failure.trailing)
        if not self._half_closed or self._requests.in_flight:
            text = f"the upstream ended the stream early, with {self._requests.in_flight} requests in flight"
            return self._fail(Refusal(Reason.UPSTREAM_UNAVAILABLE, text))
        if self._draining:
            return self._fail(Refusal(Reason.STOPPING, "the sidecar is stopping"))
        self._abandon(RequestOutcome.FAILED)
        return StreamEnd(None, self._replies.initial, end.trailing)

    def _fail(
        self, refusal: Refusal, status: Status | None = None, initial: Metadata = (), trailing: Metadata = ()
    ) -> StreamEnd:
        status = status or status_of_refusal(refusal)
        self._books.refused(self._replies.next_decision, refusal)
        self._abandon(RequestOutcome.FAILED)
        return StreamEnd(status, initial, (*trailing, (REASON_KEY, status.reason)))

    def _abandon(self, outcome: RequestOutcome) -> None:
        """Count what is left: requests in flight as told, open-ended ones by the responses that they got."""
        in_flight, open_ended = self._requests.end()
        for request in in_flight:
            self._finish_one(request, outcome)
        self._finish(open_ended)

    def _finish(self, requests: Sequence[StreamedRequest]) -> None:
        for request in requests:
            self._finish_one(request, request.outcome)

    def _finish_one(self, request: StreamedRequest, outcome: RequestOutcome) -> None:
        request.lease.close()
        if request.giving_up is not None and request.giving_up is not asyncio.current_task():
            request.giving_up.cancel()
        if not request.is_given_up:
            self._books.finished(request, outcome)
