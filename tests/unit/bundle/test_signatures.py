"""Signed bundles: exactly these bytes, by exactly these keys."""

import dataclasses

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings

from sidecar.bundle.acceptance import accept, digest
from sidecar.bundle.codec import encode
from sidecar.bundle.signature import (
    SIGNATURE_BLOCK_BYTES,
    Trust,
    fingerprint,
    new_key,
    read_private_key,
    read_public_key,
    sign,
    signer,
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
@given(st.data())
def test_every_flipped_bit_is_refused(sealed, data):
    signed = bytearray(sign(sealed, KEY))
    bit = data.draw(st.integers(0, 8 * len(signed) - 1))
    signed[bit // 8] ^= 1 << bit % 8
    _refused(bytes(signed), _trust(KEY))


def test_the_key_files_of_keygen_go_together(sealed):
    private, public = new_key()
    key = read_private_key(private, "k")
    assert fingerprint(key.public_key()) == fingerprint(read_public_key(public, "k.pub"))
    signed = sign(sealed, key)
    assert signer(signed[len(sealed) :]) == fingerprint(key.public_key())
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
