"""Computing that may take long, beside the event loop: one thread, and the clients take turns at it.

Work comes in steps (:mod:`sidecar.gates.steps`). A turn is a short time of one work's steps, at least one of them; the
next turn is the client's who had the least time so far, and within a client its works take turns too. So whoever asks
for little waits for one turn of each other client, however much those ask for. How many steps may be waiting is
bounded, for each client and overall; beyond that, a work is refused.
"""

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from sidecar.gates.steps import Steps

TURN_SECONDS: Final = 0.002
"""A row of a few values takes some 40 us to correct. A single step may take longer than a turn; it is charged for."""

MAX_STEPS_WAITING: Final = 65_536
"""Of all clients: some three seconds of corrections of a few values each, more of longer rows."""

MAX_STEPS_OF_CLIENT: Final = 16_384
"""Of one client: four full batches at the default limit of rows."""


class TooMuchWaiting(Exception):
    """As many steps are waiting as may be."""


@dataclasses.dataclass(eq=False)
class _Work:
    """Steps under way.

    Args:
        left: how many there are still, as far as is known: 0 before the first one.
    """

    client: str
    steps: Steps[Any]
    left: int
    done: concurrent.futures.Future[Any]


@dataclasses.dataclass(eq=False)
class _Client:
    """One client's works and what they have cost.

    Args:
        left: steps left of all of them.
    """

    used_seconds: float
    left: int = 0
    works: collections.deque[_Work] = dataclasses.field(default_factory=collections.deque)


class Turns:
    """The thread and what it has to do; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "corrections")
        self._lock = threading.Lock()
        self._clients: dict[str, _Client] = {}
        self._least_seconds = 0.0  # what the client had used whose turn it was last
        self._is_working = False
        self._closed = False

    def take(self, client: str, steps: Steps[Any], left: int) -> concurrent.futures.Future[Any]:
        """Have steps done; nothing stops them, not even the future's cancellation.

        Args:
            client: whose they are.
            steps: taken over: nobody else takes any from here on.
            left: how many there are still; 0 before the first one, which then tells.

        Returns:
            The steps' result; or what they raised; or TooMuchWaiting.
        """
        work = _Work(client, steps, 0, concurrent.futures.Future())
        work.done.set_running_or_notify_cancel()
        with self._lock:
            if left and not self._count(work, left):
                work.done.set_exception(TooMuchWaiting())
                return work.done
            self._of(client).works.append(work)
            if not self._is_working:
                self._is_working = True
                self._thread.submit(self._work_off)
        return work.done

    def close(self) -> None:
        """End the thread after the turn that it is at. What is waiting still is nobody's any more."""
        self._closed = True
        self._thread.shutdown()

    def _of(self, client: str) -> _Client:
        return self._clients.setdefault(client, _Client(self._least_seconds))

    def _count(self, work: _Work, left: int) -> bool:
        """Note how many steps a work has left; False where it says so for the first time, and it is too many."""
        client = self._of(work.client)
        all_left = sum(each.left for each in self._clients.values())
        if work.left == 0 and (
            _too_many(client.left, left, MAX_STEPS_OF_CLIENT) or _too_many(all_left, left, MAX_STEPS_WAITING)
        ):
            return False
        client.left += left - work.left
        work.left = left
        return True

    def _work_off(self) -> None:
        while (work := self._next()) is not None:
            began = self._clock()
            ended = self._take_turn(work, began + TURN_SECONDS)
            self._charge(work, self._clock() - began, ended)

    def _next(self) -> _Work | None:
        with self._lock:
            waiting = [client for client in self._clients.values() if client.works]
            if not waiting or self._closed:
                self._is_working = False
                self._clients.clear()
                return None
            turn = min(waiting, key=lambda client: client.used_seconds)
            self._least_seconds = turn.used_seconds
            return turn.works.popleft()

    def _take_turn(self, work: _Work, until: float) -> bool:
        """Do some steps; whether those were all."""
        try:
            while True:
                left = next(work.steps)
                with self._lock:
                    if not self._count(work, left):
                        raise TooMuchWaiting
                if self._clock() >= until:
                    return False
        except StopIteration as end:
            work.done.set_result(end.value)
        except Exception as error:
            work.done.set_exception(error)
        return True

    def _charge(self, work: _Work, seconds: float, ended: bool) -> None:
        with self._lock:
            client = self._of(work.client)
            client.used_seconds += seconds
            if ended:
                client.left -= work.left
            else:
                client.works.append(work)
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Forget clients that ask for nothing and owe nothing."""
        idle = [name for name, client in self._clients.items() if not client.works]
        for name in idle:
            if self._clients[name].used_seconds <= self._least_seconds:
                del self._clients[name]


def _too_many(waiting: int, more: int, limit: int) -> bool:
    """One work alone never is: the limit of rows bounds it."""
    return waiting > 0 and waiting + more > limit
