"""The kinds of values that settings have: how each is written, read and checked.

A value is written in the same way in the file, in an environment variable and after a flag. Quantities carry their
unit, so that nobody has to guess whether 30 means seconds or milliseconds.
"""

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from sidecar.config import (
    BundleSource,
    FailureMode,
    HttpSource,
    ListenTls,
    OciSource,
    OnUpstreamFailure,
    Outside,
    PredictionFormat,
    Probing,
    Source,
    TransportChoice,
    Unguarded,
    UpstreamTls,
    UpstreamWords,
)
from sidecar.gates.values import Mode
from sidecar.properties.source import Complaint, shown, suggestion
from sidecar.protocols.torchserve.json_paths import parse_path
from sidecar.remote.reference import is_reference
from sidecar.tensors import FLOATING_DATATYPES, Datatype

SECONDS_IN: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
BYTES_IN: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

LONGEST_SECONDS: Final = 7 * 24 * 3600.0
"""Of a duration; longer ones are slips of the pen."""

LARGEST_COUNT: Final = (1 << 31) - 1
"""Of a number, and of bytes: what gRPC can hold."""

LARGEST_PORT: Final = 65535

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|min|h)")
_SIZE: Final = re.compile(r"([0-9]{1,10})(B|KiB|MiB|GiB)")
_COUNT: Final = re.compile(r"[0-9]{1,10}")
_URL: Final = re.compile(r"([Hh][Tt][Tt][Pp][Ss]?|oci|oci\+http)://.+")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:/\[\]\s]+):([0-9]{1,5})")

_Choice = TypeVar("_Choice", bound=enum.StrEnum)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of value.

    Args:
        name: for the reference, with the unit.
        metavar: for ``--help``.
        parse: the value that a text means; raises Complaint.
        schema: JSON schema of how it stands in the file.
        show: the text for a value, which parses as the same value; a path is shown absolute, to mean the same from
            anywhere. Of a bundle its parts are shown, each by itself.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    schema: Mapping[str, object]
    show: Callable[[Any], str] = str


def seconds(text: str) -> float:
    """A duration. Raises Complaint: no number with a unit, or longer than a week."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Complaint(f"{shown(text)} is no duration: write a number with a unit, e.g. 500ms, 60s, 5m, 1h")
    value = float(match[1]) * SECONDS_IN[match[2]]
    if value > LONGEST_SECONDS:
        raise Complaint(f"{shown(text)} is longer than a week; write a shorter duration")
    return value


def positive_seconds(text: str) -> float:
    """A duration that is not zero. Raises Complaint."""
    value = seconds(text)
    if value == 0:
        raise Complaint(f"{shown(text)} is no time at all; write a longer duration")
    return value


def show_seconds(value: float) -> str:
    """A duration in the largest unit that gives a whole number."""
    for unit in ("h", "m", "s", "ms"):
        number = value / SECONDS_IN[unit]
        if number == int(number) and (number or unit == "s") and seconds(f"{int(number)}{unit}") == value:
            return f"{int(number)}{unit}"
    return f"{value:.9f}".rstrip("0") + "s"


def size(text: str) -> int:
    """A number of bytes. Raises Complaint: no number with a unit, zero, or too large."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Complaint(f"{shown(text)} is no size: write a whole number with a unit, e.g. 512KiB, 64MiB, 1GiB")
    return _counted(text, int(match[1]) * BYTES_IN[match[2]], "bytes")


def show_size(value: int) -> str:
    """A size in the largest unit that gives a whole number."""
    unit = max((unit for unit, factor in BYTES_IN.items() if value % factor == 0), key=BYTES_IN.__getitem__)
    return f"{value // BYTES_IN[unit]}{unit}"


def count(text: str) -> int:
    """A positive whole number. Raises Complaint."""
    if not _COUNT.fullmatch(text):
        raise Complaint(f"{shown(text)} is no positive whole number; write one in digits")
    return _counted(text, int(text), "")


def _counted(text: str, value: int, unit: str) -> int:
    if not 1 <= value <= LARGEST_COUNT:
        raise Complaint(f"{shown(text)} is out of range: from 1 to {LARGEST_COUNT} {unit}".rstrip())
    return value


def address(text: str) -> str:
    """``host:port``. Raises Complaint."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > LARGEST_PORT:
        raise Complaint(
            f"{shown(text)} is no address: write HOST:PORT, e.g. 127.0.0.1:9001, localhost:8001, [::1]:9001"
        )
    return text


def target(text: str) -> str:
    """``host:port``, or ``unix:/path``. Raises Complaint."""
    if text.startswith("unix:") and not text.startswith("unix:/"):
        raise Complaint(f"{shown(text)} is no address: write the whole path, e.g. unix:/run/gate.sock")
    return _printable(text, "address") if text.startswith("unix:/") else address(text)


def listen_tls(text: str) -> ListenTls:
    """``certificate=C.pem,key=C.key[,client_ca=CA.pem]``. Raises Complaint."""
    files = _named_parts(text, ("certificate", "key"), ("client_ca",))
    return ListenTls(**{part: path(value) for part, value in files.items()})


def upstream_tls(text: str) -> UpstreamTls:
    """``[ca=CA.pem][,certificate=C.pem,key=C.key][,server_name=NAME]``. Raises Complaint."""
    parts = _named_parts(text, (), ("ca", "certificate", "key", "server_name"))
    server_name = parts.pop("server_name", None)
    try:
        return UpstreamTls(**{part: path(value) for part, value in parts.items()}, server_name=server_name)
    except ValueError as error:
        raise Complaint(str(error)) from None


def _named_parts(text: str, required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.split(",")] if text else []
    parts = {part: value for part, _, value in pairs}
    known = (*required, *optional)
    if len(parts) != len(pairs) or not set(required) <= set(parts) <= set(known):
        expected = ",".join(f"{part}=..." for part in known)
        raise Complaint(f"{shown(text)} is not understood: write {expected}; needed: {', '.join(required) or 'none'}")
    return parts


def boolean(text: str) -> bool:
    """``true`` or ``false``. Raises Complaint."""
    if text not in ("true", "false"):
        raise Complaint(f"{shown(text)} is neither true nor false; write one of them")
    return text == "true"


def path(text: str) -> Path:
    """A file's path. Raises Complaint: empty, or with characters that cannot be shown."""
    return Path(_printable(text, "path"))


