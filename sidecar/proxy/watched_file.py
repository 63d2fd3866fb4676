"""A file that others replace: read when it may have changed, else only looked at."""

import os
import time
from pathlib import Path
from typing import Final

from sidecar.bundle.files import read_regular

SETTLED_SECONDS: Final = 2.0
"""A file touched less than this before it was read may be touched again without its times showing it: file systems
count in ticks, some of a whole second."""


class WatchedFile:
    """One path. Symbolic links are followed, so that a ConfigMap's swap of ``..data`` is a change.

    Args:
        path: the file.
        limit_bytes: one byte more than this is the most that is read.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._seen: tuple[int, ...] | None = None

    def forget(self) -> None:
        """Take it for changed at the next call."""
        self._seen = None

    def read(self) -> bytes | None:
        """The content; None where it is certainly what the last call gave.

        Raises:
            OSError: not there, not readable, or no regular file; the next call gives content again.
        """
        seen, self._seen = self._seen, None
        if seen is not None and seen == _stamp(self._path.stat()):
            self._seen = seen
            return None
        now = time.time()
        content, before = read_regular(self._path, self._limit_bytes)
        # From before the reading: what changes while it is read is read again.
        if max(before.st_mtime, before.st_ctime) + SETTLED_SECONDS < now:
            self._seen = _stamp(before)
        return content


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
