"""Bundles on disk: read no more than a bundle may have, write all of it or nothing."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from sidecar.bundle.acceptance import accept
from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.bundle.values import Bundle
from sidecar.errors import InputError, OperationError


def read_bundle(path: Path) -> tuple[bytes, Bundle]:
    """The file's content and the bundle that it means.

    Raises:
        InputError: the file cannot be read.
        BundleError: it is no acceptable bundle.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the bundle {path}: {error.strerror}; give the path of a file that `sidecar compile` wrote"
        ) from error
    return content, accept(content)


def require_writable(path: Path) -> None:
    """See before hours of work that :func:`write_file_atomically` will succeed after them; raises as it does."""
    with _temporary(path, 1) as temporary:
        temporary.touch(exist_ok=False)


def write_file_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole: who opens ``path`` sees the old content or the new, never a part.

    Raises:
        InputError: the path names no file.
        OperationError: it cannot be written; what stood there before still does.
    """
    with _temporary(path, len(content)) as temporary:
        _write_through(temporary, content)
        temporary.replace(path)
        _flush_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path, size: int) -> Iterator[Path]:
    """A name beside ``path`` for a file that is gone afterwards, in any case."""
    if not path.name or path.is_dir():
        raise InputError(f"cannot write {path}: expected the path of a file, got a folder; add a file name")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OperationError(
            f"cannot write {path}: {error.strerror}; see that the folder exists, is writable and has {size} bytes left"
        ) from error


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Without this a power cut could still undo the rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
