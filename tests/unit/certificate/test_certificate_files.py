"""Certificates as bytes: what is written is read back, and what is not written just so is unreadable."""

import dataclasses
import hashlib
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sidecar.bundle.codec import encode
from sidecar.certificate import codec
from sidecar.certificate.check import check
from sidecar.certificate.values import Apart, Certificate
from sidecar.errors import BundleError, InputError, Reason
from tests.unit.certificate.conftest import Sealed


def _regions(sealed: Sealed) -> list[int]:
    return [len(gate.domain) for gate in sealed.bundle.gates]


def _resealed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def test_decoding_reverses_encoding(sealed: Sealed) -> None:
    apart = Apart(((0, 0), (1, 0)), ((0, 0, 0, Fraction(1, 3)),))
    certificate = dataclasses.replace(sealed.certificate, meeting=(*sealed.certificate.meeting, apart))
    content = codec.encode(certificate)
    again = codec.decode(content, _regions(sealed))
    assert codec.encode(again) == content
    assert again.meeting == certificate.meeting
    assert (again.bundle_digest, again.model_digest) == (certificate.bundle_digest, certificate.model_digest)
    np.testing.assert_array_equal(again.leaves[1][0].thresholds, certificate.leaves[1][0].thresholds)


def _with_statement(content: bytes, before: bytes, after: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", content, 12)
    statement = content[16 : 16 + length].replace(before, after)
    return _resealed(content[:12] + struct.pack("<I", len(statement)) + statement + content[16 + length : -32])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:0], "0 bytes beginning"),
        (lambda c: b"X" + c[1:], "beginning"),
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "it was changed"),
        (lambda c: c[:40], "it was changed"),
        (lambda c: _resealed(c[:8] + struct.pack("<I", 2) + c[12:-32]), "format version 2"),
        (lambda c: _resealed(c[:-33]), "bytes left"),
        (lambda c: _resealed(c[:-32] + b"\0"), "beyond its end"),
        (lambda c: _with_statement(c, b"{", b"{ "), "the one way"),
        (lambda c: _with_statement(c, b'"ieee32"', b'"fp8"'), "one of ieee32, ieee64, tf32, bf16, fp16, ieee16"),
        (lambda c: _with_statement(c, b'{"answer"', b'{"question"'), "one of divide, answer, apart"),
        (lambda c: _with_statement(c, b'[{"divide":[0,"7/8"]}', b'[{"divide":[0]}'), "2 elements"),
        (lambda c: _with_statement(c, b'[{"divide"', b'[{},{"divide"'), "one of divide, answer, apart"),
    ],
)
def test_what_is_not_written_just_so_is_unreadable(sealed: Sealed, change, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        codec.decode(change(codec.encode(sealed.certificate)), _regions(sealed))
    assert caught.value.reason is Reason.BUNDLE_CERTIFICATE


def test_a_certificate_speaks_about_as_many_regions_as_the_bundle(sealed: Sealed) -> None:
    fewer = dataclasses.replace(sealed.certificate, leaves=sealed.certificate.leaves[:-1])
    with pytest.raises(BundleError, match="proofs for 3 regions, expected 4"):
        codec.decode(codec.encode(fewer), _regions(sealed))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the certificate .*nothing\.gates\.cert: No such file"):
        codec.read(codec.certificate_path(tmp_path / "nothing.gates"))


def test_a_file_is_read_whole(sealed: Sealed, tmp_path: Path) -> None:
    path = codec.certificate_path(tmp_path / "b.gates")
    path.write_bytes(codec.encode(sealed.certificate))
    assert codec.read(path) == codec.encode(sealed.certificate)


def test_a_certificate_of_another_bundle_is_refused(sealed: Sealed) -> None:
    other: Certificate = dataclasses.replace(sealed.certificate, bundle_digest="0" * 64)
    with pytest.raises(Exception, match="the certificate's bundle digest: got '0000"):
        check(encode(sealed.bundle), codec.encode(other), sealed.model, 1, lambda *_: None)
