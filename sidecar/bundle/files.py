"""Bundles on disk: read no more than a bundle may have, write all of it or nothing."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from sidecar.bundle.acceptance import accept_unverified
from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.bundle.values import Bundle
from sidecar.errors import InputError, OperationError


def read_bundle(path: Path) -> tuple[bytes, Bundle]:
    """The file's content and the bundle that it means, for people to look at: no signature is verified.

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
    return content, accept_unverified(content)


def read_regular(path: Path, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """What a regular file holds, no more of it than shows that it is larger than the limit; and its status, from
    before it was read.

    For files that may be replaced at any time by anything: a pipe is an error here, not something to wait for.

    Raises:
        OSError: it is not there, not readable, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1), found
    finally:
        os.close(descriptor)


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
    try:
        if not path.name or path.is_dir():
            raise InputError(f"cannot write {path}: expected the path of a file, got a folder; add a file name")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
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
