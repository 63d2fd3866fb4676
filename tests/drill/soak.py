"""`make soak`: at the machine's limit for half an hour; memory, descriptors and latency must be at the end as at the start.

Usage: python -m tests.drill.soak [--minutes 30] [--clients 12]
"""

import argparse
import contextlib
import dataclasses
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np

from tests.drill.__main__ import lay_ground
from tests.drill.disks import swapping_bundles
from tests.drill.harness import Ground
from tests.drill.ledger import Counters, balance, read_counters
from tests.drill.load import METHOD, STREAM_METHOD, ClientOptions, Load, running_load
from tests.drill.model import MAX_BATCH, MODEL, network
from tests.drill.triton_process import running_triton_process
from tests.e2e.guarding import RunningSidecar, running_sidecar
from tests.e2e.installing import ServerUnavailable
from tests.e2e.triton.launcher import ServedModel

FIFTHS = 5
RSS_SLACK_MIB = 24.0
"""How much the median of the last fifth may lie above that of the second (the first warms up: allocators, caches)."""

DESCRIPTOR_SLACK = 16
"""Connections come and go; what grows would be far beyond it in half an hour."""

P99_FACTOR = 1.5
"""Of the last fifth's p99 to the first's; the machine's own noise over minutes is below it."""

HOW = """
How: {clients} clients in closed loops, and streams, ask without a pause between calls; half of the requests are
counterexamples. Besides, all the time: bundles swapped {swaps}, calls given up on under way, streams broken off, refused
requests (NaN, another model, denied methods), connections made anew. p99 is the clients', over a fifth of the time. Sidecar,
Triton and clients share {cores} cores. Python {python}, grpcio {grpcio}."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """The sidecar's process at one moment; ``at`` by the monotonic clock."""

    at: float
    rss_mib: float
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """From /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
    return Sample(time.monotonic(), rss, len(os.listdir(f"/proc/{pid}/fd")), threads)  # noqa: PTH208 (no Path per entry)


class Mischief:
    """What clients do besides asking properly: one thread that gives up, breaks off, and asks for what is refused."""

    def __init__(self, load: Load, contents: Sequence[bytes]) -> None:
        self.done = dict.fromkeys(("given up", "broken off", "refused", "connected"), 0)
        self._load = load
        self._contents = contents
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._enough.set()
        self._thread.join(20)

    def _keep_on(self) -> None:
        rng = np.random.default_rng(7)
        turns: tuple[Callable[[grpc.Channel, bytes], None], ...] = (self._give_up, self._break_off, self._be_refused)
        while not self._enough.is_set():
            with self._load.connect() as channel:
                self.done["connected"] += 1
                for turn in turns * 4:
                    turn(channel, self._contents[rng.integers(len(self._contents))])
                    self._enough.wait(0.01)

    def _give_up(self, channel: grpc.Channel, content: bytes) -> None:
        call = channel.unary_unary(METHOD).future(content)
        self._enough.wait(0.002)
        call.cancel()
        self.done["given up"] += 1

    def _break_off(self, channel: grpc.Channel, content: bytes) -> None:
        stream = channel.stream_stream(STREAM_METHOD)(iter([content] * 3))
        with contextlib.suppress(grpc.RpcError):
            next(stream)
        stream.cancel()
        self.done["broken off"] += 1

    def _be_refused(self, channel: grpc.Channel, content: bytes) -> None:
        not_finite = content[:-4] + b"\x00\x00\xc0\x7f"
        another_model = content.replace(MODEL.encode(), b"x" * len(MODEL))
        for method, request in (
            (METHOD, not_finite),
            (METHOD, another_model),
            (METHOD, content[:-3]),
            ("/inference.GRPCInferenceService/RepositoryModelUnload", b""),
        ):
            try:
                channel.unary_unary(method)(request, timeout=10)
            except grpc.RpcError:
                self.done["refused"] += 1


@dataclasses.dataclass(frozen=True)
class Soak:
    """All that was measured.

    Args:
        latencies: when each answer came and how many seconds it took.
    """

    samples: Sequence[Sample]
    latencies: Sequence[tuple[float, float]]
    began: float
    ended: float

    def fifth_of(self, at: float) -> int:
        """0 to 4."""
        return min(FIFTHS - 1, int(FIFTHS * (at - self.began) / (self.ended - self.began)))

    def rss_mib(self, fifth: int) -> float:
        """Median."""
        return float(np.median([each.rss_mib for each in self._samples(fifth)]))

    def descriptors(self, fifth: int) -> int:
        """The most."""
        return max(each.descriptors for each in self._samples(fifth))

    def threads(self, fifth: int) -> int:
        """The most."""
        return max(each.threads for each in self._samples(fifth))

    def milliseconds(self, fifth: int, percentile: float) -> float:
        """Of the unary answers."""
        seconds = [seconds for at, seconds in self.latencies if self.fifth_of(at) == fifth]
        return 1000 * float(np.percentile(seconds, percentile))

    def rate(self, fifth: int) -> float:
        """Unary answers a second."""
        return sum(self.fifth_of(at) == fifth for at, _ in self.latencies) * FIFTHS / (self.ended - self.began)

    def _samples(self, fifth: int) -> list[Sample]:
        return [each for each in self.samples if self.fifth_of(each.at) == fifth]


def table(soak: Soak) -> str:
    """One line for each fifth of the time."""
    lines = [f"{'fifth':<8}{'answers/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'RSS MiB':>10}{'descriptors':>13}{'threads':>9}"]
    for fifth in range(FIFTHS):
        p50, p99 = (soak.milliseconds(fifth, percentile) for percentile in (50, 99))
        numbers = f"{soak.rate(fifth):>11.0f}{p50:>9.1f}{p99:>9.1f}{soak.rss_mib(fifth):>10.1f}"
        lines.append(f"{fifth + 1:<8}{numbers}{soak.descriptors(fifth):>13}{soak.threads(fifth):>9}")
    return "\n".join(lines)


def broken(soak: Soak) -> list[str]:
    """What was not at the end as at the start."""
    found, last = [], FIFTHS - 1
    if (growth := soak.rss_mib(last) - soak.rss_mib(1)) > RSS_SLACK_MIB:
        found.append(
            f"memory grew by {growth:.1f} MiB from the second fifth to the last; {RSS_SLACK_MIB:g} are allowed"
        )
    if (more := soak.descriptors(last) - soak.descriptors(0)) > DESCRIPTOR_SLACK:
        found.append(f"{more} descriptors more in the last fifth than in the first; {DESCRIPTOR_SLACK} are allowed")
    if (factor := soak.milliseconds(last, 99) / soak.milliseconds(0, 99)) > P99_FACTOR:
        found.append(f"p99 is {factor:.2f} times what it was; {P99_FACTOR:g} are allowed")
    return found


@contextlib.contextmanager
def _running(ground: Ground, folder: Path) -> Iterator[RunningSidecar]:
    served = [ServedModel(MODEL, network(), MAX_BATCH)]
    with (
        running_triton_process(ground.install, served, folder / "triton") as triton,
        swapping_bundles(ground.guarded.bundles, folder) as place,
        running_sidecar(
            [place], triton.address, Path(os.devnull), ["--bundle-poll", "500ms", "--state-folder", str(folder)]
        ) as sidecar,
    ):
        yield sidecar


def soak(ground: Ground, folder: Path, seconds: float, clients: int) -> list[str]:
    """Run it, print the table; what is broken."""
    options = ClientOptions(count=clients, calls_per_connection=2000, pause_seconds=0.0)
    with _running(ground, folder) as sidecar:
        load = Load(sidecar.address, ground.requests, ground.guarded.judge, options)
        mischief = Mischief(load, [request.content for request in ground.requests])
        before, began = read_counters(sidecar), time.monotonic()
        with running_load(load):
            mischief.start()
            samples = list(_sampled(sidecar, seconds))
            mischief.stop()
        measured = Soak(samples, load.seen.latencies, began, time.monotonic())
        after = read_counters(sidecar)
    print(table(measured))
    print(f"\n{_told(load, mischief, before, after)}")
    seen = load.seen
    found = [f"a violation on the wire: {each}" for each in seen.violating[:3]]
    found += [f"an answer to another question: {each}" for each in seen.strange[:3]]
    if seen.failed:
        found.append(f"calls that should have been answered failed: {dict(seen.reasons)} {dict(seen.bare)}")
    if missing := balance(before, after, seen, frozenset()).missing:
        found.append(f"answers that the sidecar did not count: {missing}")
    return found + broken(measured)


def _sampled(sidecar: RunningSidecar, seconds: float) -> Iterator[Sample]:
    until, interval = time.monotonic() + seconds, min(5.0, seconds / 25)
    while time.monotonic() < until:
        time.sleep(interval)
        yield sample(sidecar.pid)


def _told(load: Load, mischief: Mischief, before: Counters, after: Counters) -> str:
    seen = load.seen
    besides = ", ".join(f"{count:,} {what}" for what, count in mischief.done.items())
    return (
        f"{seen.answered:,} answers judged, {seen.streamed:,} of them within streams; rows corrected "
        f"{after.corrected_rows - before.corrected_rows:,}; violating {len(seen.violating)}. Besides: {besides}; "
        f"bundles activated {after.activations - before.activations:,}."
    )


def main() -> int:
    """The exit status: 0, 1 where something was not as it was, 2 where it could not run."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            ground = lay_ground(Path(folder))
        except ServerUnavailable as error:
            print(f"NOT RUN: no Triton on this machine: {error}")
            return 2
        found = soak(ground, Path(folder), 60 * arguments.minutes, arguments.clients)
    print(
        HOW.format(
            clients=arguments.clients,
            swaps="four times a second",
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            grpcio=grpc.__version__,
        )
    )
    print("\n".join([f"BROKEN: {each}" for each in found] or ["\nFlat: memory, descriptors and p99 as at the start."]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
