"""Every setting of ``sidecar serve``, once. Reading, ``--help``, the JSON schema and the reference all come from here.

A new setting is a field of :class:`sidecar.config.ServeSettings` (or of each kind of :data:`sidecar.config.Source`)
and one row of these tables; a test holds that the two agree.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Final

from sidecar.config import (
    BundleSource,
    ListenTls,
    ModelSettings,
    ServeSettings,
    Source,
    TorchServeSettings,
    UpstreamTls,
)
from sidecar.settings import kinds
from sidecar.settings.kinds import Kind

PREFIX: Final = "GATE_"
"""Of the environment variables."""


class Shape(enum.Enum):
    """How many values a setting has: one, a list, or one per property id or tensor name."""

    ONE = "one"
    LIST = "list"
    PER_PROPERTY = "per property"
    PER_TENSOR = "per tensor"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: in the file.
        field: the field that it fills.
        kind: of its value, or of each of its values.
        meaning: what it is for, in one or two sentences.
        default: the field's; MISSING where a value is required.
        unset: what holds where it is not given and the field's default is no value itself.
        shape: see :class:`Shape`.
        flag: of the command line; none for what stands in the file only.
        parts: the keys that a value has where the file writes it as a mapping.
        exactly_one: the parts of which one must be given, and no other.
        make: the value that its parts make, by their fields.
        hot: whether a running sidecar follows the file in it.
    """

    name: str
    field: str
    kind: Kind
    meaning: str
    default: Any
    unset: str = ""
    shape: Shape = Shape.ONE
    flag: str = ""
    parts: "tuple[Setting, ...]" = ()
    exactly_one: tuple[str, ...] = ()
    make: Callable[..., Any] = dict
    hot: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable, where it has a flag; several values stand there with commas between them."""
        return PREFIX + self.name.upper() if self.flag else ""


def _setting(name: str, field: str, kind: Kind, meaning: str, **more: Any) -> Setting:
    flag = "--" + name.replace("_", "-")
    return Setting(name, field, kind, meaning, _default(ServeSettings, field), **{"flag": flag, **more})


def _bundle_part(name: str, field: str, kind: Kind, meaning: str, **more: Any) -> Setting:
    return Setting(name, field, kind, meaning, _default(BundleSource, field), **more)


def _part(owner: type, name: str, kind: Kind, meaning: str, **more: Any) -> Setting:
    return Setting(name, name, kind, meaning, _default(owner, name), **more)


def _bundle_source(**fields: Any) -> Source:
    return kinds.remote_source(**fields) if "url" in fields else BundleSource(**fields)


def _default(owner: type, field: str) -> Any:
    return next(each.default for each in dataclasses.fields(owner) if each.name == field)


LISTEN_TLS_SETTINGS: Final = (
    _part(ListenTls, "certificate", kinds.PATH, "Ours, followed by its chain."),
    _part(ListenTls, "key", kinds.PATH, "Its private key, not encrypted."),
    _part(
        ListenTls, "client_ca", kinds.PATH, "Clients need a certificate from one of these.", unset="none is asked for"
    ),
)
"""The keys of ``listen_tls``."""

UPSTREAM_TLS_SETTINGS: Final = (
    _part(UpstreamTls, "ca", kinds.PATH, "The upstream's certificate must come from one of these.", unset="gRPC's own"),
    _part(UpstreamTls, "certificate", kinds.PATH, "Ours, where the upstream asks for one.", unset="none"),
    _part(UpstreamTls, "key", kinds.PATH, "Its private key.", unset="none"),
    _part(UpstreamTls, "server_name", kinds.NAME, "Whom the certificate must be for.", unset="the host of upstream"),
)
"""The keys of ``upstream_tls``."""

BUNDLE_SETTINGS: Final = (
    Setting("path", "path", kinds.PATH, "A file, or a folder: every *.gates in it.", None, unset="none"),
    Setting("url", "url", kinds.URL, "Where to fetch it: http(s)://, or oci:// from a registry.", None, unset="none"),
    _bundle_part("name", "model_name", kinds.NAME, "The served model that it guards.", unset="the name in the bundle"),
    _bundle_part("mode", "mode", kinds.MODE, "Of this bundle's properties.", unset="the sidecar's mode"),
    _bundle_part(
        "modes",
        "modes",
        kinds.MODE,
        "Of single properties, by id; every bundle of a folder must have them.",
        unset="the bundle's mode",
        shape=Shape.PER_PROPERTY,
    ),
)
"""The keys of an item of ``bundles``, where it is written as a mapping."""

TORCHSERVE_SETTINGS: Final = (
    _part(TorchServeSettings, "format", kinds.PREDICTION_FORMAT, "What requests and answers carry."),
    _part(
        TorchServeSettings,
        "client_datatype",
        kinds.DATATYPE,
        "As what clients read the answer's numbers; what is required holds after rounding to it. Required for json.",
        unset="the verified model's",
    ),
    _part(TorchServeSettings, "key", kinds.NAME, "Of a request's map: where its rows are."),
    _part(
        TorchServeSettings,
        "other_keys",
        kinds.NAME,
        "What else a request may carry, without rows in it; any other key is refused.",
        shape=Shape.LIST,
    ),
    _part(
        TorchServeSettings,
        "inputs",
        kinds.JSON_PLACES,
        "Where each tensor stands in a JSON request; * stands for each row.",
        unset="none; required for json",
        shape=Shape.PER_TENSOR,
    ),
    _part(
        TorchServeSettings,
        "outputs",
        kinds.JSON_PLACES,
        "Where each tensor stands in a JSON answer.",
        unset="none; required for json",
        shape=Shape.PER_TENSOR,
    ),
    _part(
        TorchServeSettings,
        "stream",
        kinds.BOOLEAN,
        "Whether StreamPredictions is let through: the handler must be made for it. StreamPredictions2 never is.",
    ),
)
"""The keys of a model's ``torchserve``."""

