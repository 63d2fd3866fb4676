"""Bytes as a file, for readers that take a path."""

import atexit
import shutil
import tempfile
from pathlib import Path

from sidecar.errors import InputError
from tests.fuzz.target import require

LONGEST_MESSAGE = 2000


def written(name: str, content: bytes) -> Path:
    """A file of this name in a folder of this process's."""
    path = _folder() / name
    path.write_bytes(content)
    return path


def _folder() -> Path:
    if not _FOLDERS:
        _FOLDERS.append(Path(tempfile.mkdtemp(prefix="gate-fuzz-")))
        atexit.register(shutil.rmtree, _FOLDERS[0], ignore_errors=True)
    return _FOLDERS[0]


_FOLDERS: list[Path] = []


def check_complaint(error: InputError) -> None:
    """What a person is told is one line of a length that can be read."""
    message = str(error)
    require(
        "\n" not in message and len(message) < LONGEST_MESSAGE, f"told in {len(message)} characters: {message[:200]!r}"
    )
