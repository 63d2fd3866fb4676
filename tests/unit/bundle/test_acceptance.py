"""Acceptance: what is good comes back as it was, what is damaged or hostile is refused for the right reason."""

import dataclasses
import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sidecar.bundle import limits
from sidecar.bundle.acceptance import accept, digest
from sidecar.bundle.codec import encode
from sidecar.bundle.container import Section, pack, split_sections
from sidecar.bundle.values import Bundle
from sidecar.errors import BundleError, Reason

GOLDEN = Path(__file__).parent / "golden" / "version_1.gates"
DIGEST_BYTES = 32


def reseal(preceding: bytes) -> bytes:
    """Bytes before the digest, with a digest that fits them."""
    return preceding + hashlib.sha256(preceding).digest()


def refusal(content: bytes) -> BundleError:
    with pytest.raises(BundleError) as caught:
        accept(content)
    return caught.value


def replaced(bundle: Bundle, section: Section, change: Callable[[bytes], bytes]) -> bytes:
    """The bundle's file with one section's payload changed, lengths and digest made good."""
    payloads = split_sections(encode(bundle))
    return pack([(name, change(payload) if name is section else payload) for name, payload in payloads])


def test_the_good_bundle_is_accepted_and_encodes_to_the_same_bytes(bundle: Bundle) -> None:
    content = encode(bundle)
    accepted = accept(content)
    assert accepted.manifest == bundle.manifest
    assert accepted.gates == bundle.gates
    assert accepted.sources == bundle.sources
    for got, expected in zip(
        [tree for of_gate in accepted.coverage for tree in of_gate],
        [tree for of_gate in bundle.coverage for tree in of_gate],
        strict=True,
    ):
        for field in dataclasses.fields(got):
            array = getattr(got, field.name)
            np.testing.assert_array_equal(array, getattr(expected, field.name))
            assert array.dtype == getattr(expected, field.name).dtype
            assert not array.flags.writeable
    for field in dataclasses.fields(accepted.vectors):
        assert getattr(accepted.vectors, field.name).tobytes() == getattr(bundle.vectors, field.name).tobytes()
    assert encode(accepted) == content


def test_the_golden_bundle_of_version_1_loads_for_ever(bundle: Bundle) -> None:
    content = GOLDEN.read_bytes()
    assert accept(content).manifest == bundle.manifest
    assert encode(bundle) == content
    assert digest(content) == hashlib.sha256(content).hexdigest()


def test_the_manifest_can_be_read_in_the_file(bundle: Bundle) -> None:
    assert b'"name": "brake"' in encode(bundle)
    assert "See the hazard analysis, § 3." in encode(bundle).decode("utf-8", errors="replace")


def test_a_bundle_cut_off_anywhere_is_refused(bundle: Bundle) -> None:
    content = encode(bundle)
    reasons = {refusal(content[:length]).reason for length in range(len(content))}
    assert reasons == {Reason.BUNDLE_MAGIC, Reason.BUNDLE_TRUNCATED}


def test_an_appended_byte_is_refused(bundle: Bundle) -> None:
    assert refusal(encode(bundle) + b"\0").reason is Reason.BUNDLE_TRUNCATED


def test_every_flipped_bit_is_refused(bundle: Bundle) -> None:
    content = encode(bundle)
    reasons = set()
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            reasons.add(refusal(bytes(damaged)).reason)
    assert reasons == {
        Reason.BUNDLE_MAGIC,
        Reason.BUNDLE_VERSION,
        Reason.BUNDLE_TRUNCATED,
        Reason.BUNDLE_DIGEST,
    }


def test_every_flipped_bit_before_the_digest_is_refused_or_changes_the_meaning(bundle: Bundle) -> None:
    """With the digest made good, no two files mean the same bundle: what is accepted encodes to its own bytes."""
    content = encode(bundle)
    accepted = 0
    for position in range(len(content) - DIGEST_BYTES):
        damaged = bytearray(content[:-DIGEST_BYTES])
        damaged[position] ^= 1 << (position % 8)
        resealed = reseal(bytes(damaged))
        try:
            again = accept(resealed)
        except BundleError:
            continue
        accepted += 1
        assert encode(again) == resealed
    assert accepted > 0  # letters of a title, say


def test_too_large_a_file_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setattr("sidecar.bundle.container.MAX_BUNDLE_BYTES", 100)
    assert refusal(encode(bundle)).reason is Reason.BUNDLE_TOO_LARGE
    assert refusal(bytes(101)).reason is Reason.BUNDLE_TOO_LARGE


def test_an_unknown_trailer_is_refused(bundle: Bundle) -> None:
    content = encode(bundle).replace(b"SHA-256 ", b"MD5     ")
    error = refusal(reseal(content[:-DIGEST_BYTES]))
    assert error.reason is Reason.BUNDLE_DIGEST
    assert "MD5" in error.message


def test_a_header_alone_is_refused(bundle: Bundle) -> None:
    header = encode(bundle)[:12] + struct.pack("<Q", 20)
    assert refusal(header).reason is Reason.BUNDLE_TRUNCATED


def _sections(bundle: Bundle) -> list[bytes]:
    return [name.value + struct.pack("<Q", len(payload)) + payload for name, payload in split_sections(encode(bundle))]


def _whole(body: bytes) -> bytes:
    header = b"\x89GATES\r\n" + struct.pack("<IQ", 1, 20 + len(body) + 40)
    return reseal(header + body + b"SHA-256 ")


