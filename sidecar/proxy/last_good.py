"""The last good bundles on disk: for a start when their source is gone or bad, and so that revisions do not go down
over a restart.

Of each source, one file for each place and one for each model, named by digests of the three names, so that no name
from outside becomes a path. What is read here passes acceptance and self-test again: the folder is no source of trust.
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

    def keep(self, source: str, place: str, model: str, content: bytes) -> None:
        """Keep the bundle of a place instead of the one before, and of the one for its model from another place.

        Raises:
            CommandError: it cannot be written; the one before is still there.
        """
        kept = self.folder / _name(source, place, model)
        write_file_atomically(kept, content)
        for path in (*self.folder.glob(_name(source, place, "*")), *self.folder.glob(_name(source, "*", model))):
            if path != kept:
                path.unlink(missing_ok=True)

    def of_source(self, source: str) -> list[Path]:
        """Where the bundles of a source are kept."""
        return sorted(self.folder.glob(_name(source, "*", "*")))


def is_of_place(kept: Path, place: str) -> bool:
    """Whether a file keeps what was found at a place."""
    return kept.name.split("-")[1] == _short(place)


def read_kept(path: Path) -> bytes | None:
    """The content of such a file; None where it is not there.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return read_regular(path, MAX_BUNDLE_BYTES)[0]
    except FileNotFoundError:
        return None


def _name(*names: str) -> str:
    """Of the file for a source, a place and a model, where ``*`` stands for any."""
    return "-".join("*" if name == "*" else _short(name) for name in names) + ".gates"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
