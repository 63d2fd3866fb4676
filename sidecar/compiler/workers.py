"""Steps over batches of boxes on all cores.

A batch is cut into pieces that whichever thread is free takes next. The compiled step holds no interpreter lock, and
what it finds out of a box depends on that box alone: the result is the same for any number of threads.
"""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final

from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.flat import FlatProblem, FlatStep
from sidecar.compiler.kernel_step import Forms, new_forms
from sidecar.compiler.kernels import Work, new_work

_PIECE: Final = 32
"""Boxes that one thread takes at a time."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


class Workers:
    """Threads, as a context manager."""

    def __init__(self, problem: FlatProblem, count: int) -> None:
        self._problem, self._others, self._step = problem, count - 1, compiled_step()
        self._rooms = [(new_work(problem), new_forms(problem)) for _ in range(count)]
        self._pool = ThreadPoolExecutor(max(1, self._others))

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def run(self, batch: FlatStep, falsify: bool) -> None:
        """Step over all boxes of a batch."""
        boxes, pieces = len(batch.label), itertools.count()
        helpers = min(self._others, -(-boxes // _PIECE) - 1)
        futures = [self._pool.submit(self._work, room, batch, pieces, falsify) for room in self._rooms[1 : helpers + 1]]
        self._work(self._rooms[0], batch, pieces, falsify)
        for future in futures:
            future.result()

    def _work(self, room: tuple[Work, Forms], batch: FlatStep, pieces: "itertools.count[int]", falsify: bool) -> None:
        boxes = len(batch.label)
        while (start := next(pieces) * _PIECE) < boxes:
            self._step(self._problem, *room, batch, start, min(start + _PIECE, boxes), falsify)
