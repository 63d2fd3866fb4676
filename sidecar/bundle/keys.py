"""Key files: making a pair, and reading whom to trust. Keys come from files that people place, never from a bundle."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar.bundle.signature import Trust, fingerprint, new_key, read_private_key, read_public_key
from sidecar.errors import InputError, OperationError

MAX_KEY_FILE_BYTES: Final = 1 << 16
"""An Ed25519 key in PEM has some 120 bytes; comments around it are allowed."""

PUBLIC_SUFFIX: Final = ".pub"
"""What the public key's file is called, after the private key's name."""


def create_key_files(path: Path) -> tuple[Path, str]:
    """Write a fresh private key, readable by its owner only, and beside it the public one.

    Returns:
        The public key's file, and its fingerprint.

    Raises:
        InputError: one of the files exists; a key is never written over.
        OperationError: they cannot be written.
    """
    if not path.name:
        raise InputError(f"cannot write {path}: it has no file name; give --output the path of a file")
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for each in (path, public_path):
        if os.path.lexists(each):
            raise InputError(f"{each} exists, and a key is never written over; give another --output, or remove it")
    private, public = new_key()
    _write_new(path, private, 0o600)
    _write_new(public_path, public, 0o644)
    return public_path, fingerprint(read_public_key(public, str(public_path)))


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OperationError(f"cannot write {path}: {error.strerror}; see that the folder is writable") from error


def read_private_key_file(path: Path) -> Ed25519PrivateKey:
    """The key to sign with. Raises InputError: not readable, or no Ed25519 private key."""
    return read_private_key(_read(path, "give the private key that `sidecar keygen` wrote"), str(path))


def read_trust(paths: Iterable[Path], unsigned: bool) -> Trust:
    """Whose bundles are accepted: the owners of these public keys.

    Args:
        paths: public keys in PEM.
        unsigned: whether bundles without a signature are accepted too.

    Raises:
        InputError: a file cannot be read, or holds no Ed25519 public key.
    """
    keys = [read_public_key(_read(path, "give the .pub file of `sidecar keygen`"), str(path)) for path in paths]
    return Trust({fingerprint(key): key for key in keys}, unsigned)


def _read(path: Path, instead: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the key {path}: {error.strerror}; {instead}") from error
    if len(content) > MAX_KEY_FILE_BYTES:
        raise InputError(f"{path}: larger than {MAX_KEY_FILE_BYTES} bytes, so no key; {instead}")
    return content
