"""The model server behind us: unary calls and two-way streams, with bytes in and bytes out.

The outcome of a call or a stream is a value, a reply or a failure; what a failure means to the client is for
:mod:`sidecar.proxy.failure_policy` to say. A fake in memory stands in :mod:`sidecar.proxy.memory_upstream`.
"""

import asyncio
import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

import grpc
import grpc.aio

from sidecar.config import DEFAULT_KEEPALIVE_SECONDS
from sidecar.errors import Reason
from sidecar.proxy.channels import Line, Lines
from sidecar.proxy.metadata import MAX_METADATA_BYTES, Metadata, is_sendable, travelling
from sidecar.proxy.tls import Credentials, channel_credentials
from sidecar.proxy.undisturbed import answer_of, end, undisturbed

CREDENTIALS_INTERVAL_SECONDS: Final = 1.0
"""How often, at most, the TLS files are looked at."""

KEEPALIVE_TIMEOUT_MS: Final = 10_000
"""How long the upstream may take to answer that; then its connection is remade."""

INITIAL_RECONNECT_BACKOFF_MS: Final = 200
"""The pause before the second try to connect; it grows from try to try."""

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
        """End the stream, where it is not over. Always to be called in the end: it gives back what the stream took."""


class UnaryUpstream(Protocol):
    """A model server, as far as it is asked one question at a time."""

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Call one unary method. Cancelling the task cancels the call."""

    @property
    def losses(self) -> int:
        """How often a connection was lost. After each, it may be another server that answers."""


class Upstream(UnaryUpstream, Protocol):
    """A model server. Implemented over gRPC, and in memory."""

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> UpstreamStream:
        """Open a two-way stream; it ends after the timeout, where there is one."""

    async def close(self) -> None:
        """End all calls."""


_BROKEN_OFF: Final = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What grpc.aio says of a stream whose connection broke while a message was under way."""

_OF_A_CONNECTION: Final = re.compile(
    r"recvmsg|sendmsg|socket|stream removed|transport|endpoint|connect|goaway|keepalive|\bping\b|handshake|all calls"
    r"|ipv[46]:|unix:|resol|dns|channel",
    re.IGNORECASE,
)
"""In our own gRPC's words about a connection that broke. By the time they are read the next connection may be ready,
so its state alone does not tell whose words they are. A text of the upstream's with one of these stays in the log."""

_REASON: Final[dict[grpc.StatusCode, Reason]] = {
    grpc.StatusCode.UNAVAILABLE: Reason.UPSTREAM_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.UPSTREAM_DEADLINE,
}


