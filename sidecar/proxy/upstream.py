"""The model server behind us: unary calls and two-way streams, with bytes in and bytes out.

The outcome of a call or a stream is a value, a reply or a failure; what a failure means to the client is for
:mod:`sidecar.proxy.failure_policy` to say. A fake in memory stands in :mod:`sidecar.proxy.memory_upstream`.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

import grpc
import grpc.aio

from sidecar.errors import Reason
from sidecar.proxy.metadata import MAX_METADATA_BYTES, Metadata, is_sendable, travelling
from sidecar.proxy.methods import RULES, Rule

MAX_RECONNECT_BACKOFF_MS: Final = 2000
"""gRPC's own default of two minutes would keep a restarted model server idle for that long."""

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True)
class UpstreamReply:
    """The upstream answered.

    Args:
        body: the response message.
        initial, trailing: its metadata, as far as it travels on.
    """

    body: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


@dataclasses.dataclass(frozen=True)
class UpstreamFailure:
    """The upstream did not answer, or answered with an error.

    Args:
        reason: UPSTREAM_UNAVAILABLE, UPSTREAM_DEADLINE, or UPSTREAM_ERROR for any other status; UPSTREAM_MALFORMED
            for success without a message; MALFORMED_REQUEST where the client's metadata cannot be sent.
        code: the gRPC status of the call to the upstream.
        details: its text.
        answered: whether the text is the upstream's own; otherwise gRPC made it up on our side, and it may
            show the upstream's address.
        initial, trailing: the upstream's metadata, as far as it travels on.
    """

    reason: Reason
    code: grpc.StatusCode
    details: str
    answered: bool
    initial: Metadata = ()
    trailing: Metadata = ()


UpstreamOutcome: TypeAlias = UpstreamReply | UpstreamFailure


@dataclasses.dataclass(frozen=True)
class UpstreamEnded:
    """The upstream ended a stream without an error; ``trailing`` is its metadata, as far as it travels on."""

    trailing: Metadata = ()


UpstreamEnd: TypeAlias = UpstreamEnded | UpstreamFailure


class UpstreamStream(Protocol):
    """A two-way stream. Sending and receiving go on at the same time, each from one task."""

    async def initial(self) -> Metadata:
        """The upstream's initial metadata, as far as it travels on; waits for it."""

    async def send(self, message: bytes) -> None:
        """Send a message, as soon as the upstream takes it. Where the stream is over, receiving tells so."""

    async def half_close(self) -> None:
        """Say that no more messages follow."""

    async def receive(self) -> bytes | UpstreamEnd:
        """The next message, or how the stream ended. Cancelling this cancels the stream."""

    def cancel(self) -> None:
        """End the stream, where it is not over."""


class Upstream(Protocol):
    """A model server. Implemented over gRPC, and in memory."""

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Call one unary method. Cancelling the task cancels the call."""

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> UpstreamStream:
        """Open a two-way stream; it ends after the timeout, where there is one."""

    async def close(self) -> None:
        """End all calls."""


_REASON: Final[dict[grpc.StatusCode, Reason]] = {
    grpc.StatusCode.UNAVAILABLE: Reason.UPSTREAM_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.UPSTREAM_DEADLINE,
}


class GrpcUpstream:
    """A model server at a ``host:port``. The connection is made with the first call and remade when lost."""

    def __init__(self, target: str, limit_bytes: int) -> None:
        self._channel = grpc.aio.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", limit_bytes),
                ("grpc.max_send_message_length", -1),  # what is sent was received, within the limit
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
                # The upstream stands beside us: neither a proxy nor a policy from DNS has a say in it.
                ("grpc.enable_http_proxy", 0),
                ("grpc.service_config_disable_resolution", 1),
                ("grpc.enable_retries", 0),
            ],
        )
        self._methods: Final[dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]] = {
            method: self._channel.unary_unary(method)
            for method, rule in RULES.items()
            if rule in (Rule.GATED, Rule.PASSED)
        }
        self._streams: Final[dict[str, grpc.aio.StreamStreamMultiCallable[bytes, bytes]]] = {
            method: self._channel.stream_stream(method) for method, rule in RULES.items() if rule is Rule.GATED_STREAM
        }

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Call one of the methods that are gated or passed."""
        if (refused := _unsendable(metadata)) is not None:
            return refused
        call = self._methods[method](request, metadata=metadata, timeout=timeout_seconds)
        try:
            body = await call
            initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            initial, trailing = error.initial_metadata(), error.trailing_metadata()
            return _failed(self._channel, error.code(), error.details(), initial, trailing)
        if not isinstance(body, bytes):
            text = "the call ended with status OK and without a message"
            return _failure(Reason.UPSTREAM_MALFORMED, grpc.StatusCode.INTERNAL, text)
        return UpstreamReply(body, _passing_on(initial), _passing_on(trailing))

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> UpstreamStream:
        """Open a stream of a method whose stream is gated."""
        if (refused := _unsendable(metadata)) is not None:
            return _RefusedStream(refused)
        return _GrpcStream(self._channel, self._streams[method](metadata=metadata, timeout=timeout_seconds))

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        await self._channel.close()


