"""Lines of text for a person: bold, colour and a line that rewrites itself on a terminal, plain text in a pipe."""

from typing import Final, TextIO

_BOLD: Final = "\x1b[1m"
_GREEN: Final = "\x1b[32m"
_RED: Final = "\x1b[31m"
_RESET: Final = "\x1b[0m"
_REWRITE: Final = "\r\x1b[K"


class Screen:
    """Writes to ``stream`` at once, so that progress is seen when it is made."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._unfinished = False

    def heading(self, text: str) -> None:
        """A line that stands out."""
        self._write(self._styled(text, _BOLD) + "\n")

    def lines(self, *texts: str) -> None:
        """Plain lines."""
        self._write("".join(f"{text}\n" for text in texts))

    def verdict(self, text: str, good: bool) -> None:
        """The line that says how it ended."""
        self._write(self._styled(text, _BOLD + (_GREEN if good else _RED)) + "\n")

    def progress(self, text: str) -> None:
        """Replace the current line on a terminal; nothing in a pipe. The next text takes its place."""
        if self._terminal:
            self._stream.write(f"{_REWRITE}{text}")
            self._stream.flush()
            self._unfinished = True

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self._terminal else text

    def _write(self, text: str) -> None:
        self._stream.write(f"{_REWRITE}{text}" if self._unfinished else text)
        self._stream.flush()
        self._unfinished = False
