"""Writes log records, audit records among them, without ever making a call wait for the log's reader or its disk.

Records are formatted where they are made and written by a thread. What cannot be written, because the disk is full, or
because whoever reads the pipe has stopped and the queue is full, is dropped and counted: it must not stop the answers.

The queue is a reentrant one. The garbage collector runs where it likes, in the middle of putting and of getting too,
and what it destroys may log (asyncio's tasks do): with a queue that has a lock the thread then waited for itself, and
everybody who logged for it.
"""

import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from typing import Final

FORMAT: Final = "%(asctime)s %(name)s %(levelname)s %(message)s"

QUEUE_RECORDS: Final = 4_000
"""That wait to be written; some seconds of nothing but corrections, and a megabyte or two."""

PAUSE_SECONDS: Final = 0.02
"""Between two writes: a thread that is woken for each record costs as much as the record."""

CLOSING_SECONDS: Final = 2.0
"""How long the process's end waits for what is queued."""


class _Formatter(logging.Formatter):
    """Makes the text of a second once."""

    _second = -1
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        if int(record.created) != self._second:
            self._second = int(record.created)
            self._text = time.strftime(datefmt or self.default_time_format, time.localtime(self._second))
        return f"{self._text},{int(record.msecs):03d}"


def start_logging(descriptor: int) -> "LogWriter":
    """Have all records written there."""
    writer = LogWriter(descriptor)
    logging.basicConfig(level=logging.INFO, handlers=[writer])
    # What the format does not name is not looked for; see "Optimization" in logging's own documentation.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    return writer


class LogWriter(logging.Handler):
    """A handler that writes to a file descriptor; ``lost`` records could not be written."""

    def __init__(self, descriptor: int, queue_records: int = QUEUE_RECORDS) -> None:
        super().__init__()
        self.setFormatter(_Formatter(FORMAT))
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._queue_records = queue_records
        self._dropped = 0  # by who logs, under the handler's lock
        self._unwritten = 0  # by the thread
        self._is_torn = False
        self._thread = threading.Thread(target=self._keep_writing, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many records were dropped so far."""
        return self._dropped + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        if self._queue.qsize() >= self._queue_records:
            self._dropped += 1
            return
        try:
            self._queue.put(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except Exception:  # a record that cannot be formatted must not end what it tells about
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued, as far as that takes no more than two seconds, and end."""
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)
        super().close()

    def _keep_writing(self) -> None:
        ended = False
        while not ended:
            taken = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while taken[-1] is not None:
                    taken.append(self._queue.get_nowait())
            ended = taken[-1] is None
            self._write([line for line in taken if line is not None])
            time.sleep(0 if ended else PAUSE_SECONDS)

    def _write(self, lines: list[bytes]) -> None:
        content, written = b"".join(lines), 0
        try:
            if self._is_torn:
                os.write(self._descriptor, b"\n")
                self._is_torn = False
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            ends = list(itertools.accumulate(map(len, lines)))
            self._unwritten += sum(end > written for end in ends)
            self._is_torn = self._is_torn or (written > 0 and written not in ends)
