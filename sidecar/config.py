"""Settings of the online commands, as values. Where they come from is :mod:`sidecar.settings`' business."""

import dataclasses
import enum
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
        mode: where not None, stands in for the sidecar's for this bundle.
        modes: of single properties, by id; stand in for any other.
    """

    path: Path
    model_name: str | None = None
    mode: Mode | None = None
    modes: tuple[tuple[str, Mode], ...] = ()


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
    """

    bundles: tuple[BundleSource, ...]
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

    def __post_init__(self) -> None:
        if not self.bundles:
            raise ValueError("a sidecar needs at least one gate bundle to activate, got none")
        for name, value in (
            ("limit_bytes", self.limit_bytes),
            ("limit_rows", self.limit_rows),
            ("upstream_timeout_seconds", self.upstream_timeout_seconds),
            ("readiness_interval_seconds", self.readiness_interval_seconds),
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
