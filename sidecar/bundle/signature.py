"""Who vouches for a bundle: an Ed25519 signature over its exact bytes.

A signed bundle is the bundle as it was sealed, followed by one block:

    kind       8 bytes   "ED25519 "
    key        32 bytes  SHA-256 of the raw public key; says which key, and is no reason to trust it
    signature  64 bytes  over all bytes before it, kind and key included

One algorithm, over raw bytes, without exclusions or options: there is nothing to choose and nothing to confuse. Keys
come from outside only, never from a bundle. The bundle's own length field says where the block would begin, so no
sealed bundle can pass for a signed one.

Source: RFC 8032 (Ed25519), RFC 8410 and RFC 5958 (the key files).
"""

import dataclasses
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sidecar.errors import BundleError, InputError, Reason

_KIND: Final = b"ED25519 "
_KEY_BYTES: Final = hashlib.sha256().digest_size
_SIGNATURE_BYTES: Final = 64
SIGNATURE_BLOCK_BYTES: Final = len(_KIND) + _KEY_BYTES + _SIGNATURE_BYTES
"""What signing adds to a bundle."""


@dataclasses.dataclass(frozen=True)
class Trust:
    """Whose bundles are accepted.

    Args:
        keys: public keys by their fingerprint.
        unsigned: whether a bundle without a signature is accepted too. One with a signature must verify either way.
    """

    keys: dict[str, Ed25519PublicKey] = dataclasses.field(default_factory=dict)
    unsigned: bool = True


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, lower-case hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(sealed: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed bundle; ``sealed`` is the bundle without a signature block."""
    signed = sealed + _KIND + bytes.fromhex(fingerprint(key.public_key()))
    return signed + key.sign(signed)


def signer(block: bytes) -> str:
    """The fingerprint that a block names, unverified. Raises BUNDLE_SIGNATURE for another kind of block."""
    if not block.startswith(_KIND):
        raise BundleError(
            Reason.BUNDLE_SIGNATURE,
            f"unknown kind of signature {block[: len(_KIND)]!r}, expected {_KIND!r}; "
            "sign the bundle with `sidecar sign`",
        )
    return block[len(_KIND) : len(_KIND) + _KEY_BYTES].hex()


def check_signature(sealed: bytes, block: bytes, trust: Trust) -> None:
    """Accept a bundle's signature, or its absence.

    Args:
        sealed: the bundle without its signature block.
        block: what follows it; empty in an unsigned bundle.
        trust: whom to believe.

    Raises:
        BundleError: BUNDLE_UNSIGNED, or BUNDLE_SIGNATURE where the signature is by nobody known or does not verify.
    """
    if not block:
        if not trust.unsigned:
            raise BundleError(
                Reason.BUNDLE_UNSIGNED,
                "the bundle is not signed and only signed ones are accepted here; sign it with `sidecar sign`",
            )
        return
    name = signer(block)
    if name not in trust.keys:
        known = ", ".join(sorted(key[:16] for key in trust.keys)) or "none"
        raise BundleError(
            Reason.BUNDLE_SIGNATURE,
            f"the bundle is signed with key {name[:16]}..., which is not trusted here (trusted: {known}); "
            "give the signer's public key with --trust, if that is whom you mean to trust",
        )
    try:
        trust.keys[name].verify(block[-_SIGNATURE_BYTES:], sealed + block[:-_SIGNATURE_BYTES])
    except InvalidSignature:
        raise BundleError(
            Reason.BUNDLE_SIGNATURE,
            f"the signature with key {name[:16]}... does not fit the bundle: one of them was changed; copy it again",
        ) from None


def new_key() -> tuple[bytes, bytes]:
    """A fresh key pair: the private key as PKCS #8 PEM, the public one as SubjectPublicKeyInfo PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def read_private_key(pem: bytes, origin: str) -> Ed25519PrivateKey:
    """A private key from PEM. Raises InputError naming ``origin``."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{origin}: no unencrypted private key in PEM ({error}); make one with `sidecar keygen`"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{origin}: expected an Ed25519 key, got {type(key).__name__}; make one with `sidecar keygen`")
    return key


def read_public_key(pem: bytes, origin: str) -> Ed25519PublicKey:
    """A public key from PEM. Raises InputError naming ``origin``."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{origin}: no public key in PEM ({error}); give the .pub file of `sidecar keygen`") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(
            f"{origin}: expected an Ed25519 key, got {type(key).__name__}; give the .pub file of `sidecar keygen`"
        )
    return key
