"""Settings of the online commands, as values. Where they come from is :mod:`sidecar.settings`' business."""

import dataclasses
import enum
import urllib.parse
from pathlib import Path
from typing import Final, TypeAlias

from sidecar.gates.values import Mode
from sidecar.remote.reference import Reference, parse_reference
from sidecar.tensors import Datatype

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

DEFAULT_BUNDLE_POLL_SECONDS: Final = 2.0
"""How often the bundles' sources are looked at; a look at an unchanged file is one stat."""

DEFAULT_BUNDLE_TIMEOUT_SECONDS: Final = 10.0
"""How long fetching a bundle over HTTP may take in all."""

DEFAULT_PROBE_INTERVAL_SECONDS: Final = 300.0
"""How often a matching upstream is probed again: some dozens of requests, every five minutes."""

DEFAULT_FALLBACK_RESERVE_SECONDS: Final = 0.02
"""How much of a client's time is kept for answering with a fallback; making one takes well under a millisecond, the
way back to the client takes the rest."""

DEFAULT_STREAM_IDLE_SECONDS: Final = 600.0
"""How long a stream may be open without a message; each takes a call's place."""

DEFAULT_KEEPALIVE_SECONDS: Final = 30.0
"""Below the time after which load balancers and address translators forget a silent connection."""


class Outside(enum.StrEnum):
    """What happens to a request with a row that lies in no property's domain."""

    PASS = "pass"  # noqa: S105 (no password)
    REFUSE = "refuse"


class TransportChoice(enum.StrEnum):
    """What carries the calls: the native transport where it is installed, or gRPC's own library."""

    AUTO = "auto"
    NATIVE = "native"
    PORTABLE = "portable"


class Probing(enum.StrEnum):
    """Whether the upstream is tried on the bundle's vectors, and what a mismatch means."""

    OFF = "off"
    REPORT = "report"
    REQUIRED = "required"


class Unguarded(enum.StrEnum):
    """What happens to a request for a model that no bundle guards, and none is awaited for."""

    DENY = "deny"
    PASS = "pass"  # noqa: S105 (no password)


class FailureMode(enum.StrEnum):
    """What happens where nobody can judge: no answer, or the upstream's as it is."""

    CLOSED = "closed"
    OPEN = "open"


class OnUpstreamFailure(enum.StrEnum):
    """What a client gets where the upstream gives no answer that can be judged."""

    ERROR = "error"
    FALLBACK = "fallback"


class UpstreamWords(enum.StrEnum):
    """Which of the upstream's own error texts clients get. Those of TorchServe they never do."""

    CALLERS = "callers"
    ALL = "all"


class PredictionFormat(enum.StrEnum):
    """What a model's messages carry where TorchServe serves it."""

    JSON = "json"
    NPY = "npy"
    RAW = "raw"
    OPEN_INFERENCE = "open_inference"


DEFAULT_KEY: Final = "data"
"""Of the map that a prediction's request carries: where TorchServe's own handlers look first."""

TensorPlaces: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Tensor name -> where it stands in a JSON document: one place, or one for each value of a row."""


@dataclasses.dataclass(frozen=True)
class TorchServeSettings:
    """How TorchServe serves a model.

    Args:
        format: of its payloads.
        client_datatype: as what clients read the answer's numbers; None for the verified model's own.
        key: under which a request carries its rows.
        other_keys: what else a request may carry.
        inputs, outputs: of JSON documents.
        stream: whether the handler is made for StreamPredictions.
    """

    format: PredictionFormat
    client_datatype: Datatype | None = None
    key: str = DEFAULT_KEY
    other_keys: tuple[str, ...] = ()
    inputs: TensorPlaces = ()
    outputs: TensorPlaces = ()
    stream: bool = False

    def __post_init__(self) -> None:
        is_json = self.format is PredictionFormat.JSON
        if is_json and not (self.inputs and self.outputs and self.client_datatype):
            raise ValueError(
                "format json needs inputs and outputs, where the tensors stand in the documents, and client_datatype: "
                "JSON does not say as what clients read its numbers"
            )
        if not is_json and (self.inputs or self.outputs):
            raise ValueError(f"inputs and outputs are places in JSON documents; format {self.format} has none")
        others = self.client_datatype, self.key, self.other_keys, self.stream
        if self.format is PredictionFormat.OPEN_INFERENCE and others != (None, DEFAULT_KEY, (), False):
            raise ValueError("format open_inference has no further settings: its messages say all that is needed")


@dataclasses.dataclass(frozen=True)
class ModelPolicy:
    """What holds for one model, whatever its bundle is.

    Args:
        outside: see :class:`Outside`.
        probe: see :class:`Probing`.
        failure_mode: see :class:`FailureMode`.
        on_upstream_failure: see :class:`OnUpstreamFailure`.
        upstream_timeout_seconds: how long the upstream may take, also where the client would wait longer; None for
            what the client's deadline leaves, or the sidecar's own for calls without one.
        torchserve: None where another server serves it.
    """

    outside: Outside = Outside.PASS
    probe: Probing = Probing.REPORT
    failure_mode: FailureMode = FailureMode.CLOSED
    on_upstream_failure: OnUpstreamFailure = OnUpstreamFailure.ERROR
    upstream_timeout_seconds: float | None = None
    torchserve: TorchServeSettings | None = None


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What is given for one model.

    Args:
        name: the served model.
        outside, probe, on_upstream_failure: where not None, stand in for the sidecar's.
        failure_mode: of this model alone: there is none for all.
        upstream_timeout_seconds: see :class:`ModelPolicy`.
        torchserve: None where another server serves it.
    """

    name: str
    outside: Outside | None = None
    probe: Probing | None = None
    failure_mode: FailureMode = FailureMode.CLOSED
    on_upstream_failure: OnUpstreamFailure | None = None
    upstream_timeout_seconds: float | None = None
    torchserve: TorchServeSettings | None = None

    def __post_init__(self) -> None:
        if self.upstream_timeout_seconds is not None and self.upstream_timeout_seconds <= 0:
            raise ValueError(f"upstream_timeout_seconds is {self.upstream_timeout_seconds}; it must be positive")


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

    @property
    def name(self) -> str:
        """As people know it."""
        return _named(self.model_name, str(self.path))


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
                "credentials, no spaces and nothing but ASCII characters that can be shown; write others as %-escapes"
            )

    @property
    def name(self) -> str:
        """As people know it. What follows the path may be secret, and is left out."""
        where = urllib.parse.urlsplit(self.url)._replace(query="", fragment="").geturl()
        return _named(self.model_name, where)


