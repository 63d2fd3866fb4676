"""Work on portions of boxes, in order, by as many processes as there are processors for it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Final, TypeVar

Portion = TypeVar("Portion")
Result = TypeVar("Result")

PORTION_BATCHES: Final = 8
"""Batches in a portion, which is given to a process at once."""

ALONE_PORTIONS = 8
"""Up to so many the work is done before other processes have started."""


class Processes:
    """Processes, as a context manager; started when there is work enough.

    Args:
        count: how many; one stands for this one.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Portion], Result], portions: Sequence[Portion]) -> Iterator[Result]:
        """What ``work``, which can be pickled, makes of each portion."""
        if self._count == 1 or len(portions) <= ALONE_PORTIONS:
            return map(work, portions)
        if self._pool is None:
            # Started afresh, not forked: this process may have threads, and a fork would copy what they hold.
            self._pool = ProcessPoolExecutor(self._count, mp_context=get_context("spawn"))
        return self._pool.map(work, portions)
