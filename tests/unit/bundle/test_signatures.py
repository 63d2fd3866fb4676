"""Signed bundles: exactly these bytes, by exactly these keys."""

import dataclasses
import datetime
import struct

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings

from sidecar.bundle.acceptance import accept, claimed_signature, digest
from sidecar.bundle.codec import encode
from sidecar.bundle.signature import (
    SIGNATURE_BLOCK_BYTES,
    SignedBy,
    Trust,
    fingerprint,
    new_key,
    read_private_key,
    read_public_key,
    sign,
    signed_by,
)
from sidecar.errors import BundleError, InputError, Reason

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def _trust(*keys: Ed25519PrivateKey, unsigned: bool = False) -> Trust:
    return Trust({fingerprint(key.public_key()): key.public_key() for key in keys}, unsigned)


@pytest.fixture
def sealed(bundle) -> bytes:
    return encode(bundle)


def _refused(content: bytes, trust: Trust) -> Reason:
    with pytest.raises(BundleError) as caught:
        accept(content, trust)
    return caught.value.reason


def test_a_signed_bundle_means_what_the_sealed_one_means(sealed):
    signed = sign(sealed, KEY)
    assert len(signed) == len(sealed) + SIGNATURE_BLOCK_BYTES
    assert encode(accept(signed, _trust(OTHER, KEY))) == sealed
    assert digest(signed) == digest(sealed)


def test_signing_is_deterministic(sealed):
    assert sign(sealed, KEY) == sign(sealed, KEY)


END = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)


def _block(sealed: bytes, kind: bytes, end: bytes = b"", key: Ed25519PrivateKey = KEY) -> bytes:
    """A block of this kind, with a signature that fits."""
    signed = sealed + kind + bytes.fromhex(fingerprint(key.public_key())) + end
    return signed + key.sign(signed)


def test_a_signature_may_end_and_then_says_so_under_its_own_signature(sealed):
    signed = sign(sealed, KEY, END)
    assert signed == _block(sealed, b"ED25519T", struct.pack("<Q", 1798761600))
    assert encode(accept(signed, _trust(KEY))) == sealed
    assert digest(signed) == digest(sealed)
    assert claimed_signature(signed) == SignedBy(fingerprint(KEY.public_key()), END)


def test_its_end_is_the_first_moment_at_which_it_does_not_count():
    signed, second = SignedBy("k", END), datetime.timedelta(seconds=1)
    assert [signed.has_ended(END - second), signed.has_ended(END), signed.has_ended(END + second)] == [0, 1, 1]
    assert not SignedBy("k").has_ended(END)


def test_an_end_cannot_be_moved_added_or_taken_off(sealed):
    ending, endless = sign(sealed, KEY, END), sign(sealed, KEY)
    moved = ending[:-72] + struct.pack("<Q", 1798761601) + ending[-64:]
    head = ending[len(sealed) + 8 : -72]
    taken_off = sealed + b"ED25519 " + head + ending[-64:]
    added = sealed + b"ED25519T" + head + struct.pack("<Q", 1798761600) + endless[-64:]
    for forged in (moved, taken_off, added):
        assert _refused(forged, _trust(KEY, unsigned=True)) is Reason.BUNDLE_SIGNATURE


def test_a_kind_that_does_not_fit_its_length_is_refused(sealed):
    for odd in (_block(sealed, b"ED25519T"), _block(sealed, b"ED25519 ", bytes(8))):
        assert _refused(odd, _trust(KEY)) is Reason.BUNDLE_SIGNATURE


@pytest.mark.parametrize("seconds", [253402214401, 2**63, 2**64 - 1])
def test_an_end_that_is_no_moment_is_refused(sealed, seconds):
    assert _refused(_block(sealed, b"ED25519T", struct.pack("<Q", seconds)), _trust(KEY)) is Reason.BUNDLE_SIGNATURE


@pytest.mark.parametrize("seconds", [0, 253402214400])
def test_the_first_and_the_last_moment_are_read(sealed, seconds):
    signed = _block(sealed, b"ED25519T", struct.pack("<Q", seconds))
    accept(signed, _trust(KEY))
    assert claimed_signature(signed).end.timestamp() == seconds


def test_signed_without_a_known_key_is_refused_whatever_the_policy(sealed):
    signed = sign(sealed, KEY)
    assert _refused(signed, Trust()) is Reason.BUNDLE_SIGNATURE
    assert _refused(signed, _trust(OTHER, unsigned=True)) is Reason.BUNDLE_SIGNATURE
    assert _refused(signed, _trust(OTHER)) is Reason.BUNDLE_SIGNATURE


def test_unsigned_is_accepted_only_where_the_policy_says_so(sealed):
    assert _refused(sealed, _trust(KEY)) is Reason.BUNDLE_UNSIGNED
    accept(sealed, _trust(KEY, unsigned=True))


def test_a_key_that_claims_to_be_another_is_refused(sealed):
    signed = sign(sealed, OTHER)
    posing = signed[: len(sealed) + 8] + bytes.fromhex(fingerprint(KEY.public_key())) + signed[-64:]
    assert _refused(posing, _trust(KEY)) is Reason.BUNDLE_SIGNATURE


def test_a_signature_of_another_bundle_is_refused(sealed, bundle):
    other = encode(dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, revision=99)))
    moved = sealed + sign(other, KEY)[-SIGNATURE_BLOCK_BYTES:]
    assert _refused(moved, _trust(KEY)) is Reason.BUNDLE_SIGNATURE


def test_two_signatures_are_refused(sealed):
    assert _refused(sign(sign(sealed, KEY), KEY), _trust(KEY)) is Reason.BUNDLE_TRUNCATED


@pytest.mark.parametrize("kind", [b"ed25519 ", b"RSA     ", b"\0" * 8])
def test_unknown_kinds_of_signature_are_refused(sealed, kind):
    signed = sign(sealed, KEY)
    at = len(sealed)
    assert _refused(signed[:at] + kind + signed[at + 8 :], _trust(KEY, unsigned=True)) is Reason.BUNDLE_SIGNATURE


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from([None, END]))
def test_every_flipped_bit_is_refused(sealed, data, end):
    signed = bytearray(sign(sealed, KEY, end))
    bit = data.draw(st.integers(0, 8 * len(signed) - 1))
    signed[bit // 8] ^= 1 << bit % 8
    _refused(bytes(signed), _trust(KEY))


def test_the_key_files_of_keygen_go_together(sealed):
    private, public = new_key()
    key = read_private_key(private, "k")
    assert fingerprint(key.public_key()) == fingerprint(read_public_key(public, "k.pub"))
    signed = sign(sealed, key)
    assert signed_by(signed[len(sealed) :]) == SignedBy(fingerprint(key.public_key()))
    assert new_key()[0] != private


def test_other_key_files_are_refused_by_name():
    elliptic = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = elliptic.private_bytes(encoding, form, serialization.NoEncryption())
    locked = elliptic.private_bytes(encoding, form, serialization.BestAvailableEncryption(b"secret"))
    public = elliptic.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    for content, words in ((private, "Ed25519"), (locked, "unencrypted"), (b"no key", "PEM"), (public, "PEM")):
        with pytest.raises(InputError, match=f"^a.key: .*{words}"):
            read_private_key(content, "a.key")
    for content, words in ((public, "Ed25519"), (private, "PEM"), (b"", "PEM")):
        with pytest.raises(InputError, match=f"^a.pub: .*{words}"):
            read_public_key(content, "a.pub")