@dataclasses.dataclass(frozen=True)
class OciSource:
    """A gate bundle to pull from a registry and activate.

    Args:
        url: ``oci://host[:port]/repository[:tag][@sha256:...]``, or ``oci+http://`` without TLS; a digest or a tag.
        model_name, mode, modes: as for :class:`BundleSource`.
    """

    url: str
    model_name: str | None = None
    mode: Mode | None = None
    modes: tuple[tuple[str, Mode], ...] = ()

    def __post_init__(self) -> None:
        if self.reference.digest is None and self.reference.tag is None:
            raise ValueError(f"{self.url} names no artefact; add its digest, as `sidecar push` prints it: @sha256:...")

    @property
    def reference(self) -> Reference:
        """The artefact."""
        return parse_reference(self.url)

    @property
    def name(self) -> str:
        """As people know it: without the digest, so that another one is the next version of the same thing."""
        return _named(self.model_name, self.reference.unpinned)


Source: TypeAlias = BundleSource | HttpSource | OciSource
"""Where gate bundles come from."""


def _named(model_name: str | None, where: str) -> str:
    return where if model_name is None else f"{model_name}={where}"


def _is_fetchable(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    return is_web and parts.username is None and port != 0 and url.isascii() and url.isprintable() and " " not in url


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
        mode: where not None, replaces the modes that the bundles' properties start in, if the bundle's source has
            none itself.
        outside: see :class:`Outside`.
        probe: see :class:`Probing`.
        unguarded_models: see :class:`Unguarded`.
        on_upstream_failure: see :class:`OnUpstreamFailure`.
        upstream_words: see :class:`UpstreamWords`.
        fallback_reserve_seconds: how much earlier than the client's deadline the upstream's time ends where a fallback
            would stand in; never more than half of it.
        models: what differs for single models; each is named once.
        limit_bytes, limit_rows: larger messages and batches are refused.
        limit_held_bytes, limit_calls: of all calls in flight, in this process; beyond them calls are refused.
        upstream_timeout_seconds: for calls without a deadline of the client's.
        drain_seconds: for calls in flight when the sidecar stops.
        drain_delay_seconds: between "not ready" and the end of listening.
        readiness_interval_seconds: between two questions to the upstream.
        probe_interval_seconds: between two probes of an upstream that matched.
        trusted_keys: files with the public keys of those whose signed bundles are accepted.
        allow_unsigned: whether bundles without a signature are accepted; None: if there are no trusted keys.
        bundle_poll_seconds: between two looks at the bundles' sources.
        bundle_timeout_seconds: for fetching one bundle over HTTP.
        registry_credentials: a file of `docker login` with who we are to registries; None for nobody.
        allow_rollback: whether a bundle may displace one of a higher revision.
        state_folder: where the last good bundles are kept for a start without their source; None: nowhere.
        listen_tls, upstream_tls: None for plaintext.
        upstream_token: a file with the token that our own questions to the upstream carry; None for none.
        upstream_connections: over which calls are spread.
        keepalive_seconds: after that long without a word, clients and the upstream are asked whether they are there.
        stream_idle_seconds: a stream without a message and without a request in flight ends after that long.
        transport: see :class:`TransportChoice`.
        workers: threads of the native transport; None for as many as there are processors for us.
    """

    bundles: tuple[Source, ...]
    upstream: str
    listen: str = "127.0.0.1:9001"
    admin: str = "127.0.0.1:9002"
    mode: Mode | None = None
    outside: Outside = Outside.PASS
    probe: Probing = Probing.REPORT
    unguarded_models: Unguarded = Unguarded.DENY
    on_upstream_failure: OnUpstreamFailure = OnUpstreamFailure.ERROR
    upstream_words: UpstreamWords = UpstreamWords.CALLERS
    fallback_reserve_seconds: float = DEFAULT_FALLBACK_RESERVE_SECONDS
    models: tuple[ModelSettings, ...] = ()
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    limit_rows: int = DEFAULT_LIMIT_ROWS
    limit_held_bytes: int = DEFAULT_LIMIT_HELD_BYTES
    limit_calls: int = DEFAULT_LIMIT_CALLS
    upstream_timeout_seconds: float = DEFAULT_UPSTREAM_TIMEOUT_SECONDS
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    drain_delay_seconds: float = DEFAULT_DRAIN_DELAY_SECONDS
    readiness_interval_seconds: float = DEFAULT_READINESS_INTERVAL_SECONDS
    probe_interval_seconds: float = DEFAULT_PROBE_INTERVAL_SECONDS
    trusted_keys: tuple[Path, ...] = ()
    allow_unsigned: bool | None = None
    bundle_poll_seconds: float = DEFAULT_BUNDLE_POLL_SECONDS
    bundle_timeout_seconds: float = DEFAULT_BUNDLE_TIMEOUT_SECONDS
    registry_credentials: Path | None = None
    allow_rollback: bool = False
    state_folder: Path | None = None
    listen_tls: ListenTls | None = None
    upstream_tls: UpstreamTls | None = None
    upstream_token: Path | None = None
    upstream_connections: int = 1
    keepalive_seconds: float = DEFAULT_KEEPALIVE_SECONDS
    stream_idle_seconds: float = DEFAULT_STREAM_IDLE_SECONDS
    transport: TransportChoice = TransportChoice.AUTO
    workers: int | None = None

    def __post_init__(self) -> None:
        if not self.bundles:
            raise ValueError("a sidecar needs at least one gate bundle to activate, got none")
        names = [source.name for source in self.bundles]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"bundles has {name} more than once; take one out, or name the models with NAME=")
        for name, value in (
            ("limit_bytes", self.limit_bytes),
            ("limit_rows", self.limit_rows),
            ("limit_calls", self.limit_calls),
            ("upstream_connections", self.upstream_connections),
            ("keepalive_seconds", self.keepalive_seconds),
            ("upstream_timeout_seconds", self.upstream_timeout_seconds),
            ("readiness_interval_seconds", self.readiness_interval_seconds),
            ("probe_interval_seconds", self.probe_interval_seconds),
            ("bundle_poll_seconds", self.bundle_poll_seconds),
            ("bundle_timeout_seconds", self.bundle_timeout_seconds),
            ("stream_idle_seconds", self.stream_idle_seconds),
        ):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.workers is not None and self.workers <= 0:
            raise ValueError(f"workers is {self.workers}; it must be positive, or left out")
        if self.limit_held_bytes < self.limit_bytes:
            raise ValueError(
                f"limit_held_bytes is {self.limit_held_bytes}: a message of limit_bytes, {self.limit_bytes}, would"
                " never be let in; make it as large at least"
            )
        for name, value in (
            ("drain_seconds", self.drain_seconds),
            ("drain_delay_seconds", self.drain_delay_seconds),
            ("fallback_reserve_seconds", self.fallback_reserve_seconds),
        ):
            if value < 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"models names a model twice: {', '.join(names)}; put what holds for it in one place")
        if self.allow_unsigned is False and not self.trusted_keys:
            raise ValueError(
                "allow_unsigned is false and there are no trusted_keys: no bundle can be accepted; give the public key "
                "of who signs them, or allow unsigned ones"
            )

        for source in self.bundles:
            if isinstance(source, OciSource) and source.reference.digest is None and self.accepts_unsigned:
                raise ValueError(
                    f"bundles has {source.name}: a tag can be moved by whoever writes to the registry; add the digest, "
                    "@sha256:..., or accept signed bundles only, with trusted_keys"
                )

    @property
    def accepts_unsigned(self) -> bool:
        """Whether bundles without a signature are accepted."""
        return not self.trusted_keys if self.allow_unsigned is None else self.allow_unsigned

    def policy(self, model_name: str) -> ModelPolicy:
        """What holds for a model."""
        given = next((model for model in self.models if model.name == model_name), ModelSettings(model_name))
        return ModelPolicy(
            outside=given.outside or self.outside,
            probe=given.probe or self.probe,
            failure_mode=given.failure_mode,
            on_upstream_failure=given.on_upstream_failure or self.on_upstream_failure,
            upstream_timeout_seconds=given.upstream_timeout_seconds,
            torchserve=given.torchserve,
        )

    @property
    def open_models(self) -> frozenset[str]:
        """The models whose failure mode is open."""
        return frozenset(model.name for model in self.models if model.failure_mode is FailureMode.OPEN)