class _GrpcStream:
    """A stream over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, call: "grpc.aio.StreamStreamCall[bytes, bytes]") -> None:
        self._channel = channel
        self._call = call

    async def initial(self) -> Metadata:
        """Where the stream fails before there is any, none."""
        return _passing_on(await self._call.initial_metadata() or ())

    async def send(self, message: bytes) -> None:
        """Errors are the receiving side's to tell."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(message)

    async def half_close(self) -> None:
        """Errors are the receiving side's to tell."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def receive(self) -> bytes | UpstreamEnd:
        """The next message, or how the stream ended."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError:
            message = None
        if isinstance(message, bytes):
            return message
        call = self._call
        code, trailing = await call.code(), await call.trailing_metadata()
        if code is grpc.StatusCode.OK:
            return UpstreamEnded(_passing_on(trailing or ()))
        return _failed(self._channel, code, await call.details(), await call.initial_metadata(), trailing)

    def cancel(self) -> None:
        """End the stream, where it is not over."""
        self._call.cancel()


class _RefusedStream:
    """A stream that failed before it reached the upstream."""

    def __init__(self, failure: UpstreamFailure) -> None:
        self._failure = failure

    async def initial(self) -> Metadata:
        """None."""
        return ()

    async def send(self, message: bytes) -> None:
        """To nobody."""

    async def half_close(self) -> None:
        """To nobody."""

    async def receive(self) -> bytes | UpstreamEnd:
        """The failure."""
        return self._failure

    def cancel(self) -> None:
        """It is over."""


def _unsendable(metadata: Metadata) -> UpstreamFailure | None:
    for key, value in metadata:
        if not is_sendable(value):
            text = f"the value of metadata {key!r} has characters that gRPC does not allow; use a name in -bin"
            return _failure(Reason.MALFORMED_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, text)
    return None


def _failed(
    channel: grpc.aio.Channel,
    code: grpc.StatusCode,
    details: str | None,
    initial: Iterable[tuple[str, str | bytes]] | None,
    trailing: Iterable[tuple[str, str | bytes]] | None,
) -> UpstreamFailure:
    """A failure that gRPC reports."""
    return UpstreamFailure(
        reason=_REASON.get(code, Reason.UPSTREAM_ERROR),
        code=code,
        details=details or "",
        answered=channel.get_state() is grpc.ChannelConnectivity.READY,
        initial=_passing_on(initial or ()),
        trailing=_passing_on(trailing or ()),
    )


def _failure(reason: Reason, code: grpc.StatusCode, details: str) -> UpstreamFailure:
    """A failure that was noticed on our side."""
    return UpstreamFailure(reason, code, details, answered=False)


def _passing_on(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """The upstream's metadata for the client. What gRPC does not let us send is left out, and logged."""
    kept = travelling(metadata)
    lost = [key for key, value in kept if not is_sendable(value)]
    if not lost:
        return kept
    _LOGGER.warning("upstream metadata %s has characters that gRPC does not allow: not passed on", lost)
    return tuple((key, value) for key, value in kept if is_sendable(value))
