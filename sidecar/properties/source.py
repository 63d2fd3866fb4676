"""Property files as text with places: how they are read, and how an error points into them.

Everything that a reader refuses ends as one :class:`InputError` line, ``file:line:column: message``.
Code that does not know its place in the file raises a :class:`Complaint`; the nearest code that knows
the place adds it.
"""

import contextlib
import dataclasses
import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sidecar.errors import InputError

_SHOWN_CHARACTERS: Final = 60
"""How much of a file's own words an error message repeats."""


class Complaint(ValueError):
    """Something is wrong, at a place that the caller knows.

    Args:
        message: what was got, what was expected, what to do.
        feature: the position in the input row that it is about, where it is about one.
    """

    def __init__(self, message: str, feature: int | None = None) -> None:
        super().__init__(message)
        self.feature = feature


@dataclasses.dataclass(frozen=True)
class Source:
    """The text of a file; ``name`` is the path as the user gave it."""

    name: str
    text: str

    def error(self, index: int, message: str) -> InputError:
        """An error at the character ``index``."""
        return InputError(f"{self.place(index)}: {message}")

    def place(self, index: int) -> str:
        """Where the character ``index`` stands, ``file:line:column``; lines and columns count from one."""
        line = self.text.count("\n", 0, index) + 1
        column = index - (self.text.rfind("\n", 0, index) + 1) + 1
        return f"{self.name}:{line}:{column}"

    @contextlib.contextmanager
    def at(self, index: int) -> Iterator[None]:
        """Complaints from the block are about the character ``index``."""
        try:
            yield
        except Complaint as complaint:
            raise self.error(index, str(complaint)) from None


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A text that stands in a file, though perhaps not letter for letter (quotes, folded lines).

    Args:
        source: the file.
        value: the text.
        indices: for each character of ``value``, and for its end, the character in the file.
    """

    source: Source
    value: str
    indices: tuple[int, ...]

    def error(self, index: int, message: str) -> InputError:
        """An error at the character ``index`` of the value."""
        return self.source.error(self.indices[index], message)

    def at(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Complaints from the block are about the character ``index`` of the value."""
        return self.source.at(self.indices[index])


def shown(text: str) -> str:
    """A file's own words for an error message: quoted, on one line, shortened."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: the nearest one, or some of those that do."""
    names = list(known)
    near = difflib.get_close_matches(name.lower()[:100], [candidate.lower() for candidate in names], n=1)
    if near:
        return "did you mean " + next(candidate for candidate in names if candidate.lower() == near[0]) + "?"
    return "known: " + (", ".join(names[:8]) or "none") + (", ..." if len(names) > 8 else "")


def read_content(path: Path, limit_bytes: int) -> bytes:
    """A file's bytes, decompressed where its name ends in ``.gz``.

    Raises:
        InputError: no such file, not readable, no gzip, or more than ``limit_bytes`` (decompressed).
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a property file")
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(content) > limit_bytes:
        raise InputError(f"{path}: larger than {limit_bytes} bytes, the limit for such a file; split it up")
    return content


def decode(path: Path, content: bytes) -> Source:
    """The file's text.

    Raises:
        InputError: not UTF-8.
    """
    try:
        return Source(str(path), content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None
