"""The portable transport: one grpc.aio handler that takes every method as a stream of bytes.

Identity serialisers keep the client's and the upstream's bytes as they are, unknown fields included. What a
method gets is in :mod:`sidecar.proxy.methods`; what a ModelInfer call gets, in :mod:`sidecar.proxy.infer`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, assert_never

import grpc
import grpc.aio

from sidecar.errors import OperationError, Reason
from sidecar.protocols.open_inference.readiness import encode_server_ready
from sidecar.proxy.decision_ids import CALL_ID_KEY, new_call_id
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import REASON_KEY, Status, status_of_failure, status_of_refusal
from sidecar.proxy.infer import Answer, ModelInfer
from sidecar.proxy.metadata import Metadata, travelling
from sidecar.proxy.methods import Rule, rule_of
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.upstream import Upstream, UpstreamFailure

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_Handler: TypeAlias = Callable[[AsyncIterator[bytes], _Context], Awaitable[None]]

_LOGGER: Final = logging.getLogger("sidecar.proxy")


class ProxyHandler(grpc.GenericRpcHandler):
    """Gives every call, whatever its method, to the rule of its method."""

    def __init__(
        self,
        model_infer: ModelInfer,
        upstream: Upstream,
        readiness: Readiness,
        metrics: Metrics,
        upstream_timeout_seconds: float,
    ) -> None:
        self._model_infer = model_infer
        self._upstream = upstream
        self._readiness = readiness
        self._metrics = metrics
        self._upstream_timeout_seconds = upstream_timeout_seconds

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401
        """The handler for a method; there is one for every name."""
        method = handler_call_details.method

        async def handle(_: AsyncIterator[bytes], context: _Context) -> None:
            await self._handle(method, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _handle(self, method: str, context: _Context) -> None:
        call_id = new_call_id()
        answer = await self._answer(method, call_id, context)
        own = ((CALL_ID_KEY, call_id),)
        await context.send_initial_metadata(answer.initial + own)
        trailing = answer.trailing + own
        if isinstance(answer.result, Status):
            # A tuple: abort refuses other sequences of pairs.
            await context.abort(answer.result.code, answer.result.details, trailing)
        context.set_trailing_metadata(trailing)
        await context.write(answer.result)
...
