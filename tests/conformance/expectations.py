"""What a conformance case is: what the client sends, what the upstream answers, and what the client gets."""

import dataclasses

from sidecar.errors import Reason


@dataclasses.dataclass(frozen=True)
class VeryBytes:
    """The client gets the upstream's bytes; ``without`` names outputs that it had not asked for."""

    outcome: str
    without: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Corrected:
    """The client gets these values in the named outputs, and everything else as the upstream had it."""

    y: tuple[tuple[float, ...], ...] | None = None
    z: tuple[tuple[float, ...], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Error:
    """The client gets an error; ``forwarded`` says whether the upstream saw the request."""

    reason: Reason
    forwarded: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    request: bytes
    answer: bytes
    expected: VeryBytes | Corrected | Error
