"""One ModelStreamInfer call around the request path: requests one way, their responses the other.

Every request is admitted on its own and goes upstream under an id of ours; every response is judged by the plan of
the request that it belongs to. What is refused becomes an error within the stream, and the stream goes on. The n-th
message that the client gets has the decision id ``<call id>/<n>``. Like its unary sister this fails closed, and does
not know the transport on the client's side.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import grpc

from sidecar.errors import Reason
from sidecar.protocols.open_inference.stream import StreamedResponse, with_own_id
from sidecar.proxy.active_bundle import Registry
from sidecar.proxy.correlation import Correlation, Phase
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.failure_policy import REASON_KEY, Status, status_of_failure, status_of_refusal
from sidecar.proxy.load import Lease, Load
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Admission
from sidecar.proxy.stream_client import ClientStream, Replies, StreamEnd
from sidecar.proxy.stream_path import (
    ClientSide,
    StreamedAnswer,
    admit_streamed,
    client_side,
    judge_streamed,
    read_streamed,
    refused,
)
from sidecar.proxy.streamed_request import StreamedRequest
from sidecar.proxy.upstream import Upstream, UpstreamEnd, UpstreamEnded, UpstreamFailure, UpstreamStream
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_Received = TypeVar("_Received")


class ModelStreamInfer:
    """Answers ModelStreamInfer calls, each request by the bundles that are active when it arrives.

    ``silence_seconds`` is how long the upstream may be silent while requests are in flight; ``is_served``, where given,
    asks whether the upstream has a guarded model at the moment.
    """

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        workers: Workers,
        load: Load,
        silence_seconds: float,
        is_served: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._books = Bookkeeping(metrics)
        self._workers = workers
        self._load = load
        self._silence_seconds = silence_seconds
        self._is_served = is_served
        self._calls: set[_Call] = set()

    def drain(self) -> None:
        """Take no more requests: each stream ends once those in flight are answered."""
        for call in self._calls:
            call.drain()

    async def answer(
        self, call_id: str, client: ClientStream, metadata: Metadata, timeout_seconds: float | None
    ) -> StreamEnd:
        """Answer a stream to its end; ``timeout_seconds`` is what the client's deadline leaves, where it set one."""
        lease = self._load.open(0)
        if isinstance(lease, Refusal):
            self._books.refused(decision_id(call_id, 1), lease)
            return StreamEnd(status_of_refusal(lease), trailing=((REASON_KEY, lease.reason),))
        call = _Call(
            call_id=call_id,
            client=client,
            metadata=metadata,
            timeout_seconds=timeout_seconds,
            silence_seconds=self._silence_seconds,
            is_served=self._is_served,
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
        metadata: Metadata,
        timeout_seconds: float | None,
        silence_seconds: float,
        is_served: Callable[[str], Awaitable[bool]] | None,
        registry: Registry,
        upstream: Upstream,
        books: Bookkeeping,
        workers: Workers,
        load: Load,
        lease: Lease,
    ) -> None:
        self._call_id = call_id
        self._client = client
        self._metadata = metadata
        self._timeout_seconds = timeout_seconds
        self._silence_seconds = silence_seconds
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
        self._reading: asyncio.Timeout | None = None
        self._silence: asyncio.Timeout | None = None
        self._replies = Replies(call_id, client)

    async def run(self) -> StreamEnd:
        """Move requests and responses until either side ends the stream."""
        taking = asyncio.create_task(self._take_requests())
        giving = asyncio.create_task(self._give_responses())
        try:
            await asyncio.wait((taking, giving), return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                taking.result()
            return self._conclude(await giving)
        except asyncio.CancelledError:
            self._abandon(RequestOutcome.CANCELLED)
            raise
        except Exception as error:
            _LOGGER.exception("stream %s failed", self._call_id)
            return self._fail(Refusal(Reason.INTERNAL, repr(error)))
        finally:
            await self._stop(taking, giving)

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
            await self._take(message)
            while not self._requests.has_room:
                self._over.clear()
                await self._over.wait()
        self._half_closed = True
        if not self._opened.done():
            self._opened.set_result(None)
        elif (stream := self._opened.result()) is not None:
            await stream.half_close()

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
            bundle, seconds = admission.plan.bundle, exchange.gate_seconds
            request = StreamedRequest(exchange.started, bundle, seconds, plan=admission.plan, side=side, lease=lease)
            upstream_id = self._requests.add(request)
            stack.pop_all()  # from here on it is the request's
        if self._requests.in_flight == 1:  # others have been waited for before: one more is no sign of life
            self._expect()
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
            text = f"no response for {self._silence_seconds:g} s while requests were in flight"
            return UpstreamFailure(Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, text, answered=False)
        return received

    async def _within_silence(self, receiving: Awaitable[_Received]) -> _Received:
        async with asyncio.timeout(None) as silence:
            self._silence = silence
            self._expect()
            try:
                return await receiving
            finally:
                self._silence = None

    def _expect(self) -> None:
        """From now on the upstream may be silent for its time, or for ever where nothing is in flight."""
        if self._silence is not None:
            now = asyncio.get_running_loop().time()
            self._silence.reschedule(now + self._silence_seconds if self._requests.in_flight else None)

    async def _give(self, response: StreamedResponse) -> None:
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
                # Nobody knows whether more is to come: it counts as answered.
                match.request.lease.close()
            self._finish(match.over)
            self._over.set()

    async def _judge_and_send(self, request: StreamedRequest, response: StreamedResponse) -> None:
        with self._holding(len(response.content)) as too_much:
            refusal = too_much or await self._understood(request, response)
            async with self._replies.turn() as decision:
                if refusal is not None:
                    answer = refused(refusal, request.side, response.is_final)
                    self._books.refused(decision, refusal)
                else:
                    answer = await self._workers.judge(request.plan, self._judge, request, response, decision)
                request.saw(answer.outcome)
                await self._replies.send(answer.message)

    async def _understood(self, request: StreamedRequest, response: StreamedResponse) -> Refusal | None:
        """What an error of the upstream's means: of a model that is gone by now, that the upstream is unavailable."""
        if not response.error or self._is_served is None or request.bundle is None:
            return None
        if await self._is_served(request.bundle.model_name):
            return None
        return Refusal(Reason.UPSTREAM_UNAVAILABLE, response.error, request.bundle)

    @contextlib.contextmanager
    def _holding(self, count: int) -> Iterator[Refusal | None]:
        """While some bytes of the upstream's are here; why they must not be, where that would be too many."""
        refusal = self._lease.hold(count)
        try:
            yield refusal
        finally:
            if refusal is None:
                self._lease.release(count)

    def _judge(self, request: StreamedRequest, response: StreamedResponse, decision: str) -> StreamedAnswer:
        """Judge, and write down what was seen: also where the client gives up meanwhile."""
        try:
            answer = request.timed(judge_streamed, request.plan, request.side, response)
        except Exception as error:
            _LOGGER.exception("decision %s failed", decision)
            why = Refusal(Reason.INTERNAL, repr(error), request.bundle)
            answer = refused(why, request.side, response.is_final)
        if answer.events is not None:
            self._books.judged(request.plan, decision, answer.events)
        if answer.refusal is not None:
            self._books.refused(decision, answer.refusal)
        return answer

    async def _refuse(self, refusal: Refusal, answer: StreamedAnswer) -> None:
        """Send an error that stands for no response to a request."""
        async with self._replies.turn() as decision:
            self._books.refused(decision, refusal)
            await self._replies.send(answer.message)

    # The end.

    def _conclude(self, end: UpstreamEnd) -> StreamEnd:
        if isinstance(end, UpstreamFailure):
            refusal = Refusal(end.reason, f"{end.code.name}: {end.details}")
            return self._fail(refusal, status_of_failure(end), end.initial, end.trailing)
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
            request.lease.close()
            self._books.finished(request, outcome)
        self._finish(open_ended)

    def _finish(self, requests: Sequence[StreamedRequest]) -> None:
        for request in requests:
            request.lease.close()
            self._books.finished(request, request.outcome)
