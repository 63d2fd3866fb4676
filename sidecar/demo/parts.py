"""The two servers of the demo, as the processes that the command line starts; ended in any case."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sidecar.errors import OperationError

START_SECONDS: Final = 30.0
"""Importing onnxruntime from a cold disk takes a few; more than this is a failure."""

STOP_SECONDS: Final = 5.0
"""How long a server may take to end before it is killed."""


@contextlib.contextmanager
def running(name: str, arguments: Sequence[str], address: re.Pattern[str], log: Path) -> Iterator[int]:
    """A command of ours as a process of its own, for as long as the block lasts.

    Args:
        name: for error messages.
        arguments: of the command line, without the program.
        address: what the command writes once it listens; its first group is the port.
        log: the file that gets what the command writes.

    Yields:
        The port that it listens on.

    Raises:
        OperationError: it ended at once, or does not listen in time.
    """
    command = [sys.executable, "-u", "-m", "sidecar.cli", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
    try:
        yield _port(name, process, address, log)
    finally:
        _end(process)


def _port(name: str, process: "subprocess.Popen[bytes]", address: re.Pattern[str], log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        written = log.read_text(errors="replace")
        if found := address.search(written):
            return int(found[1])
        if ended:
            said = written.strip().splitlines()[-1:] or ["nothing was said"]
            raise OperationError(f"the {name} ended with status {process.returncode}: {said[0]}")
        time.sleep(0.05)
    raise OperationError(
        f"the {name} does not listen after {START_SECONDS:g} s; this machine may be too busy, try again"
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
