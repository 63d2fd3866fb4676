"""Cores and CPU time, of whole process trees, as the kernel accounts for them."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path


def server_and_load_core() -> tuple[int, int]:
    """One core for what is measured, another for the load and the upstream; the same one where there is no other."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


@contextlib.contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What is started in the block runs there and nowhere else."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pid: int, cores: Collection[int]) -> None:
    """Every thread of the process and of its children; threads that they start later follow."""
    for process in process_tree(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def process_tree(pid: int) -> list[int]:
    """The process and all that descend from it, whichever of its threads started them."""
    return [pid, *(each for child in children(pid) for each in process_tree(child))]


def children(pid: int) -> list[int]:
    """What the process itself has started and what has not ended."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of the tree, living and ended: what ``/proc/PID/stat`` says, in nanoseconds.

    A process's CPU-time clock (clock_getcpuclockid(3)) may be read by anybody, and has no ticks of 10 ms.
    """
    return sum(time.clock_gettime((~process << 3) | 2) for process in process_tree(pid))
