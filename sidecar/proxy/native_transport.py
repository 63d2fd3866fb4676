"""The native transport: hands it what it judges by, and answers the calls that it gives away.

A call that is given away
is answered by the same handlers as on the portable transport; one whose request went upstream already is judged by the
same :class:`~sidecar.proxy.infer.ModelInfer`, with the upstream's outcome in place of an upstream.
"""

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from sidecar.config import ServeSettings
from sidecar.errors import OperationError, Reason
from sidecar.proxy import audit
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import status_of_refusal
from sidecar.proxy.load import Load, let_in
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.metrics import CALL_BUCKETS, GATE_BUCKETS, Metrics
from sidecar.proxy.native_calls import HandedContext, metadata_of
from sidecar.proxy.native_counts import OPEN_CONNECTIONS, REFUSED, NativeCounts
from sidecar.proxy.native_room import NativeRoom
from sidecar.proxy.native_tables import bundle_tables, is_judged_natively
from sidecar.proxy.native_tls import NativeCredentials, NativeTls
from sidecar.proxy.processors import usable_processors
from sidecar.proxy.server import send_answer
from sidecar.proxy.transport import Handlers, TransportKind
from sidecar.proxy.unix_sockets import SCHEME, place_for_socket
from sidecar.proxy.upstream import UpstreamOutcome, UpstreamStream, failure_of, failure_without_message, reply_of

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Call, Outcome, Transport

LOOK_SECONDS: Final = 0.5
"""Between two looks at the TLS files, and at whether its threads are alive."""

GOODBYE_SECONDS: Final = 1.0
"""After the last call, for connections to be closed from both sides."""

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