WRONG_SECTIONS: dict[str, Callable[[list[bytes]], bytes]] = {
    "none": lambda _: b"",
    "one missing": lambda sections: b"".join(sections[:2] + sections[3:]),
    "last missing": lambda sections: b"".join(sections[:-1]),
    "two exchanged": lambda sections: b"".join([*sections[:2], sections[3], sections[2], sections[4]]),
    "one twice": lambda sections: b"".join([sections[0], *sections]),
    "unknown one appended": lambda sections: b"".join(sections) + b"EXTRA   " + struct.pack("<Q", 0),
    "unknown one in front": lambda sections: b"EXTRA   " + struct.pack("<Q", 0) + b"".join(sections),
    "tag cut off": lambda sections: b"".join(sections[:4]) + b"SOUR",
    "length cut off": lambda sections: b"".join(sections[:4]) + b"SOURCES \0\0\0",
    "length beyond the file": lambda sections: sections[0][:8] + struct.pack("<Q", 2**63) + sections[0][16:],
    "length into the trailer": lambda sections: b"".join(sections[:4]) + b"SOURCES " + struct.pack("<Q", 9) + bytes(8),
}


@pytest.mark.parametrize("defect", WRONG_SECTIONS)
def test_wrong_sections_are_refused(bundle: Bundle, defect: str) -> None:
    error = refusal(_whole(WRONG_SECTIONS[defect](_sections(bundle))))
    assert error.reason is Reason.BUNDLE_SECTIONS
    assert "expected exactly the sections manifest, gates, coverage, vectors, sources" in error.message


SECTION_REASON = {
    Section.MANIFEST: Reason.BUNDLE_MANIFEST,
    Section.GATES: Reason.BUNDLE_GATES,
    Section.COVERAGE: Reason.BUNDLE_COVERAGE,
    Section.VECTORS: Reason.BUNDLE_VECTORS,
    Section.SOURCES: Reason.BUNDLE_SOURCES,
}


@pytest.mark.parametrize("section", Section)
def test_a_section_cut_off_anywhere_is_refused_for_its_own_reason(bundle: Bundle, section: Section) -> None:
    payload = dict(split_sections(encode(bundle)))[section]
    for length in range(len(payload)):
        error = refusal(replaced(bundle, section, lambda payload, length=length: payload[:length]))
        assert error.reason is SECTION_REASON[section]


@pytest.mark.parametrize("section", Section)
def test_a_section_with_something_appended_is_refused_for_its_own_reason(bundle: Bundle, section: Section) -> None:
    for appended in (b" ", b"\0", b"{}"):
        error = refusal(replaced(bundle, section, lambda payload, appended=appended: payload + appended))
        assert error.reason is SECTION_REASON[section]


def test_json_written_another_way_is_refused(bundle: Bundle) -> None:
    for section in (Section.MANIFEST, Section.GATES):
        error = refusal(replaced(bundle, section, lambda payload: json.dumps(json.loads(payload)).encode()))
        assert error.reason is SECTION_REASON[section]
        assert "one way" in error.message


HOSTILE: dict[str, tuple[Section, bytes, Reason]] = {
    "regions": (Section.COVERAGE, struct.pack("<I", 2**32 - 1), Reason.BUNDLE_COVERAGE),
    "nodes": (Section.COVERAGE, struct.pack("<II", 2, 2**32 - 1), Reason.BUNDLE_COVERAGE),
    "nodes within the limit": (Section.COVERAGE, struct.pack("<II", 2, 2**27), Reason.BUNDLE_COVERAGE),
    "vectors": (Section.VECTORS, struct.pack("<I", 2**32 - 1), Reason.BUNDLE_VECTORS),
    "vectors within the limit": (Section.VECTORS, struct.pack("<I", 2**27), Reason.BUNDLE_VECTORS),
    "sources": (Section.SOURCES, struct.pack("<I", 2**32 - 1), Reason.BUNDLE_SOURCES),
    "length of a source": (Section.SOURCES, struct.pack("<III", 1, 0, 2**27), Reason.BUNDLE_SOURCES),
    "depth of brackets": (Section.GATES, b"[" * 100_000, Reason.BUNDLE_GATES),
    "number of values": (Section.GATES, b"[" + b"0," * 3_000_000 + b"0]", Reason.BUNDLE_GATES),
    "number of lists": (Section.GATES, b"[" + b"[]," * 3_000_000 + b"0]", Reason.BUNDLE_GATES),
    "digits of an integer": (Section.GATES, b"[" + b"9" * 1_000_000 + b"]", Reason.BUNDLE_GATES),
    "size of the manifest": (Section.MANIFEST, b" " * (limits.MAX_MANIFEST_BYTES + 1), Reason.BUNDLE_MANIFEST),
}


@pytest.mark.parametrize("size", HOSTILE)
def test_a_hostile_size_is_refused_before_memory_is_taken_for_it(bundle: Bundle, size: str) -> None:
    section, payload, reason = HOSTILE[size]
    content = replaced(bundle, section, lambda _: payload)
    tracemalloc.start()
    error = refusal(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.reason is reason
    assert peak < 3 * len(content) + 2**20


def test_a_row_too_long_to_be_true_is_refused_before_memory_is_taken_for_it(bundle: Bundle) -> None:
    def stretch(payload: bytes) -> bytes:
        document = json.loads(payload)
        document["signature"]["inputs"][0]["row_shape"] = [2**18] * 16
        return json.dumps(document).encode()

    content = replaced(bundle, Section.MANIFEST, stretch)
    tracemalloc.start()
    error = refusal(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.reason is Reason.BUNDLE_MANIFEST
    assert peak < 2**20
