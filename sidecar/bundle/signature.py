"""Who vouches for a bundle: an Ed25519 signature over its exact bytes.

A signed bundle is the bundle as it was sealed, followed by one block:

    kind       8 bytes   "ED25519 ", or "ED25519T" for one that ends
    key        32 bytes  SHA-256 of the raw public key; says which key, and is no reason to trust it
    end        8 bytes   in one that ends only: from when on it does not count, u64, whole seconds since 1970, UTC
    signature  64 bytes  over all bytes before it, kind, key and end included

All numbers are little-endian. One algorithm, over raw bytes, without exclusions or options: there is nothing to choose
and nothing to confuse. Keys come from outside only, never from a bundle. The bundle's own length field says where the
block would begin, so no sealed bundle can pass for a signed one. What is checked here is timeless: what the end of a
signature means is for those to say who know what time it is and what guards already (:mod:`sidecar.proxy.succession`).

Source: RFC 8032 (Ed25519), RFC 8410 and RFC 5958 (the key files).
"""

import dataclasses
import datetime
import hashlib
import struct
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sidecar.errors import BundleError, InputError, Reason

_KIND: Final = b"ED25519 "
_KIND_WITH_END: Final = b"ED25519T"
_END: Final = struct.Struct("<Q")
_LATEST_END: Final = int(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC).timestamp())
"""The last day that dates can name."""

_KEY_BYTES: Final = hashlib.sha256().digest_size
_SIGNATURE_BYTES: Final = 64
_HEAD_BYTES: Final = len(_KIND) + _KEY_BYTES
SIGNATURE_BLOCK_BYTES: Final = _HEAD_BYTES + _SIGNATURE_BYTES
"""What signing adds to a bundle."""

BLOCK_SIZES: Final = (SIGNATURE_BLOCK_BYTES, SIGNATURE_BLOCK_BYTES + _END.size)
"""Of a block without an end, and with one."""


@dataclasses.dataclass(frozen=True)
class SignedBy:
    """What a signature block says of itself.

    Args:
        key: the fingerprint of the key.
        end: from when on it does not count any more, UTC; None for never.
    """

    key: str
    end: datetime.datetime | None = None

    def has_ended(self, now: datetime.datetime) -> bool:
        """Whether it counts no more."""
        return self.end is not None and self.end <= now


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


def sign(sealed: bytes, key: Ed25519PrivateKey, end: datetime.datetime | None = None) -> bytes:
    """The signed bundle.

    Args:
        sealed: the bundle without a signature block.
        key: to sign with.
        end: from when on the signature does not count any more, in whole seconds; None for never.
    """
    name = bytes.fromhex(fingerprint(key.public_key()))
    signed = sealed + (_KIND + name if end is None else _KIND_WITH_END + name + _END.pack(int(end.timestamp())))
    return signed + key.sign(signed)


def signed_by(block: bytes) -> SignedBy:
    """What a block says, unverified. Raises BUNDLE_SIGNATURE for another kind of block, or an end that is no moment."""
    kind, key = block[: len(_KIND)], block[len(_KIND) : _HEAD_BYTES].hex()
    if (kind, len(block)) == (_KIND, BLOCK_SIZES[0]):
        return SignedBy(key)
    if (kind, len(block)) != (_KIND_WITH_END, BLOCK_SIZES[1]):
        raise BundleError(
            Reason.BUNDLE_SIGNATURE,
            f"unknown kind of signature {kind!r} of {len(block)} bytes, expected {_KIND!r} or {_KIND_WITH_END!r}; "
            "sign the bundle with `sidecar sign`",
        )
    (seconds,) = _END.unpack_from(block, _HEAD_BYTES)
    if seconds > _LATEST_END:
        raise BundleError(
            Reason.BUNDLE_SIGNATURE,
            f"the signature says that it ends {seconds} seconds after 1970, expected at most {_LATEST_END}; "
            "sign the bundle with `sidecar sign`",
        )
    return SignedBy(key, datetime.datetime.fromtimestamp(seconds, datetime.UTC))


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
    name = signed_by(block).key
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