class NativeTransport:
    """See :class:`~sidecar.proxy.transport.Transport`; ``make`` is what ``native_module.load`` gives.

    Raises:
        OperationError: the address cannot be bound.
        InputError: it cannot use a TLS file.
    """

    kind = TransportKind.NATIVE
    version = importlib.metadata.version("gate-sidecar")

    def __init__(
        self,
        make: "type[Transport]",
        settings: ServeSettings,
        credentials: NativeCredentials,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._transport = _bound(make, settings)
        self._tls = NativeTls(self._transport, settings, credentials, metrics)
        self._tables: dict[tuple[ActiveBundle, int], dict[str, Any]] = {}
        self._calls: dict[int, tuple[HandedContext, asyncio.Task[None]]] = {}
        self._loop = asyncio.get_running_loop()
        self.room: Final = NativeRoom(self._transport)
        self._has_stopped = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        metrics.before_reading(NativeCounts(self._transport, metrics).bring)

    @property
    def port(self) -> int:
        """As bound."""
        return self._transport.port

    def judge_by(self, models: ActiveModels) -> None:
        """See :class:`~sidecar.proxy.transport.Transport`; bundles that it does not understand are left to Python."""
        judged = [bundle for bundle in models.bundles.values() if is_judged_natively(bundle, models)]
        rows = models.limit_rows
        self._tables = {
            (bundle, rows): self._tables.get((bundle, rows)) or bundle_tables(bundle, rows) for bundle in judged
        }
        self._transport.activate({bundle.model_name: tables for (bundle, _), tables in self._tables.items()}, models)

    async def start(self, handlers: Handlers) -> None:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        self._handlers = handlers
        self._loop.add_reader(self._transport.fileno(), self._take)
        self._transport.start()
        self._looking = asyncio.create_task(self._keep_looking())

    async def ended(self) -> object:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        stopped = asyncio.create_task(self._has_stopped.wait())
        assert self._looking is not None  # noqa: S101 (nobody waits for what was not started)
        await asyncio.wait((stopped, self._looking), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._has_stopped.is_set():
            self._looking.result()
        return None

    async def stop(self, seconds: float) -> None:
        """See :class:`~sidecar.proxy.transport.Transport`."""
        if self._has_stopped.is_set():
            return
        self._transport.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.room.calls:
                    await asyncio.sleep(0.01)
                # Their ends may be on their way to clients still; a client that is silent is not waited for.
                async with asyncio.timeout(GOODBYE_SECONDS):
                    while self._transport.endings()[OPEN_CONNECTIONS]:
                        await asyncio.sleep(0.01)
        tasks = [task for _, task in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._looking is not None:
            self._looking.cancel()
            self._loop.remove_reader(self._transport.fileno())
        await asyncio.to_thread(self._transport.stop)
        if self._settings.listen.startswith(SCHEME):
            Path(self._settings.listen.removeprefix(SCHEME)).unlink(missing_ok=True)
        self._has_stopped.set()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._tls.look()
            if not self._transport.is_alive():
                raise OperationError("a thread of the native transport has ended; start the sidecar again")

    # Calls.

    def _take(self) -> None:
        for kind, call, message, why in self._transport.take():
            if kind == "started":
                self._begin(call)
            elif (known := self._calls.get(call.key())) is not None:
                self._tell(*known, kind, message, why)

    def _begin(self, call: "Call") -> None:
        key, context = call.key(), HandedContext(call, self._loop)
        task = self._loop.create_task(self._answer(context))
        self._calls[key] = context, task
        task.add_done_callback(lambda _: self._calls.pop(key, None))

    def _tell(
        self, context: HandedContext, task: "asyncio.Task[None]", kind: str, message: bytes | None, why: str | None
    ) -> None:
        if kind == "written":
            context.written()
        elif kind == "cancelled":
            task.cancel()
        elif why in REFUSED:
            # As gRPC's own library does, which ends such a call by itself.
            self._refuse(context, Refusal(REFUSED[why], _text(REFUSED[why], self._settings)))
            task.cancel()
        else:
            context.got(message)

    def _refuse(self, context: HandedContext, refusal: Refusal) -> None:
        context.break_off(status_of_refusal(refusal))
        audit.record_refusal(decision_id(context.call_id, 1), refusal)
        self._metrics.refused(None, refusal.reason)

    async def _answer(self, context: HandedContext) -> None:
        # What was looked at natively is held there.
        let_in(is_request_held=context.call.models is not None)
        reason = Reason.INTERNAL
        try:
            outcome = context.call.outcome
            await (self._handle(context) if outcome is None else self._judge(context, outcome))
            context.end()
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            reason = Reason.STOPPING
            raise
        except Exception:
            _LOGGER.exception("call %s of %s failed", context.call_id, context.call.method)
        finally:
            context.break_off(status_of_refusal(Refusal(reason, "")))

    async def _handle(self, context: HandedContext) -> None:
        details: Any = _Details(context.call.method)
        handler: Any = next(found for each in self._handlers.generic if (found := each.service(details)) is not None)
        if handler.stream_stream is not None:
            await handler.stream_stream(None, context)
        elif handler.unary_unary is not None:
            await context.write(await handler.unary_unary(await _only_message(context), context))
        else:
            async for message in handler.unary_stream(await _only_message(context), context):
                await context.write(message)

    async def _judge(self, context: HandedContext, outcome: "Outcome") -> None:
        call = context.call
        infer = self._handlers.judging(call.models, _Asked(outcome))
        left = context.time_remaining()
        seconds = self._settings.upstream_timeout_seconds if left is None else left
        told = call.request or b"", context.invocation_metadata(), seconds, context.peer()
        await send_answer(context, call.call_id, await infer.answer(call.call_id, *told, age_seconds=call.age))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class _Details:
    """What a handler is asked by; see grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Metadata = ()


async def _only_message(context: HandedContext) -> bytes:
    message = await context.read()
    if not isinstance(message, bytes):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a message")
    return message


class _Asked:
    """An upstream that has been asked already."""

    losses = 0

    def __init__(self, outcome: "Outcome") -> None:
        self._outcome = outcome

    async def call(
        self, _method: str, _request: bytes, _metadata: Metadata, _timeout_seconds: float
    ) -> UpstreamOutcome:
        """What it said."""
        if len(self._outcome) == 3:
            body, initial, trailing = self._outcome
            return reply_of(body, metadata_of(initial), metadata_of(trailing))
        code, details, answered, initial, trailing = self._outcome
        if code == 0:
            return failure_without_message()
        known = _CODE.get(code, grpc.StatusCode.UNKNOWN)
        return failure_of(known, details, answered, metadata_of(initial), metadata_of(trailing))

    def stream(self, _method: str, _metadata: Metadata, _timeout_seconds: float | None) -> UpstreamStream:
        """Streams are not asked natively."""
        raise AssertionError("a call that has been judged natively is no stream")

    async def close(self) -> None:
        """It is nobody's to close."""


def _bound(make: "type[Transport]", settings: ServeSettings) -> "Transport":
    with place_for_socket(settings.listen):
        try:
            return make(
                listen=settings.listen,
                upstream=settings.upstream,
                workers=settings.workers or usable_processors(),
                upstream_connections=settings.upstream_connections,
                upstream_timeout_seconds=settings.upstream_timeout_seconds,
                limit_bytes=settings.limit_bytes,
                limit_held_bytes=settings.limit_held_bytes,
                limit_calls=settings.limit_calls,
                keepalive_seconds=settings.keepalive_seconds,
                refusals={name: _told(reason, settings) for name, reason in REFUSED.items()},
                infer_methods=[MODEL_INFER],
                call_bounds=list(CALL_BUCKETS),
                gate_bounds=list(GATE_BUCKETS),
            )
        except OSError as error:
            raise OperationError(
                f"cannot listen on {settings.listen}: {error.strerror or error}; is another process listening there? "
                "Choose another address with --listen"
            ) from error


def _told(reason: Reason, settings: ServeSettings) -> tuple[int, str]:
    status = status_of_refusal(Refusal(reason, _text(reason, settings)))
    return status.code.value[0], status.details


def _text(reason: Reason, settings: ServeSettings) -> str:
    """What a client is told, beside the reason."""
    load = Load(settings.limit_calls, settings.limit_held_bytes)
    return {
        Reason.TOO_MANY_CALLS: load.too_many_calls,
        Reason.MEMORY_EXHAUSTED: load.memory_exhausted,
        Reason.MESSAGE_TOO_LARGE: f"the message is larger than the limit of {settings.limit_bytes} bytes",
        Reason.SLOW_REQUEST: "the request did not arrive in time; retry later",
        Reason.PYTHON_LANE_FULL: "as many calls wait to be looked into as may; retry later",
    }.get(reason, "")
