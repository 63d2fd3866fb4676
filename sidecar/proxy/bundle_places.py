"""Where bundles come from: files, folders of them, and URLs; each place is read only when it may have changed.

Reading gives bytes and judges nothing. A folder's places are its ``*.gates`` of the moment: names are followed
through symbolic links, so that a ConfigMap's swap of ``..data`` is a change of every file below it.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.config import BundleSource, Source
from sidecar.errors import BundleError, Reason
from sidecar.proxy.watched_file import WatchedFile

SUFFIX: Final = ".gates"


class Reader(Protocol):
    """Reads one place again and again."""

    def read(self) -> bytes | None:
        """The content, at most one byte more than a bundle may have; None where it is what the last call gave.

        Raises:
            BundleError: it cannot be read; the next call gives content again.
        """

    def forget(self) -> None:
        """Take nothing for unchanged at the next call."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One thing to read.

    Args:
        name: for logs, status and as its identity: the path or URL, after ``MODEL=`` where the source names one.
        path: the file; None for a URL.
        source: the setting that it comes from.
    """

    name: str
    path: Path | None
    source: Source

    @property
    def location(self) -> str:
        """All of the path or URL; it may hold a secret."""
        return str(self.path) if isinstance(self.source, BundleSource) else self.source.url


def is_folder(source: Source) -> bool:
    """Whether the source is a folder at this moment. What cannot be told is none: reading it will say why."""
    try:
        return isinstance(source, BundleSource) and source.path.is_dir()
    except OSError:
        return False


def is_there(place: Place) -> bool:
    """Whether the place is a file that exists, as far as can be told."""
    try:
        return place.path is not None and place.path.exists()
    except OSError:
        return False


def places_of(source: Source) -> Iterator[Place]:
    """The places of a source at this moment, in order of their names.

    Raises:
        BundleError: the source is a folder that cannot be listed.
    """
    name = source.name
    if not isinstance(source, BundleSource):
        yield Place(name, None, source)
    elif not is_folder(source):
        yield Place(name, source.path, source)
    else:
        for path in _listed(source.path):
            yield Place(f"{name}/{path.name}", path, source)


def _listed(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BundleError(
            Reason.BUNDLE_UNREADABLE, f"cannot list the folder: {error.strerror}; make it readable, or name another"
        ) from error
    return [folder / name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]


class FileReader:
    """Reads a file; nothing but a ``stat`` where it is as it was."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, MAX_BUNDLE_BYTES)

    def forget(self) -> None:
        """See :class:`Reader`."""
        self._file.forget()

    def read(self) -> bytes | None:
        """See :class:`Reader`."""
        try:
            return self._file.read()
        except OSError as error:
            raise BundleError(
                Reason.BUNDLE_UNREADABLE, f"cannot read it: {error.strerror}; put a bundle there, or name another path"
            ) from error
