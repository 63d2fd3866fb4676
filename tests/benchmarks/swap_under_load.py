"""Thousands of bundle swaps under load: not one failed or mixed answer, and what the swaps cost those who ask.

Usage: python tests/benchmarks/swap_under_load.py [--swaps N] [--rounds N] [--clients N] [--rate N] [--depth N]
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
import numpy as np

from sidecar.bundle.files import write_file_atomically
from sidecar.proxy.active_bundle import activate
from tests.conformance.bundle_variants import BOTH_VIOLATED, variant
from tests.conformance.guarded_model import MODEL
from tests.e2e.guarding import RunningSidecar, running_sidecar
from tests.integration.proxy_harness import Loop, SocketUpstream
from tests.integration.swapping import LEVELS, Clients

HOW = """How: `sidecar serve` is a process of its own; upstream and {clients} clients (grpcio, one connection each,
closed loop, two rows a request, both corrected by different gates) share another. A swap puts the other of two
bundles in place by rename and sends SIGHUP, {rate} times a second. Rounds without and with swaps take turns;
latencies are of all rounds. Every answer must be correct by exactly one of the two bundles, and none may fail.
Machine: {cores} cores, Python {python}, grpcio {grpcio}."""


@dataclasses.dataclass
class Lane:
    """All rounds of one kind."""

    name: str
    latencies: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> str:
        p50, p99, p999, most = (1000 * np.percentile(self.latencies, q) for q in (50, 99, 99.9, 100))
        rate = len(self.latencies) / self.seconds
        return f"{self.name:<16}{rate:>12.0f}{p50:>10.2f}{p99:>10.2f}{p999:>10.2f}{most:>10.2f}"


@contextlib.contextmanager
def running(folder: Path, content: bytes) -> Iterator[tuple[RunningSidecar, Path]]:
    """A sidecar over an upstream that violates both properties, and the bundle's path."""
    loop, upstream = Loop(), SocketUpstream()
    upstream.answer(BOTH_VIOLATED)
    port = loop.run(upstream.start())
    path = folder / "b.gates"
    path.write_bytes(content)
    with running_sidecar([path], f"127.0.0.1:{port}", folder / "sidecar.log") as sidecar:
        yield sidecar, path
    loop.run(upstream.server.stop(0))
    loop.close()


def swap_for(
    sidecar: RunningSidecar, path: Path, contents: Sequence[bytes], first: int, count: int, rate: float
) -> None:
    """Put the bundles in place in turn, at a steady rate."""
    began = time.perf_counter()
    for number in range(count):
        write_file_atomically(path, contents[(first + number) % 2])
        os.kill(sidecar.pid, signal.SIGHUP)
        time.sleep(max(0.0, began + (number + 1) / rate - time.perf_counter()))


def activation_ms(content: bytes) -> float:
    """Median of accepting, preparing and testing a bundle, with nothing else going on."""
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        activate(content)
        taken.append(1000 * (time.perf_counter() - began))
    return float(np.median(taken))


def main() -> None:
    """Run it and print the table; exits with 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rate", type=float, default=50.0, help="swaps a second")
    parser.add_argument("--depth", type=int, default=1, help="the bundles have 2 to this power coverage leaves")
    arguments = parser.parse_args()
    contents = [variant(level, depth=arguments.depth) for level in LEVELS]
    still, swapping = Lane("no swaps"), Lane("swaps")
    wrong: list[str] = []
    answers = dict.fromkeys(LEVELS, 0)
    each = arguments.swaps // arguments.rounds
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), contents[0]) as (sidecar, path):
        address = int(sidecar.address.rpartition(":")[2])
        for number in range(arguments.rounds):
            for lane in (still, swapping):
                began = time.perf_counter()
                with Clients(address, arguments.clients) as clients:
                    if lane is still:
                        time.sleep(each / arguments.rate)
                    else:
                        swap_for(sidecar, path, contents, 1 + number * each, each, arguments.rate)
                lane.seconds += time.perf_counter() - began
                lane.latencies += clients.latencies
                wrong += clients.wrong
                answers = {level: count + clients.answers_of(level) for level, count in answers.items()}
        activated = sidecar.metric("gate_bundle_activations_total", model=MODEL) - 1
        failures = json.loads(sidecar.get("/status")[1])["not_active"]
    head = f"{'':<16}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'max ms':>10}"
    print(head, "-" * len(head), still.row(), swapping.row(), sep="\n")
    size = len(contents[0])
    print(f"\nbundle of {size} bytes, activation alone {activation_ms(contents[0]):.1f} ms")
    print(f"{each * arguments.rounds} bundles put in place, {activated:.0f} activated; answers by level {answers}")
    print(f"failed or mixed answers: {len(wrong)} {wrong[:3]}; reported as not active at the end: {failures}\n")
    print(
        HOW.format(
            clients=arguments.clients,
            rate=f"{arguments.rate:g}",
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            grpcio=grpc.__version__,
        )
    )
    sys.exit(bool(wrong or failures))


if __name__ == "__main__":
    main()
