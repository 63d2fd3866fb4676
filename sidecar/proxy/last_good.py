"""The last good bundles on disk: for a start when their source is gone or bad.

One file for each place, named by digests of the source's and the place's names, so that no name from outside
becomes a path. What is read here passes acceptance and self-test again: the folder is no source of trust.
"""

import hashlib
from pathlib import Path
from typing import Final

from sidecar.bundle.files import read_regular, write_file_atomically
from sidecar.bundle.limits import MAX_BUNDLE_BYTES

_DIGITS: Final = 32


class LastGood:
    """The files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    def keep(self, source: str, place: str, content: bytes) -> None:
        """Keep the bundle of a place instead of the one before.

        Raises:
            CommandError: it cannot be written; the one before is still there.
        """
        write_file_atomically(self.of_place(source, place), content)

    def of_place(self, source: str, place: str) -> Path:
        """Where the bundle of a place is kept, if one is."""
        return self.folder / f"{_short(source)}-{_short(place)}.gates"

    def of_source(self, source: str) -> list[Path]:
        """Where the bundles of all places of a source are kept."""
        return sorted(self.folder.glob(f"{_short(source)}-*.gates"))


def read_kept(path: Path) -> bytes | None:
    """The content of such a file; None where it is not there.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return read_regular(path, MAX_BUNDLE_BYTES)[0]
    except FileNotFoundError:
        return None


def _short(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
