"""Settings of the online commands, as values. Where they come from is :mod:`sidecar.settings`' business."""

import dataclasses
import enum
import urllib.parse
from pathlib import Path
from typing import Final

from sidecar.gates.values import Mode

DEFAULT_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Largest message that is received from a client or from the upstream."""

DEFAULT_LIMIT_ROWS: Final = 4096
"""Largest batch. It bounds how long the correction of one request can take."""

DEFAULT_UPSTREAM_TIMEOUT_SECONDS: Final = 30.0
"""How long the upstream may take where the client sets no deadline."""

DEFAULT_DRAIN_SECONDS: Final = 10.0
"""How long calls in flight may go on after the signal to stop; below Kubernetes' grace period of 30 s."""

DEFAULT_READINESS_INTERVAL_SECONDS: Final = 1.0
"""How often the upstream is asked whether the guarded models are ready; as often as a usual kubelet probe."""

DEFAULT_BUNDLE_POLL_SECONDS: Final = 2.0
"""How often the bundles' sources are looked at; a look at an unchanged file is one stat."""

DEFAULT_BUNDLE_TIMEOUT_SECONDS: Final = 10.0
"""How long fetching a bundle over HTTP may take in all."""


class Outside(enum.StrEnum):
    """What happens to a request with a row that lies in no property's domain."""

    PASS = "pass"  # noqa: S105 (no password)
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True)
class BundleSource:
    """A gate bundle to activate, or a folder of them.

    Args:
        path: the file, or a folder: every ``*.gates`` in it.
        model_name: the served model that it guards; None for the name in its manifest.
        mode: where not None, stands in for the sidecar's for this bundle.
        modes: of single properties, by id; stand in for any other. Every bundle of a folder must have them.
    """

    path: Path
    model_name: str | None = None
    mode: Mode | None = None
    modes: tuple[tuple[str, Mode], ...] = ()


@dataclasses.dataclass(frozen=True)
class HttpSource:
    """A gate bundle to fetch and activate.

    Args:
        url: http or https, without credentials.
        model_name, mode, modes: as for :class:`BundleSource`.
    """

    url: str
    model_name: str | None = None
    mode: Mode | None = None
    modes: tuple[tuple[str, Mode], ...] = ()

    def __post_init__(self) -> None:
        if not _is_fetchable(self.url):  # it is not repeated in the message: it may hold a password
            raise ValueError(
                "a bundle's URL starts with http:// or https:// and a host, where needed with a port, and carries no "
                "credentials, no spaces and no characters that cannot be shown"
            )


def _is_fetchable(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    return is_web and parts.username is None and port != 0 and url.isprintable() and " " not in url


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """What `sidecar serve` needs to know.

    Args:
        bundles: at least one.
        upstream: ``host:port`` of the model server's gRPC service.
        listen: ``host:port`` of our gRPC service; port 0 takes a free one.
        admin: ``host:port`` of the HTTP service for metrics and health; port 0 takes a free one.
        mode: where not None, replaces the modes that the bundles' properties start in, if the bundle's source has
            none itself.
        outside: see :class:`Outside`.
        limit_bytes, limit_rows: larger messages and batches are refused.
        upstream_timeout_seconds: for calls without a deadline of the client's.
        drain_seconds: for calls in flight when the sidecar stops.
        readiness_interval_seconds: between two questions to the upstream.
        trusted_keys: files with the public keys of those whose signed bundles are accepted.
        allow_unsigned: whether bundles without a signature are accepted; None: if there are no trusted keys.
        bundle_poll_seconds: between two looks at the bundles' sources.
        bundle_timeout_seconds: for fetching one bundle over HTTP.
        allow_rollback: whether a bundle may displace one of a higher revision.
        state_folder: where the last good bundles are kept for a start without their source; None: nowhere.
    """

    bundles: tuple[BundleSource | HttpSource, ...]
    upstream: str
    listen: str = "127.0.0.1:9001"
    admin: str = "127.0.0.1:9002"
    mode: Mode | None = None
    outside: Outside = Outside.PASS
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    limit_rows: int = DEFAULT_LIMIT_ROWS
    upstream_timeout_seconds: float = DEFAULT_UPSTREAM_TIMEOUT_SECONDS
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    readiness_interval_seconds: float = DEFAULT_READINESS_INTERVAL_SECONDS
    trusted_keys: tuple[Path, ...] = ()
    allow_unsigned: bool | None = None
    bundle_poll_seconds: float = DEFAULT_BUNDLE_POLL_SECONDS
    bundle_timeout_seconds: float = DEFAULT_BUNDLE_TIMEOUT_SECONDS
    allow_rollback: bool = False
    state_folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.bundles:
            raise ValueError("a sidecar needs at least one gate bundle to activate, got none")
        for name, value in (
            ("limit_bytes", self.limit_bytes),
            ("limit_rows", self.limit_rows),
            ("upstream_timeout_seconds", self.upstream_timeout_seconds),
            ("readiness_interval_seconds", self.readiness_interval_seconds),
            ("bundle_poll_seconds", self.bundle_poll_seconds),
            ("bundle_timeout_seconds", self.bundle_timeout_seconds),
        ):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.drain_seconds < 0:
            raise ValueError(f"drain_seconds is {self.drain_seconds}; it must not be negative")
        if self.allow_unsigned is False and not self.trusted_keys:
            raise ValueError(
                "allow_unsigned is false and there are no trusted_keys: no bundle can be accepted; give the public key "
                "of who signs them, or allow unsigned ones"
            )

    @property
    def accepts_unsigned(self) -> bool:
        """Whether bundles without a signature are accepted."""
        return not self.trusted_keys if self.allow_unsigned is None else self.allow_unsigned
