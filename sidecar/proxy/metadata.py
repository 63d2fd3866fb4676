"""Which call metadata travels on, in both directions.

Everything does, except what belongs to one connection or to gRPC itself, and names that start with
`gate-`: those are ours, and a client or an upstream must not be able to speak in our name.
"""

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
"""Key and value pairs in order; keys may repeat; values of keys that end in `-bin` are bytes."""

OWN_PREFIX: Final = "gate-"

_HOP_BY_HOP: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)

_GRPC_BUT_END_TO_END: Final = frozenset({"grpc-status-details-bin", "grpc-tags-bin", "grpc-trace-bin"})

_PREFIXES: Final = (":", "grpc-", OWN_PREFIX)

_ALLOWED_VALUE: Final = re.compile(r"[ -~]*")
"""What gRPC allows in a value that is text; some servers and clients send other characters all the same."""

MAX_METADATA_BYTES: Final = 64 * 1024
"""In one direction of a call. The default of 8 KiB would narrow what passes between others who allow more."""


def travelling(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """The pairs that travel on."""
    return tuple([pair for pair in metadata if _travels(pair[0].lower())])


def _travels(key: str) -> bool:
    return key in _GRPC_BUT_END_TO_END or (key not in _HOP_BY_HOP and not key.startswith(_PREFIXES))


def is_sendable(value: str | bytes) -> bool:
    """Whether gRPC lets us send a value that it let us receive."""
    return isinstance(value, bytes) or _ALLOWED_VALUE.fullmatch(value) is not None