class GrpcUpstream:
    """A model server at an address, asked over one connection or more.

    Args:
        target: ``host:port``, or ``unix:/path``.
        limit_bytes: the largest answer.
        credentials: for TLS; None for plaintext.
        server_name: that the upstream's certificate must be for; None for the host in ``target``.
        connections: how many.
        keepalive_seconds: after that long a silent upstream with calls in flight is asked whether it is still there.
    """

    def __init__(
        self,
        target: str,
        limit_bytes: int,
        credentials: Credentials | None = None,
        server_name: str | None = None,
        connections: int = 1,
        keepalive_seconds: float = DEFAULT_KEEPALIVE_SECONDS,
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._look_again_at = 0.0
        self._options: Final[list[tuple[str, str | int]]] = [
            ("grpc.max_receive_message_length", limit_bytes),
            ("grpc.max_send_message_length", -1),  # what is sent was received, within the limit
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            # Only while calls are in flight: servers end connections on which too much is asked without any.
            ("grpc.keepalive_time_ms", round(1000 * keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.initial_reconnect_backoff_ms", INITIAL_RECONNECT_BACKOFF_MS),
            ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
            # Channels would share one connection otherwise.
            ("grpc.use_local_subchannel_pool", 1),
            # The upstream stands beside us: neither a proxy nor a policy from DNS has a say in it.
            ("grpc.enable_http_proxy", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.enable_retries", 0),
        ]
        if server_name is not None:
            self._options.append(("grpc.ssl_target_name_override", server_name))
        self._lines = Lines(self._connect, connections)

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        return grpc.aio.secure_channel(self._target, channel_credentials(self._credentials), options=self._options)

    def _look_at_credentials(self) -> None:
        """Now and then, with a call: readiness calls every second or so."""
        now = time.monotonic()
        if self._credentials is not None and now >= self._look_again_at:
            self._look_again_at = now + CREDENTIALS_INTERVAL_SECONDS
            if self._credentials.refresh():
                self._lines.replace()

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Call one of the methods that are gated or passed."""
        if (refused := _unsendable(metadata)) is not None:
            return refused
        self._look_at_credentials()
        line = self._lines.take()
        try:
            return await _outcome(line, method, request, metadata, timeout_seconds)
        finally:
            self._lines.give_back(line)

    def stream(self, method: str, metadata: Metadata, timeout_seconds: float | None) -> UpstreamStream:
        """Open a stream of a method whose stream is gated."""
        if (refused := _unsendable(metadata)) is not None:
            return _RefusedStream(refused)
        self._look_at_credentials()
        line = self._lines.take()
        return _GrpcStream(self._lines, line, line.streams[method](metadata=metadata, timeout=timeout_seconds))

    @property
    def losses(self) -> int:
        """How often a connection was lost."""
        return self._lines.losses

    async def close(self) -> None:
        """Close the connections; calls in flight fail."""
        await self._lines.close()


async def _outcome(
    line: Line, method: str, request: bytes, metadata: Metadata, timeout_seconds: float
) -> UpstreamOutcome:
    call = line.unary[method](request, metadata=metadata, timeout=timeout_seconds)
    try:
        body = await answer_of(call)
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    except grpc.aio.AioRpcError as error:
        initial, trailing = error.initial_metadata(), error.trailing_metadata()
        return _failed(line.channel, error.code(), error.details(), initial, trailing)
    except asyncio.CancelledError:
        end(call)
        raise
    if not isinstance(body, bytes):
        return failure_without_message()
    return reply_of(body, initial, trailing)


class _GrpcStream:
    """A stream over gRPC, which has a line for as long as it lives."""

    def __init__(self, lines: Lines, line: Line, call: "grpc.aio.StreamStreamCall[bytes, bytes]") -> None:
        self._lines = lines
        self._line: Line | None = line
        self._channel = line.channel
        self._call = call

    async def initial(self) -> Metadata:
        """Where the stream fails before there is any, none."""
        return _passing_on(await self._call.initial_metadata() or ())

    async def send(self, message: bytes) -> None:
        """Errors are the receiving side's to tell."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await undisturbed(self._call.write(message))

    async def half_close(self) -> None:
        """Errors are the receiving side's to tell."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await undisturbed(self._call.done_writing())

    async def receive(self) -> bytes | UpstreamEnd:
        """The next message, or how the stream ended."""
        try:
            message = await undisturbed(self._call.read())
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
        """End the stream, where it is not over, and give its line back."""
        end(self._call)
        if self._line is not None:
            self._lines.give_back(self._line)
            self._line = None


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


def reply_of(
    body: bytes, initial: Iterable[tuple[str, str | bytes]], trailing: Iterable[tuple[str, str | bytes]]
) -> UpstreamReply:
    """A message that came, with all of the upstream's metadata."""
    return UpstreamReply(body, _passing_on(initial), _passing_on(trailing))


def failure_of(
    code: grpc.StatusCode,
    details: str,
    answered: bool,
    initial: Iterable[tuple[str, str | bytes]],
    trailing: Iterable[tuple[str, str | bytes]],
) -> UpstreamFailure:
    """A failure that gRPC reports, with all of the upstream's metadata."""
    reason = _REASON.get(code, Reason.UPSTREAM_ERROR)
    return UpstreamFailure(reason, code, details, answered, _passing_on(initial), _passing_on(trailing))


def failure_without_message() -> UpstreamFailure:
    """The upstream says that all went well, and sent nothing."""
    text = "the call ended with status OK and without a message"
    return _failure(Reason.UPSTREAM_MALFORMED, grpc.StatusCode.INTERNAL, text)


def _failed(
    channel: grpc.aio.Channel,
    code: grpc.StatusCode,
    details: str | None,
    initial: Iterable[tuple[str, str | bytes]] | None,
    trailing: Iterable[tuple[str, str | bytes]] | None,
) -> UpstreamFailure:
    """A failure that gRPC reports."""
    if (code, details) == _BROKEN_OFF:
        return _failure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "the connection broke")
    answered = _is_the_upstreams(channel, code, details or "")
    return failure_of(code, details or "", answered, initial or (), trailing or ())


def _is_the_upstreams(channel: grpc.aio.Channel, code: grpc.StatusCode, details: str) -> bool:
    """Whether a status came from the upstream rather than from gRPC on our side."""
    if code is grpc.StatusCode.UNAVAILABLE and _OF_A_CONNECTION.search(details):
        return False
    return channel.get_state() is grpc.ChannelConnectivity.READY


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