def name(text: str) -> str:
    """A name. Raises Complaint: empty, or with characters that cannot be shown."""
    return _printable(text, "name")


def _printable(text: str, what: str) -> str:
    if not text or not text.isprintable():
        raise Complaint(f"{shown(text)} is no {what}: it is empty or has characters that cannot be shown")
    return text


def url(text: str) -> str:
    """Where to fetch a bundle from. Raises Complaint, without the text of a web address: it may hold a password."""
    try:
        return remote_source(text).url
    except ValueError as error:
        raise Complaint(str(error)) from None


def remote_source(url: str, **fields: Any) -> HttpSource | OciSource:
    """The source that a URL means. Raises ValueError."""
    return OciSource(url, **fields) if is_reference(url) else HttpSource(url, **fields)


def bundle(text: str) -> Source:
    """``[NAME=]PATH`` or ``[NAME=]URL``. Raises Complaint."""
    given, separator, where = text.partition("=")
    if not separator or "://" in given:  # a URL has its own "=" after "://"
        given, where = "", text
    model_name = name(given) if where is not text else None
    if "://" in where:
        return remote_source(url(where), model_name=model_name)
    return BundleSource(path(where), model_name)


def mapping(text: str) -> Any:
    """No text is one. Raises Complaint."""
    raise Complaint(f"{shown(text)} stands where keys with values are expected, as in {{key: value}}")


def json_places(text: str) -> tuple[str, ...]:
    """One place in a JSON document, or several with commas between them. Raises Complaint."""
    places = tuple(place.strip() for place in text.split(","))
    try:
        for place in places:
            parse_path(place)
    except ValueError as error:
        raise Complaint(str(error)) from None
    return places


def _choice(kind: type[_Choice], among: Sequence[_Choice]) -> Callable[[str], _Choice]:
    def parse(text: str) -> _Choice:
        if text not in among:
            raise Complaint(f"{shown(text)} is no choice; {suggestion(text, among)}")
        return kind(text)

    return parse


def _choices(kind: type[_Choice], some: Sequence[_Choice] = ()) -> Kind:
    """A member of an enum; of some of them only, where these are given."""
    among = some or list(kind)
    return Kind(", ".join(among), "|".join(among), _choice(kind, among), {"enum": [*among]})


def _pattern(pattern: re.Pattern[str]) -> dict[str, object]:
    return {"type": "string", "pattern": f"^(?:{pattern.pattern})$"}


_WITH_UNIT: Final = f"number with {', '.join(SECONDS_IN)}"
_TEXT: Final = {"type": "string", "minLength": 1}
_INTEGER: Final = {"type": "integer", "minimum": 1, "maximum": LARGEST_COUNT}

ADDRESS: Final = Kind("address, HOST:PORT", "HOST:PORT", address, _pattern(_ADDRESS))
TARGET: Final = Kind("address, HOST:PORT or unix:/path", "HOST:PORT", target, _TEXT)
DURATION: Final = Kind(f"duration above 0, {_WITH_UNIT}", "TIME", positive_seconds, _pattern(_DURATION), show_seconds)
DURATION_OR_NONE: Final = Kind(f"duration, {_WITH_UNIT}", "TIME", seconds, _pattern(_DURATION), show_seconds)
SIZE: Final = Kind(f"size, whole number with {', '.join(BYTES_IN)}", "SIZE", size, _pattern(_SIZE), show_size)
COUNT: Final = Kind("whole number above 0", "N", count, _INTEGER)
BOOLEAN: Final = Kind("true or false", "BOOL", boolean, {"type": "boolean"}, lambda value: str(value).lower())
PATH: Final = Kind("path", "PATH", path, _TEXT, lambda value: str(value.absolute()))
NAME: Final = Kind("name", "NAME", name, _TEXT)
URL: Final = Kind("URL, http, https or oci", "URL", url, _pattern(_URL))
MAPPING: Final = Kind("mapping", "", mapping, {"type": "object"})
BUNDLE: Final = Kind("bundle", "[NAME=]B.gates", bundle, _TEXT)
LISTEN_TLS: Final = Kind("PEM files", "certificate=C,key=K[,client_ca=CA]", listen_tls, _TEXT)
UPSTREAM_TLS: Final = Kind("PEM files", "[ca=CA][,certificate=C,key=K]", upstream_tls, _TEXT)
MODE: Final = _choices(Mode)
OUTSIDE: Final = _choices(Outside)
TRANSPORT: Final = _choices(TransportChoice)
PROBING: Final = _choices(Probing)
UNGUARDED: Final = _choices(Unguarded)
FAILURE_MODE: Final = _choices(FailureMode)
ON_UPSTREAM_FAILURE: Final = _choices(OnUpstreamFailure)
UPSTREAM_WORDS: Final = _choices(UpstreamWords)
PREDICTION_FORMAT: Final = _choices(PredictionFormat)
DATATYPE: Final = _choices(Datatype, FLOATING_DATATYPES)
JSON_PLACES: Final = Kind("place such as `/rows/*/speed`, or one for each value", "", json_places, _TEXT, ", ".join)
