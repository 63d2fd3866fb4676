"""Server reflection, answered by us: the services that clients find here, as far as we know their messages.

No model server offers reflection; what is said here is ours, and the same whatever stands behind us.

Source: the gRPC server reflection protocol.
"""

import asyncio
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from sidecar.errors import CallerError
from sidecar.protocols.reflection import (
    HEALTH_MESSAGES,
    INFERENCE_MESSAGES,
    REFLECTION_MESSAGES,
    Catalogue,
    Method,
    Service,
)
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import REASON_KEY, status_of_refusal
from sidecar.proxy.methods import DENIED, REFLECTION, REFLECTION_ALPHA, RULES, SERVICE, UNSUPPORTED
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.undisturbed import undisturbed

IDLE_SECONDS: Final = 10.0
"""A stream without a question for this long is ended, so that forgotten ones neither pile up nor hold up a stop."""

_STREAMED: Final = Method("ModelStreamInfer", "ModelInferRequest", "ModelStreamInferResponse", True, True)

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


def exposed_services() -> tuple[Service, ...]:
    """What is described: no method that is denied here, and none whose messages we do not know."""
    package, _, name = SERVICE.strip("/").partition(".")
    return (
        Service("open_inference.proto", package, name, INFERENCE_MESSAGES, _inference_methods()),
        Service(
            "grpc/health/v1/health.proto",
            "grpc.health.v1",
            "Health",
            HEALTH_MESSAGES,
            (
                Method("Check", "HealthCheckRequest", "HealthCheckResponse"),
                Method("Watch", "HealthCheckRequest", "HealthCheckResponse", server_streams=True),
            ),
        ),
        _reflection("v1"),
        _reflection("v1alpha"),
    )


def _inference_methods() -> tuple[Method, ...]:
    known = INFERENCE_MESSAGES.message_types_by_name
    names = [m.removeprefix(SERVICE) for m in RULES if m.startswith(SERVICE) and _is_open(m)]
    unary = (Method(name, f"{name}Request", f"{name}Response") for name in names)
    streamed = (_STREAMED,) if _STREAMED.name in names else ()
    return (*(method for method in unary if method.asks in known), *streamed)


def _is_open(method: str) -> bool:
    return RULES[method] not in (*DENIED, *UNSUPPORTED)


def _reflection(version: str) -> Service:
    method = Method("ServerReflectionInfo", "ServerReflectionRequest", "ServerReflectionResponse", True, True)
    file = f"grpc/reflection/{version}/reflection.proto"
    return Service(file, f"grpc.reflection.{version}", "ServerReflection", REFLECTION_MESSAGES, (method,))


class ReflectionHandler(grpc.GenericRpcHandler):
    """Answers reflection; leaves all other methods to other handlers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._catalogue = Catalogue(exposed_services())
        self._handler: Any = grpc.stream_stream_rpc_method_handler(self._info)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for a method; None where it is not ours."""
        return self._handler if handler_call_details.method in (REFLECTION, REFLECTION_ALPHA) else None

    async def _info(self, _: object, context: _Context) -> None:
        while True:
            try:
                request = await asyncio.wait_for(undisturbed(context.read()), IDLE_SECONDS)
            except TimeoutError:
                return
            if not isinstance(request, bytes):  # the client has asked all it wanted
                return
            try:
                answer = self._catalogue.answer(request)
            except CallerError as error:
                self._metrics.refused(None, error.reason)
                status = status_of_refusal(Refusal(error.reason, error.message))
                await context.abort(status.code, status.details, ((REASON_KEY, status.reason),))
            await context.write(answer)
