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
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from sidecar.config import ServeSettings
from sidecar.errors import OperationError, Reason
from sidecar.proxy import audit
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.answer import Answer
from sidecar.proxy.decision_ids import decision_id
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import status_of_refusal
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.load import let_in
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.metrics import CALL_BUCKETS, GATE_BUCKETS, Metrics
from sidecar.proxy.native_calls import HandedContext
from sidecar.proxy.native_counts import OPEN_CONNECTIONS, REFUSED, NativeCounts
from sidecar.proxy.native_outcome import Asked, said
from sidecar.proxy.native_refusals import NativeRefusals
from sidecar.proxy.native_room import NativeRoom
from sidecar.proxy.native_tables import bundle_tables, is_judged_natively
from sidecar.proxy.native_tls import NativeCredentials, NativeTls
from sidecar.proxy.processors import usable_processors
from sidecar.proxy.transport import Handlers, TransportKind
from sidecar.proxy.unix_sockets import SCHEME, place_for_socket
from sidecar.proxy.upstream import UpstreamFailure, failure_without_message
from sidecar.proxy.workers import MAX_REQUEST_BYTES_ON_THE_LOOP

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Call, Outcome, Transport

LOOK_SECONDS: Final = 0.5
"""Between two looks at the TLS files, and at whether its threads are alive."""

GOODBYE_SECONDS: Final = 1.0
"""After the last call, for connections to be closed from both sides."""

_LOGGER: Final = logging.getLogger("sidecar.proxy")


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
        self._refusals = NativeRefusals(settings)
        self._ready: list[tuple[HandedContext, Answer]] = []
        self._last_judging: tuple[ActiveModels, ModelInfer] | None = None
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
        self._refusals.record(self._transport.refused())
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
            await self._refusals.keep_recording(self._transport.refused())
            if not self._transport.is_alive():
                raise OperationError("a thread of the native transport has ended; start the sidecar again")

    # Calls.

    def _take(self) -> None:
        for kind, call, message, why in self._transport.take():
            if kind == "started":
                self._begin(call)
            elif (known := self._calls.get(call.key())) is not None:
                self._tell(*known, kind, message, why)
        # Together: the first one that leaves wakes a thread that then finds the others.
        for context, answer in self._ready:
            context.answer(answer)
        self._ready.clear()

    def _begin(self, call: "Call") -> None:
        context, outcome = HandedContext(call, self._loop), call.outcome
        try:
            handling = self._handle(context) if outcome is None else self._judge(context, outcome)
        except Exception:  # a defect, met by one call; others wait behind it
            _LOGGER.exception("call %s of %s failed", context.call_id, context.call.method)
            context.break_off(status_of_refusal(Refusal(Reason.INTERNAL, "")))
            return
        if handling is None:
            return
        key, task = call.key(), self._loop.create_task(self._answer(context, handling))
        self._calls[key] = context, task
        task.add_done_callback(lambda _: self._calls.pop(key, None))

    def _tell(
        self, context: HandedContext, task: "asyncio.Task[None]", kind: str, message: bytes | None, why: str | None
    ) -> None:
        if kind == "written":
            context.written()
        elif kind == "cancelled":
            self._loop.call_soon(task.cancel)  # once it has begun, or nobody would count it
        elif why in REFUSED:
            # As gRPC's own library does, which ends such a call by itself.
            self._refuse(context, self._refusals.of(why))
            task.cancel()
        else:
            context.got(message)

    def _refuse(self, context: HandedContext, refusal: Refusal) -> None:
        context.break_off(status_of_refusal(refusal))
        audit.record_refusal(decision_id(context.call_id, 1), refusal)
        self._metrics.refused(None, refusal.reason)

    async def _answer(self, context: HandedContext, handling: Coroutine[Any, Any, None]) -> None:
        # What was looked at natively is held there.
        let_in(is_request_held=context.call.models is not None)
        reason = Reason.INTERNAL
        try:
            await handling
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

    def _judge(self, context: HandedContext, outcome: "Outcome") -> Coroutine[Any, Any, None] | None:
        """What judges an answer that is here; None where that is done."""
        call, request, reply = context.call, context.call.request or b"", said(outcome)
        told = call.call_id, request
        if isinstance(reply, UpstreamFailure) or len(request) > MAX_REQUEST_BYTES_ON_THE_LOOP:
            left = context.time_remaining()
            seconds = self._settings.upstream_timeout_seconds if left is None else left
            metadata, peer = context.invocation_metadata(), context.peer()
            infer = self._handlers.judging(call.models, Asked(reply))
            return _send(context, infer.answer(*told, metadata, seconds, peer, age_seconds=call.age))
        answer = self._judging(call.models).judge(*told, reply, context.peer(), call.age)
        if isinstance(answer, Answer):
            self._ready.append((context, answer))
            return None
        return _send(context, answer)

    def _judging(self, models: ActiveModels) -> ModelInfer:
        """What judges answers that are here; kept, for mostly the next one is judged by the same models."""
        if self._last_judging is None or self._last_judging[0] is not models:
            self._last_judging = models, self._handlers.judging(models, Asked(failure_without_message()))
        return self._last_judging[1]


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


async def _send(context: HandedContext, answering: Coroutine[Any, Any, Answer]) -> None:
    context.answer(await answering)


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
                refusals=NativeRefusals(settings).told(),
                infer_methods=[MODEL_INFER],
                call_bounds=list(CALL_BUCKETS),
                gate_bounds=list(GATE_BUCKETS),
            )
        except OSError as error:
            raise OperationError(
                f"cannot listen on {settings.listen}: {error.strerror or error}; is another process listening there? "
                "Choose another address with --listen"
            ) from error
