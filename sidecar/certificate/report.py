"""What a person, or a program, sees of a check."""

import types
from pathlib import Path
from typing import Self, TextIO

from sidecar.certificate.check import Report


class Reporter:
    """Shows progress as one line that rewrites itself; silent unless the stream is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._write("")

    def show(self, what: str, done: int, total: int) -> None:
        """Take the progress of one region."""
        self._write(f"{what}: {done:,} of {total:,} boxes")

    def _write(self, line: str) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()


def render(report: Report, bundle: Path) -> str:
    """One line for each statement that was established."""
    return "\n".join([f"{bundle}: all of it holds", *(f"  {statement}" for statement in report.statements)])


def document(report: Report) -> dict[str, object]:
    """The report as JSON values."""
    return {"holds": True, "statements": list(report.statements), "boxes": report.pieces}
