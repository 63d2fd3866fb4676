"""The wall clock of one process, moved at will by a small library that is loaded into it."""

import dataclasses
import datetime
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.drill.ground import NotRun
from tests.drill.harness import status_of
from tests.e2e.guarding import RunningSidecar

SOURCE = Path(__file__).with_name("clock_shift.c")
HOUR = 3600
JUMPS = (5 * HOUR, -9 * HOUR, 26 * HOUR, -1, 30 * 24 * HOUR, 7 * HOUR)
"""Seconds beside the true time, one after the other; the last stays."""

PAUSE_SECONDS = 0.7


@dataclasses.dataclass(frozen=True)
class ShiftedClock:
    """What a process needs to live by this clock, and the file that moves it."""

    environment: Mapping[str, str]
    file: Path

    def jump(self, seconds: int) -> None:
        """To so many seconds beside the true time, at once."""
        with self.file.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


def build(folder: Path) -> ShiftedClock:
    """Compile the library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NotRun("a clock that jumps needs a C compiler for the library that moves it; there is no gcc or cc")
    library, file = folder / "clock_shift.so", folder / "clock_shift"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    file.write_bytes(struct.pack("=q", 0))
    return ShiftedClock({"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(file)}, file)


def jump_about(shifted: ShiftedClock) -> None:
    """Hours forward and back, under way."""
    for seconds in JUMPS:
        shifted.jump(seconds)
        time.sleep(PAUSE_SECONDS)


def of_sidecar(sidecar: RunningSidecar) -> float:
    """Seconds by which the sidecar's clock differs from ours, by its own page; accurate to its polling."""
    looked_at = datetime.datetime.fromisoformat(status_of(sidecar)["looked_at"])
    return (looked_at - datetime.datetime.now(datetime.UTC)).total_seconds()
