"""Swapping two bundles under a running sidecar while clients ask: what each answer shows of who judged it."""

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from sidecar.bundle.files import write_file_atomically
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.serve import RunningSidecar
from tests.conformance.bundle_variants import BOTH_GATES
from tests.conformance.guarded_model import values
from tests.integration.proxy_harness import Loop
from tests.waiting import wait_until

LEVELS = (1, 2)


@dataclasses.dataclass
class Seen:
    """What one client saw: latencies in seconds, how often each level spoke, and what no single bundle answers."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    levels: dict[float, int] = dataclasses.field(default_factory=dict)
    wrong: list[str] = dataclasses.field(default_factory=list)


class Clients:
    """Threads that each ask in a closed loop, over a connection of its own."""

    def __init__(self, port: int, count: int, request: bytes = BOTH_GATES) -> None:
        self._port = port
        self._request = request
        self._stopping = threading.Event()
        self.seen = [Seen() for _ in range(count)]
        self._threads = [threading.Thread(target=self._ask, args=(seen,)) for seen in self.seen]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def wrong(self) -> list[str]:
        return [wrong for seen in self.seen for wrong in seen.wrong]

    @property
    def latencies(self) -> list[float]:
        return sorted(latency for seen in self.seen for latency in seen.latencies)

    def answers_of(self, level: int) -> int:
        return sum(seen.levels.get(level, 0) for seen in self.seen)

    def _ask(self, seen: Seen) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._port}", (("grpc.use_local_subchannel_pool", 1),)) as channel:
            call = channel.unary_unary(MODEL_INFER)
            while not self._stopping.is_set():
                began = time.perf_counter()
                try:
                    body = call(self._request, timeout=10)
                except grpc.RpcError as error:
                    seen.wrong.append(f"{error.code()}: {error.details()}")
                    continue
                seen.latencies.append(time.perf_counter() - began)
                self._judge(body, seen)

    def _judge(self, body: bytes, seen: Seen) -> None:
        """Every row was corrected to the level of one and the same bundle."""
        levels = {float(row[0]) for row in values(body, "y")}
        if len(levels) != 1 or not levels <= set(LEVELS):
            seen.wrong.append(f"levels {levels} in one answer")
            return
        (level,) = levels
        seen.levels[level] = seen.levels.get(level, 0) + 1


def swap(
    running: RunningSidecar, loop: Loop, path: Path, contents: list[bytes], count: int, pause_seconds: float = 0.0
) -> list[float]:
    """Put each content in place in turn and wait until it is active; gives the seconds that each took."""
    taken = []
    for number in range(count):
        before, began = running.registry.current, time.perf_counter()
        write_file_atomically(path, contents[number % len(contents)])
        loop.run(_call(running.look_now))
        wait_until(lambda before=before: running.registry.current is not before)
        taken.append(time.perf_counter() - began)
        time.sleep(pause_seconds)
    return taken


async def _call(function: Callable[[], None]) -> None:
    function()
