"""The portable transport: one grpc.aio handler that takes every method as a stream of bytes.

Identity serialisers keep the client's and the upstream's bytes as they are, unknown fields included. What a
method gets is said in :mod:`sidecar.proxy.methods`, what a ModelInfer call gets in :mod:`sidecar.proxy.infer`, and
what a stream of them gets in :mod:`sidecar.proxy.stream_infer`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from sidecar.config import UpstreamWords
from sidecar.errors import OperationError, Reason
from sidecar.protocols.open_inference.readiness import encode_server_ready
from sidecar.protocols.torchserve.messages import encode_ping_response
from sidecar.proxy import audit
from sidecar.proxy.answer import Answer
from sidecar.proxy.decision_ids import CALL_ID_KEY, DECISION_KEY, decision_id, new_call_id
from sidecar.proxy.dialects import DIALECTS
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.failure_policy import REASON_KEY, Status, as_told, status_of_failure, status_of_refusal
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.load import Load
from sidecar.proxy.metadata import MAX_METADATA_BYTES, Metadata, travelling
from sidecar.proxy.methods import PING, RULES, SERVER_READY, TORCHSERVE_SERVER_READY, Rule, rule_of
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.native_calls import CONNECTION, HandedContext
from sidecar.proxy.prediction_stream import PredictionStream
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.receipts import Receipts
from sidecar.proxy.stream_client import StreamEnd
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.torchserve_failures import is_torchserves, retold
from sidecar.proxy.undisturbed import undisturbed
from sidecar.proxy.unix_sockets import place_for_socket
from sidecar.proxy.upstream import Upstream, UpstreamFailure

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

MAX_TIMEOUT_SECONDS: Final = 1e9
"""gRPC's own clock overflows at about ten times this: a client's "for ever" would have passed already."""

KEEPALIVE_TIMEOUT_MS: Final = 10_000
"""How long a client may take to answer that."""

MIN_CLIENT_PING_MS: Final = 5_000
"""A client that asks *us* more often loses its connection."""

_READINESS: Final[Mapping[str, Callable[[bool], bytes]]] = {
    SERVER_READY: encode_server_ready,
    TORCHSERVE_SERVER_READY: encode_server_ready,
    PING: encode_ping_response,
}
"""How each method that asks for it is told whether we are ready."""

_ENDED_EARLY: Final = Refusal(Reason.MESSAGE_TOO_LARGE, "a message over the limit, or given up on before it was whole")
"""Of a call that gRPC ends while its message is awaited: with RESOURCE_EXHAUSTED, for there was one, over the limit. Or
the client gave up before its message was whole; gRPC does not tell these two apart.
"""

_LOGGER: Final = logging.getLogger("sidecar.proxy")


class ProxyHandler(grpc.GenericRpcHandler):
    """Gives every call to the rule of its method; ``upstream_timeout_seconds`` is for calls without a deadline,
    ``words`` says which of the upstream's error texts go to clients.
    """

    def __init__(
        self,
        model_infer: ModelInfer,
        model_stream_infer: ModelStreamInfer,
        prediction_stream: PredictionStream,
        upstream: Upstream,
        readiness: Readiness,
        metrics: Metrics,
        load: Load,
        receipts: Receipts,
        upstream_timeout_seconds: float,
        words: UpstreamWords = UpstreamWords.CALLERS,
    ) -> None:
        self._model_infer = model_infer
        self._model_stream_infer = model_stream_infer
        self._prediction_stream = prediction_stream
        self._upstream = upstream
        self._readiness = readiness
        self._metrics = metrics
        self._load = load
        self._receipts = receipts
        self._upstream_timeout_seconds = upstream_timeout_seconds
        self._words = words
        self._handlers = {method: self._handler(method) for method in RULES}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for a method; there is one for every name."""
        method = handler_call_details.method
        return self._handlers.get(method) or self._handler(method)

    def _handler(self, method: str) -> Any:
        async def handle(_: AsyncIterator[bytes], context: _Context) -> None:
            await self._handle(method, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _handle(self, method: str, context: _Context) -> None:
        call_id = _call_id(context)
        rule = rule_of(method)
        if rule is Rule.GATED_STREAM:
            await self._answer_stream(call_id, context)
            return
        request = b""
        if rule in (Rule.GATED, Rule.PASSED, Rule.GATED_PREDICTION_STREAM):
            # A second message is not looked at, as gRPC servers do for unary methods.
            try:
                message = await self._receipts.read(context)
            except asyncio.CancelledError:
                self._count_without_message(rule, call_id, _ENDED_EARLY)
                raise
            if message is None:
                await self._end_without_message(rule, call_id, context)
                return
            if isinstance(message, Refusal):
                await send_answer(context, call_id, self._turn_away(rule, call_id, message))
                return
            request = message
        if rule is Rule.GATED_PREDICTION_STREAM:
            await self._answer_predictions(call_id, request, context)
            return
        with self._load.call(len(request)) as refusal:
            if refusal is not None:
                answer = self._turn_away(rule, call_id, refusal)
            else:
                answer = await self._answer_safely(method, rule, call_id, request, context)
            await send_answer(context, call_id, answer)

    def _turn_away(self, rule: Rule, call_id: str, refusal: Refusal) -> Answer:
        """Refuse a call before its request is looked at."""
        self._count_refused(rule, refusal)
        return _refuse(call_id, refusal)

    def _count_refused(self, rule: Rule, refusal: Refusal) -> None:
        self._metrics.refused(None, refusal.reason)
        if rule in (Rule.GATED, Rule.GATED_PREDICTION_STREAM):
            self._metrics.request_finished(None, RequestOutcome.REFUSED, 0.0, 0.0)

    async def _answer_stream(self, call_id: str, context: _Context) -> None:
        client = _GrpcClient(call_id, context)
        metadata, timeout_seconds = _metadata(context), _remaining(context)
        end = await self._model_stream_infer.answer(call_id, client, metadata, timeout_seconds, _connection(context))
        await client.end(end)

    async def _answer_predictions(self, call_id: str, request: bytes, context: _Context) -> None:
        client = _GrpcClient(call_id, context)
        told = _metadata(context), self._timeout(context), _connection(context)
        await client.end(await self._prediction_stream.answer(call_id, client, request, *told))

    async def _answer_safely(self, method: str, rule: Rule, call_id: str, request: bytes, context: _Context) -> Answer:
        try:
            return await self._answer(method, rule, call_id, request, context)
        except Exception as error:
            _LOGGER.exception("call %s of %s failed", call_id, method)
            self._metrics.refused(None, Reason.INTERNAL)
            return _refuse(call_id, Refusal(Reason.INTERNAL, repr(error)))

    async def _answer(self, method: str, rule: Rule, call_id: str, request: bytes, context: _Context) -> Answer:
        match rule:
            case Rule.GATED:
                told = _metadata(context), self._timeout(context), _connection(context)
                return await self._model_infer.answer(call_id, request, *told, DIALECTS[method])
            case Rule.GATED_STREAM | Rule.GATED_PREDICTION_STREAM:
                raise AssertionError("a stream has no single answer")
            case Rule.PASSED:
                return await self._pass(method, request, context)
            case Rule.ANSWERED:
                return Answer(_READINESS[method](self._readiness.ready))
            case (
                Rule.DENIED_REPOSITORY_CONTROL
                | Rule.DENIED_SHARED_MEMORY
                | Rule.DENIED_SERVER_SETTINGS
                | Rule.DENIED_PREDICTION_STREAM
            ):
                self._metrics.denied(rule)
                text = f"{method} could change what the gates guard, or hide tensors from them"
                return _refuse(call_id, Refusal(Reason.METHOD_DENIED, text))
            case Rule.UNSUPPORTED_UNKNOWN:
                self._metrics.denied(rule)
                return _refuse(
                    call_id, Refusal(Reason.METHOD_UNSUPPORTED, f"{method} is not spoken here; use ModelInfer")
                )

    async def _pass(self, method: str, request: bytes, context: _Context) -> Answer:
        outcome = await self._upstream.call(method, request, travelling(_metadata(context)), self._timeout(context))
        if isinstance(outcome, UpstreamFailure):
            outcome = retold(outcome, len(request)) if is_torchserves(method) else as_told(outcome, self._words)
            status = status_of_failure(outcome)
            self._metrics.refused(None, status.reason)
            return Answer(status, outcome.initial, (*outcome.trailing, (REASON_KEY, status.reason)))
        return Answer(outcome.body, outcome.initial, outcome.trailing)

    async def _end_without_message(self, rule: Rule, call_id: str, context: _Context) -> None:
        refusal = Refusal(Reason.MALFORMED_REQUEST, "the call ended without a message")
        try:
            await send_answer(context, call_id, _refusal_answer(call_id, refusal))
        except grpc.aio.AbortError:
            raise
        except (asyncio.CancelledError, Exception):
            refusal = _ENDED_EARLY
            raise
        finally:
            self._count_without_message(rule, call_id, refusal)

    def _count_without_message(self, rule: Rule, call_id: str, refusal: Refusal) -> None:
        audit.record_refusal(decision_id(call_id, 1), refusal)
        self._count_refused(rule, refusal)

    def _timeout(self, context: _Context) -> float:
        """Seconds: what is left of the client's deadline, where it set one."""
        remaining = _remaining(context)
        return self._upstream_timeout_seconds if remaining is None else remaining


class _GrpcClient:
    """The client's side of a stream."""

    def __init__(self, call_id: str, context: _Context) -> None:
        self._own: Metadata = ((CALL_ID_KEY, call_id),)
        self._context = context
        self._opened = False

    async def read(self) -> bytes | None:
        """The next message, or None where no more follow.

        A message over the limit looks like the end, too: gRPC ends the call with RESOURCE_EXHAUSTED and cancels us.
        """
        message = await undisturbed(self._context.read())
        return message if isinstance(message, bytes) else None

    async def write(self, message: bytes, initial: Metadata) -> None:
        """Send a message. With the first one the initial metadata goes out."""
        await self._open(initial)
        await undisturbed(self._context.write(message))

    async def end(self, end: StreamEnd) -> None:
        """End the stream."""
        await self._open(end.initial)
        trailing = end.trailing + self._own
        if end.status is None:
            self._context.set_trailing_metadata(trailing)
        else:
            await self._context.abort(end.status.code, end.status.details, trailing)

    async def _open(self, initial: Metadata) -> None:
        if not self._opened:
            self._opened = True
            await self._context.send_initial_metadata(initial + self._own)


def bind_server(
    listen: str,
    limit_bytes: int,
    keepalive_seconds: float,
    credentials: grpc.ServerCredentials | None = None,
) -> tuple[grpc.aio.Server, int]:
    """A server bound to an address, not started yet, and its port.

    Args:
        listen: ``host:port``, or ``unix:/path``; then the port means nothing.
        limit_bytes: the largest request.
        keepalive_seconds: after that long a silent client is asked whether it is still there.
        credentials: for TLS; None for plaintext.

    Raises:
        OperationError: the address cannot be bound, for instance because another process listens there.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit_bytes),
            ("grpc.max_send_message_length", -1),  # what is sent was received, within the limit
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            # Two servers on one port would share its connections silently.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", round(1000 * keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # gRPC's own five minutes would end connections of clients that ask more often, or while nothing is asked.
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_CLIENT_PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )
    with place_for_socket(listen):
        try:
            if credentials is None:
                return server, server.add_insecure_port(listen)
            return server, server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise OperationError(
                f"cannot listen on {listen}: is another process listening there? Choose another address with --listen"
            ) from error


def _remaining(context: _Context) -> float | None:
    """Seconds that the client's deadline leaves; None where it set none."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else min(remaining, MAX_TIMEOUT_SECONDS)


def _metadata(context: _Context) -> Metadata:
    return tuple([(key, value) for key, value in context.invocation_metadata() or ()])


def _connection(context: _Context) -> str | None:
    """The client's connection by its address and port, or by the transport's own number for it; None where gRPC knows
    none, on Unix sockets.
    """
    peer: str = context.peer()
    return peer if peer.startswith(("ipv4:", "ipv6:", CONNECTION)) else None


def _call_id(context: _Context) -> str:
    """The transport's own, where it has named the call already."""
    return context.call_id if isinstance(context, HandedContext) else new_call_id()


def _refuse(call_id: str, refusal: Refusal) -> Answer:
    audit.record_refusal(decision_id(call_id, 1), refusal)
    return _refusal_answer(call_id, refusal)


def _refusal_answer(call_id: str, refusal: Refusal) -> Answer:
    own = ((DECISION_KEY, decision_id(call_id, 1)), (REASON_KEY, refusal.reason))
    return Answer(status_of_refusal(refusal), (), own)


async def send_answer(context: _Context, call_id: str, answer: Answer) -> None:
    """Send a unary answer, and with it the call's id."""
    own = ((CALL_ID_KEY, call_id),)
    await context.send_initial_metadata(answer.initial + own)
    if isinstance(answer.result, Status):
        # A tuple: abort refuses other sequences of pairs.
        await context.abort(answer.result.code, answer.result.details, answer.trailing + own)
    else:
        context.set_trailing_metadata(answer.trailing + own)
        await undisturbed(context.write(answer.result))
