"""grpc.health.v1, answered by us: the upstream knows nothing of the bundles (Triton says SERVING of any name).

The empty service is the sidecar as a whole, and so is the inference service under its name; a guarded model's name
is that model behind its bundle. SERVING means that traffic may come.

Source: the gRPC health checking protocol.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from sidecar.errors import CallerError, Reason
from sidecar.protocols.health import ServingStatus, decode_health_request, encode_health_response
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import REASON_KEY, status_of_refusal
from sidecar.proxy.methods import HEALTH_CHECK, HEALTH_WATCH, SERVICE
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.receipts import Receipts

MAX_WATCHERS: Final = 1000
"""At once. Each costs a task and an open stream for as long as its client likes."""

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class HealthHandler(grpc.GenericRpcHandler):
    """Answers Check and Watch by what is known of the readiness; leaves all other methods to other handlers."""

    def __init__(self, readiness: Readiness, metrics: Metrics, receipts: Receipts) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._receipts = receipts
        self._watchers = 0
        self._closing = asyncio.Event()
        self._handlers: Final[dict[str, Any]] = {
            # As streams, so that it is us who read: gRPC would keep any number of requests that never end.
            HEALTH_CHECK: grpc.stream_stream_rpc_method_handler(self._check),
            HEALTH_WATCH: grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for a method; None where it is not ours."""
        return self._handlers.get(handler_call_details.method)

    def close(self) -> None:
        """End all watching: it would go on for as long as calls in flight may."""
        self._closing.set()

    async def _check(self, _: object, context: _Context) -> None:
        status = self._status(await self._service(context))
        if status is ServingStatus.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service, and no gate bundle guards such a model")
        await context.write(encode_health_response(status))

    async def _watch(self, _: object, context: _Context) -> None:
        service = await self._service(context)
        if self._watchers >= MAX_WATCHERS:
            await self._refuse(context, Refusal(Reason.TOO_MANY_CALLS, f"{MAX_WATCHERS} clients watch already"))
        self._watchers += 1
        try:
            async for status in self._statuses(service):
                await context.write(encode_health_response(status))
        finally:
            self._watchers -= 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping")

    async def _statuses(self, service: str) -> AsyncIterator[ServingStatus]:
        """Each status that differs from the one before, the present one first; ends when the sidecar does."""
        said = None
        while not self._closing.is_set():
            changed = self._readiness.changed
            status = self._status(service)
            if status is not said:
                said = status
                yield status
            await _first(changed, self._closing)

    def _status(self, service: str) -> ServingStatus:
        if service in ("", SERVICE.strip("/")):
            serving = self._readiness.ready
        elif self._readiness.guards(service):
            serving = self._readiness.model_ready(service) and not self._readiness.draining
        else:
            return ServingStatus.SERVICE_UNKNOWN
        return ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING

    async def _service(self, context: _Context) -> str:
        request = await self._receipts.read(context)
        if isinstance(request, Refusal):
            await self._refuse(context, request)
        if request is None:
            await self._refuse(context, Refusal(Reason.MALFORMED_REQUEST, "the call ended without a message"))
        try:
            return decode_health_request(request)
        except CallerError as error:
            await self._refuse(context, Refusal(error.reason, error.message))

    async def _refuse(self, context: _Context, refusal: Refusal) -> NoReturn:
        self._metrics.refused(None, refusal.reason)
        status = status_of_refusal(refusal)
        await context.abort(status.code, status.details, ((REASON_KEY, status.reason),))


async def _first(*events: asyncio.Event) -> None:
    """Wait for any of them."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
