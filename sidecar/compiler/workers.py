"""Steps over batches of boxes on all cores.

A batch is cut into pieces that whichever thread is free takes next. The compiled step holds no interpreter lock, and what
it finds out of a box depends on that box alone: the result is the same for any number of threads.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final

from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.flat import FlatProblem, FlatStep

_PIECE: Final = 32
"""Boxes that one thread takes at a time."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


class Workers:
    """Threads, as a context manager."""

    def __init__(self, problem: FlatProblem, count: int) -> None:
        self._problem, self._others, self._step = problem, count - 1, compiled_step()
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
        work: Callable[[], None] = lambda: self._work(batch, boxes, pieces, falsify)  # noqa: E731
        futures: list[Future[None]] = [self._pool.submit(work) for _ in range(helpers)]
        work()
        for future in futures:
            future.result()

    def _work(self, batch: FlatStep, boxes: int, pieces: "itertools.count[int]", falsify: bool) -> None:
        while (start := next(pieces) * _PIECE) < boxes:
            self._step(self._problem, batch, start, min(start + _PIECE, boxes), falsify)