MODEL_SETTINGS: Final = (
    _part(ModelSettings, "name", kinds.NAME, "The served model."),
    _part(ModelSettings, "outside", kinds.OUTSIDE, "For this model.", unset="the sidecar's outside"),
    _part(ModelSettings, "probe", kinds.PROBING, "For this model.", unset="the sidecar's probe"),
    _part(
        ModelSettings,
        "failure_mode",
        kinds.FAILURE_MODE,
        "open: where nobody can judge (the bundle is not active; a guarded output is missing or of another form), the "
        "upstream's answer goes to the client as it is. A violation that can be seen never does. See failures.md.",
    ),
    _part(
        ModelSettings,
        "on_upstream_failure",
        kinds.ON_UPSTREAM_FAILURE,
        "For this model.",
        unset="the sidecar's on_upstream_failure",
    ),
    Setting(
        "upstream_timeout",
        "upstream_timeout_seconds",
        kinds.DURATION,
        "How long the upstream may take for this model, also where the client would wait longer.",
        None,
        unset="what the client's deadline leaves, else the sidecar's upstream_timeout",
    ),
    _part(
        ModelSettings,
        "torchserve",
        kinds.MAPPING,
        "How TorchServe serves this model.",
        unset="another server does",
        parts=TORCHSERVE_SETTINGS,
        make=TorchServeSettings,
    ),
)
"""The keys of an item of ``models``."""

