"""A log that goes into a pipe, and a reader that may stop reading."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


class PipeReader:
    """Reads a named pipe and throws it away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Both ends: who opens it to write does not wait, and it does not end with the first writer.
        self._file = os.open(path, os.O_RDWR)
        self._may_read = threading.Event()
        self._may_read.set()
        self._thread = threading.Thread(target=self._keep_reading, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop reading."""
        self._may_read.clear()

    def go_on(self) -> None:
        """Read again."""
        self._may_read.set()

    def close(self) -> None:
        """End."""
        self.go_on()
        os.write(self._file, b"\0")
        self._thread.join()
        os.close(self._file)

    def _keep_reading(self) -> None:
        while self._may_read.wait() and b"\0" not in os.read(self._file, 65536):
            pass


@contextlib.contextmanager
def read_pipe(path: Path) -> Iterator[PipeReader]:
    """A pipe that is read, closed when the block is left."""
    reader = PipeReader(path)
    try:
        yield reader
    finally:
        reader.close()
