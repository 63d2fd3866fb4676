"""The outer form of a bundle file: what stands where before any section is understood.

    magic            8 bytes
    format version   u32
    length           u64    of all this, up to the end of the trailer
    sections         each: tag (8 ASCII bytes, padded with spaces), u64 length of the payload, payload
    trailer          kind (8 ASCII bytes, padded), then what the kind says
    signature block  in a signed bundle only; see :mod:`sidecar.bundle.signature`

All numbers are little-endian. Format version 1 knows one kind of trailer: the SHA-256 digest over all
bytes before the digest. The magic begins with a byte that is no ASCII and ends with a line break, so that
transfers which meddle with text are noticed at once.

Each function here is one step of acceptance and raises :class:`BundleError` with the step's own reason.
"""

import enum
import hashlib
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.bundle.signature import BLOCK_SIZES
from sidecar.bundle.values import FORMAT_VERSION
from sidecar.errors import BundleError, Reason

MAGIC: Final = b"\x89GATES\r\n"
_VERSION: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<Q")
_TAG_BYTES: Final = 8
_HEADER_BYTES: Final = len(MAGIC) + _VERSION.size + _LENGTH.size
_TRAILER_KIND: Final = b"SHA-256 "
_TRAILER_BYTES: Final = len(_TRAILER_KIND) + hashlib.sha256().digest_size


class Section(enum.Enum):
    """The sections of format version 1, in the order in which they stand."""

    MANIFEST = b"MANIFEST"
    GATES = b"GATES   "
    COVERAGE = b"COVERAGE"
    VECTORS = b"VECTORS "
    SOURCES = b"SOURCES "


Payloads: TypeAlias = tuple[tuple[Section, bytes], ...]


def pack(sections: Sequence[tuple[Section, bytes]]) -> bytes:
    """A whole file around the sections' payloads."""
    body = b"".join(section.value + _LENGTH.pack(len(payload)) + payload for section, payload in sections)
    length = _HEADER_BYTES + len(body) + _TRAILER_BYTES
    preceding = MAGIC + _VERSION.pack(FORMAT_VERSION) + _LENGTH.pack(length) + body + _TRAILER_KIND
    return preceding + hashlib.sha256(preceding).digest()


def check_size(content: bytes) -> None:
    """Raises BUNDLE_TOO_LARGE."""
    if len(content) > MAX_BUNDLE_BYTES:
        raise BundleError(
            Reason.BUNDLE_TOO_LARGE,
            f"the bundle has more than {MAX_BUNDLE_BYTES} bytes, which is the limit; "
            "compile it with fewer regions (--max-regions)",
        )


def check_magic(content: bytes) -> None:
    """Raises BUNDLE_MAGIC."""
    got = content[: len(MAGIC)]
    if got != MAGIC:
        raise BundleError(
            Reason.BUNDLE_MAGIC,
            f"this is no gate bundle: it begins with {got!r}, a bundle begins with {MAGIC!r}; "
            "give a file that `sidecar compile` wrote",
        )


def check_version(content: bytes) -> None:
    """Raises BUNDLE_VERSION, and BUNDLE_TRUNCATED for a file that ends before its version does."""
    if len(content) < _HEADER_BYTES:
        raise _cut_off(f"{len(content)} bytes do not even hold the header of {_HEADER_BYTES} bytes")
    (version,) = _VERSION.unpack_from(content, len(MAGIC))
    if version != FORMAT_VERSION:
        raise BundleError(
            Reason.BUNDLE_VERSION,
            f"the bundle has format version {version}, this sidecar reads version {FORMAT_VERSION}; "
            "compile it again with this release, or run the release that wrote it",
        )


def split_block(content: bytes) -> tuple[bytes, bytes]:
    """The bundle as it was sealed, and the signature block behind it, empty where there is none.

    Raises BUNDLE_TRUNCATED when the file is shorter than it says itself, or has something else appended.
    """
    (length,) = _LENGTH.unpack_from(content, len(MAGIC) + _VERSION.size)
    if len(content) - length not in (0, *BLOCK_SIZES):
        raise _cut_off(f"the file has {len(content)} bytes and says that it has {length}")
    if length < _HEADER_BYTES + _TRAILER_BYTES:
        raise _cut_off(f"{length} bytes cannot hold header and trailer")
    return content[:length], content[length:]


def check_digest(content: bytes) -> None:
    """Raises BUNDLE_DIGEST."""
    trailer = len(content) - _TRAILER_BYTES
    digest = len(content) - hashlib.sha256().digest_size
    if content[trailer:digest] != _TRAILER_KIND:
        raise BundleError(
            Reason.BUNDLE_DIGEST,
            f"unknown kind of trailer {content[trailer:digest]!r}, expected {_TRAILER_KIND!r}; copy the bundle again",
        )
    computed = hashlib.sha256(memoryview(content)[:digest]).digest()
    if computed != content[digest:]:
        raise BundleError(
            Reason.BUNDLE_DIGEST,
            f"the bundle was changed after it was written: its contents have SHA-256 {computed.hex()}, its trailer "
            f"says {content[digest:].hex()}; copy it again from where it was compiled",
        )


def split_sections(content: bytes) -> Payloads:
    """The payloads, every section of format version 1 once and in order. Raises BUNDLE_SECTIONS."""
    end = len(content) - _TRAILER_BYTES
    at = _HEADER_BYTES
    payloads = []
    for section in Section:
        start = at + _TAG_BYTES + _LENGTH.size
        tag = content[at : min(at + _TAG_BYTES, end)]
        if tag != section.value or start > end:
            raise _wrong_sections(f"at byte {at} stands {tag!r} where section {section.value!r} must begin")
        (length,) = _LENGTH.unpack_from(content, at + _TAG_BYTES)
        if length > end - start:
            raise _wrong_sections(f"section {section.value!r} claims {length} bytes and {end - start} are left")
        payloads.append((section, content[start : start + length]))
        at = start + length
    if at != end:
        raise _wrong_sections(f"{end - at} bytes follow the last section, beginning {content[at : at + _TAG_BYTES]!r}")
    return tuple(payloads)


def _cut_off(got: str) -> BundleError:
    return BundleError(
        Reason.BUNDLE_TRUNCATED, f"the bundle is cut off or has something appended: {got}; copy it again"
    )


def _wrong_sections(got: str) -> BundleError:
    expected = ", ".join(section.name.lower() for section in Section)
    return BundleError(
        Reason.BUNDLE_SECTIONS, f"{got}; expected exactly the sections {expected}, in this order; compile it again"
    )
