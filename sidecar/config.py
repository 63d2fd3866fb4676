"""Settings of the online commands. This is the only module that reads the environment."""

import dataclasses
import enum
from pathlib import Path
from typing import Final

from sidecar.gates.values import Mode

DEFAULT_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Largest message that is received from a client or from the upstream."""

DEFAULT_LIMIT_HELD_BYTES: Final = 512 * 1024 * 1024
"""Of requests and answers that are held at once: eight of the largest."""

DEFAULT_LIMIT_CALLS: Final = 1000
"""In flight at once; about as many as one process can keep waiting without its answers growing late."""

DEFAULT_LIMIT_ROWS: Final = 4096
"""Largest batch. It bounds how long the correction of one request can take."""

DEFAULT_UPSTREAM_TIMEOUT_SECONDS: Final = 30.0
"""How long the upstream may take where the client sets no deadline."""

DEFAULT_DRAIN_SECONDS: Final = 10.0
"""How long calls in flight may go on after the signal to stop; below Kubernetes' grace period of 30 s."""

DEFAULT_DRAIN_DELAY_SECONDS: Final = 2.0
"""How long new calls are still taken after that signal, while we already say that we are not ready: what sends
traffic here needs a moment to learn it."""

DEFAULT_READINESS_INTERVAL_SECONDS: Final = 1.0
"""How often the upstream is asked whether the guarded models are ready; as often as a usual kubelet probe."""


DEFAULT_KEEPALIVE_SECONDS: Final = 30.0
"""Below the time after which load balancers and address translators forget a silent connection."""


class Outside(enum.StrEnum):
    """What happens to a request with a row that lies in no property's domain."""

    PASS = "pass"  # noqa: S105 (no password)
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True)
class BundleSource:
    """A gate bundle to activate.

    Args:
        path: the file.
        model_name: the served model that it guards; None for the name in its manifest.
    """

    path: Path
    model_name: str | None = None


@dataclasses.dataclass(frozen=True)
class ListenTls:
    """TLS towards clients. All files are PEM, and looked at again with each new connection.

    Args:
        certificate: ours, followed by its chain.
        key: its private key, not encrypted.
        client_ca: where given, clients need a certificate from one of these.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclasses.dataclass(frozen=True)
class UpstreamTls:
    """TLS towards the upstream. All files are PEM; when they change, new calls go over new connections.

    Args:
        ca: the upstream's certificate must come from one of these; None for those that gRPC knows.
        certificate, key: ours, where the upstream asks for one; both or neither.
        server_name: that the upstream's certificate must be for; None for the host in ``upstream``.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("TLS towards the upstream has a certificate or a key only; give both or neither")


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """What `sidecar serve` needs to know.

    Args:
        bundles: at least one.
        upstream: ``host:port`` or ``unix:/path`` of the model server's gRPC service.
        listen: ``host:port`` of our gRPC service, port 0 takes a free one; or ``unix:/path``.
        admin: ``host:port`` of the HTTP service for metrics and health; port 0 takes a free one.
        mode: where not None, replaces the modes that the bundles' properties start in.
        outside: see :class:`Outside`.
        limit_bytes, limit_rows: larger messages and batches are refused.
        limit_held_bytes, limit_calls: of all calls in flight, in this process; beyond them calls are refused.
        upstream_timeout_seconds: for calls without a deadline of the client's.
        drain_seconds: for calls in flight when the sidecar stops.
        drain_delay_seconds: between "not ready" and the end of listening.
        readiness_interval_seconds: between two questions to the upstream.
        listen_tls, upstream_tls: None for plaintext.
        upstream_connections: over which calls are spread.
        keepalive_seconds: after that long without a word, clients and the upstream are asked whether they are there.
    """

    bundles: tuple[BundleSource, ...]
    upstream: str
    listen: str = "127.0.0.1:9001"
    admin: str = "127.0.0.1:9002"
    mode: Mode | None = None
    outside: Outside = Outside.PASS
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    limit_rows: int = DEFAULT_LIMIT_ROWS
    limit_held_bytes: int = DEFAULT_LIMIT_HELD_BYTES
    limit_calls: int = DEFAULT_LIMIT_CALLS
    upstream_timeout_seconds: float = DEFAULT_UPSTREAM_TIMEOUT_SECONDS
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    drain_delay_seconds: float = DEFAULT_DRAIN_DELAY_SECONDS
    readiness_interval_seconds: float = DEFAULT_READINESS_INTERVAL_SECONDS
    listen_tls: ListenTls | None = None
    upstream_tls: UpstreamTls | None = None
    upstream_connections: int = 1
    keepalive_seconds: float = DEFAULT_KEEPALIVE_SECONDS

    def __post_init__(self) -> None:
        if not self.bundles:
            raise ValueError("a sidecar needs at least one gate bundle to activate, got none")
        for name, value in (
            ("limit_bytes", self.limit_bytes),
            ("limit_rows", self.limit_rows),
            ("limit_calls", self.limit_calls),
            ("upstream_connections", self.upstream_connections),
            ("keepalive_seconds", self.keepalive_seconds),
            ("upstream_timeout_seconds", self.upstream_timeout_seconds),
            ("readiness_interval_seconds", self.readiness_interval_seconds),
        ):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.limit_held_bytes < self.limit_bytes:
            raise ValueError(
                f"limit_held_bytes is {self.limit_held_bytes}: a message of limit_bytes, {self.limit_bytes}, would"
                " never be let in; make it as large at least"
            )
        for name, value in (
            ("drain_seconds", self.drain_seconds),
            ("drain_delay_seconds", self.drain_delay_seconds),
        ):
            if value < 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