SETTINGS: Final = (
    _setting(
        "bundles",
        "bundles",
        kinds.BUNDLE,
        "The gate bundles to activate, as sidecar compile wrote them: files, folders of them, http(s) URLs, or "
        "oci:// references into registries, watched for changes; NAME: the served model's name, where it is not the "
        "bundle's.",
        shape=Shape.LIST,
        flag="--bundle",
        parts=BUNDLE_SETTINGS,
        exactly_one=("path", "url"),
        make=_bundle_source,
        hot=True,
    ),
    _setting("upstream", "upstream", kinds.TARGET, "The model server's gRPC address."),
    _setting(
        "listen", "listen", kinds.TARGET, "Where clients call us; 0.0.0.0:9001 for other hosts too, port 0 picks one."
    ),
    _setting("admin", "admin", kinds.ADDRESS, "Where /metrics, /livez, /readyz and /status are served over HTTP."),
    _setting(
        "mode",
        "mode",
        kinds.MODE,
        "Instead of every property's own mode; shadow records what would be done and changes nothing. Given by flag "
        "or environment it also replaces the modes that the file gives to single bundles and properties.",
        unset="each property's own",
        hot=True,
    ),
    _setting(
        "outside", "outside", kinds.OUTSIDE, "What happens to a request with a row in no property's domain.", hot=True
    ),
    _setting(
        "probe",
        "probe",
        kinds.PROBING,
        "Whether the upstream is tried on inputs to which the bundle knows the verified model's answers. With required "
        "a model whose upstream has not matched is not ready, and its requests get UNAVAILABLE.",
        hot=True,
    ),
    _setting(
        "unguarded_models",
        "unguarded_models",
        kinds.UNGUARDED,
        "What happens to a request for a model that no bundle guards. Passing lets clients walk around the gates where "
        "the upstream serves a guarded model under a second name, or in an ensemble.",
        hot=True,
    ),
    _setting(
        "on_upstream_failure",
        "on_upstream_failure",
        kinds.ON_UPSTREAM_FAILURE,
        "fallback: where the upstream fails or is too slow and every row of the request has a property with a fallback "
        "that satisfies all its properties, the client gets that instead of an error. See failures.md.",
        hot=True,
    ),
    _setting(
        "upstream_words",
        "upstream_words",
        kinds.UPSTREAM_WORDS,
        "Which of the model server's own error texts clients get. callers: those with a status that tells the caller "
        "what to do otherwise (INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED and the like); of others, which may "
        "show paths and traces, and of errors within streams, which have no status, they get a fixed text, and the "
        "log has the server's.",
    ),
    _setting(
        "fallback_reserve",
        "fallback_reserve_seconds",
        kinds.DURATION_OR_NONE,
        "How much of the client's deadline the upstream does not get, so that a fallback comes in time; at most half.",
    ),
    _setting(
        "models",
        "models",
        kinds.MAPPING,
        "What differs for single models.",
        shape=Shape.LIST,
        flag="",
        parts=MODEL_SETTINGS,
        make=ModelSettings,
        hot=True,
    ),
    _setting(
        "message_limit",
        "limit_bytes",
        kinds.SIZE,
        "The largest message that is received from a client or from the upstream.",
    ),
    _setting(
        "row_limit",
        "limit_rows",
        kinds.COUNT,
        "The largest batch; it bounds how long the correction of one request can take.",
        hot=True,
    ),
    _setting(
        "held_limit",
        "limit_held_bytes",
        kinds.SIZE,
        "How many bytes of requests and answers may be held at once, in all; calls beyond it are refused.",
    ),
    _setting(
        "call_limit",
        "limit_calls",
        kinds.COUNT,
        "How many calls may be in flight at once; calls beyond it are refused.",
    ),
    _setting(
        "upstream_timeout",
        "upstream_timeout_seconds",
        kinds.DURATION,
        "How long the upstream may take where the client sets no deadline.",
    ),
    _setting(
        "drain",
        "drain_seconds",
        kinds.DURATION_OR_NONE,
        "How long calls in flight may go on after SIGTERM; keep it below the grace period of what stops us.",
    ),
    _setting(
        "drain_delay",
        "drain_delay_seconds",
        kinds.DURATION_OR_NONE,
        "How long to listen on after SIGTERM, already not ready, so that traffic can learn of it.",
    ),
    _setting(
        "readiness_interval",
        "readiness_interval_seconds",
        kinds.DURATION,
        "How often the upstream is asked whether the guarded models are ready.",
    ),
    _setting(
        "probe_interval",
        "probe_interval_seconds",
        kinds.DURATION,
        "How often an upstream that matched is probed again; one that is new, or did not match, sooner.",
    ),
    _setting(
        "trusted_keys",
        "trusted_keys",
        kinds.PATH,
        "Public keys (the .pub files of sidecar keygen): bundles signed with one of them are accepted.",
        shape=Shape.LIST,
        flag="--trust",
    ),
    _setting(
        "allow_unsigned",
        "allow_unsigned",
        kinds.BOOLEAN,
        "Whether bundles without a signature are accepted too. A signature that is there must verify either way.",
        unset="true without trusted_keys, false with",
    ),
    _setting(
        "bundle_poll",
        "bundle_poll_seconds",
        kinds.DURATION,
        "How often the bundles' places are looked at; SIGHUP makes us look at once.",
    ),
    _setting(
        "bundle_timeout",
        "bundle_timeout_seconds",
        kinds.DURATION,
        "How long fetching one bundle from a URL or registry may take in all.",
    ),
    _setting(
        "registry_credentials",
        "registry_credentials",
        kinds.PATH,
        "A file of docker login (a secret of type kubernetes.io/dockerconfigjson) with names and passwords for "
        "registries; read at each login.",
        unset="anonymous",
    ),
    _setting(
        "allow_rollback",
        "allow_rollback",
        kinds.BOOLEAN,
        "Whether a bundle may take the place of one with a higher revision.",
        hot=True,
    ),
    _setting(
        "state_folder",
        "state_folder",
        kinds.PATH,
        "A folder for the last good bundles, which stand in at a start whose sources are missing or bad.",
        unset="none",
    ),
    _setting(
        "listen_tls",
        "listen_tls",
        kinds.LISTEN_TLS,
        "TLS towards clients; the files are read again when they change.",
        unset="plaintext",
        parts=LISTEN_TLS_SETTINGS,
        make=ListenTls,
    ),
    _setting(
        "upstream_tls",
        "upstream_tls",
        kinds.UPSTREAM_TLS,
        "TLS towards the upstream; the files are read again when they change.",
        unset="plaintext",
        parts=UPSTREAM_TLS_SETTINGS,
        make=UpstreamTls,
    ),
    _setting(
        "upstream_token",
        "upstream_token",
        kinds.PATH,
        "A file with the bearer token that our own questions to the upstream carry (readiness, probes): the token "
        "alone, or TorchServe's key_file.json. Read again when it changes; clients send their own.",
        unset="none",
    ),
    _setting(
        "upstream_connections", "upstream_connections", kinds.COUNT, "Over how many connections calls are spread."
    ),
    _setting(
        "keepalive",
        "keepalive_seconds",
        kinds.DURATION,
        "After how long a silence clients and the upstream are asked whether they are still there.",
    ),
    _setting(
        "stream_idle",
        "stream_idle_seconds",
        kinds.DURATION,
        "How long a stream may stay open without a message and without a request in flight.",
    ),
    _setting(
        "transport",
        "transport",
        kinds.TRANSPORT,
        "What carries the calls; auto: native where it is installed, else portable.",
    ),
    _setting(
        "workers",
        "workers",
        kinds.COUNT,
        "Threads of the native transport.",
        unset="the processors that we may use, by affinity and cgroup quota",
    ),
)
"""In the order in which they are shown."""


def is_required(setting: Setting) -> bool:
    """Whether there is no default."""
    return setting.default is dataclasses.MISSING


def default_text(setting: Setting) -> str:
    """What holds where nothing is given, for people."""
    if is_required(setting):
        return "required"
    if setting.unset or setting.shape is not Shape.ONE:
        return setting.unset or "none"
    return setting.kind.show(setting.default)
