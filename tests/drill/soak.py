"""`make soak`: half an hour at the machine's limit; memory, descriptors and latency must be as they were.

Usage: python -m tests.drill.soak [--transport native|portable|both] [--minutes 30] [--clients 12]
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from sidecar.errors import Reason
from tests.drill.disks import swapping_bundles
from tests.drill.flatness import Sample, Soak, broken, sample, table
from tests.drill.ground import Ground, NotRun, ask_for_transport, lay_ground
from tests.drill.ledger import Counters, balance, read_counters
from tests.drill.load import Load, running_load
from tests.drill.mischief import Mischief
from tests.drill.rigs import guarded_triton, guarding_sidecar
from tests.drill.seen import ClientOptions
from tests.drill.triton_process import TritonProcess
from tests.e2e.guarding import RunningSidecar
from tests.e2e.installing import ServerUnavailable

HOW = """
How: {clients} clients in closed loops and a stream ask without a pause between calls; half of the requests are
counterexamples. Besides, all the time: bundles swapped, calls given up on under way, streams broken
off, refused requests (NaN, another model, denied methods), connections made anew. p99 is the clients', over a fifth of
the time. Sidecar, Triton and clients share {cores} cores. Python {python}, grpcio {grpcio}."""


CRASHED = """
Triton crashed {crashes} times, with signal 11, and was started again; {failed:,} calls failed with upstream_unavailable
meanwhile. It is known for that where requests are cancelled (its issues 7368 and 8034)."""


@contextlib.contextmanager
def _running(ground: Ground, folder: Path) -> Iterator[tuple[TritonProcess, RunningSidecar]]:
    with (
        guarded_triton(ground, folder) as triton,
        swapping_bundles(ground.guarded.bundles, folder) as place,
        guarding_sidecar(
            ground,
            folder,
            triton.address,
            ["--bundle-poll", "500ms", "--state-folder", str(folder)],
            bundle=place,
            log=Path(os.devnull),
        ) as sidecar,
    ):
        yield triton, sidecar
        # Asked politely it would take half a minute to end, because of the streams that were broken off.
        triton.kill()


def soak(ground: Ground, folder: Path, seconds: float, clients: int) -> list[str]:
    """Run it, print the table; what is broken."""
    options = ClientOptions(count=clients, calls_per_connection=2000, pause_seconds=0.0)
    with _running(ground, folder) as (triton, sidecar):
        load = Load(sidecar.address, ground.requests, ground.guarded.judge, options)
        mischief = Mischief(load, [request.content for request in ground.requests])
        before, began = read_counters(sidecar), time.monotonic()
        with running_load(load):
            mischief.start()
            samples, crashes = _sampled(triton, sidecar, seconds)
            mischief.stop()
        measured = Soak(samples, load.seen.latencies, began, time.monotonic())
        after = read_counters(sidecar)
    print(table(measured))
    print(f"\n{_told(load, mischief, before, after)}")
    seen = load.seen
    found = [f"a violation on the wire: {each}" for each in seen.violating[:3]]
    found += [f"an answer to another question: {each}" for each in seen.strange[:3]]
    if seen.hanging:
        found.append(f"{seen.hanging} clients whose calls did not end")
    failed = dict(seen.reasons + seen.bare)
    if crashes:
        excused = failed.pop(Reason.UPSTREAM_UNAVAILABLE, 0)
        print(CRASHED.format(crashes=crashes, failed=excused))
    if failed:
        found.append(f"calls that should have been answered failed: {failed}")
    if missing := balance(before, after, seen, frozenset()).missing:
        found.append(f"answers that the sidecar did not count: {missing}")
    return found + broken(measured)


def _sampled(triton: TritonProcess, sidecar: RunningSidecar, seconds: float) -> tuple[list[Sample], int]:
    """Samples of the sidecar, and how often Triton crashed and was started again."""
    until, interval = time.monotonic() + seconds, min(5.0, seconds / 25)
    samples, crashes = list[Sample](), 0
    while time.monotonic() < until:
        time.sleep(interval)
        samples.append(sample(sidecar.pid))
        if triton.has_crashed:
            crashes += 1
            triton.kill()  # what is left of it
            triton.restart()
    return samples, crashes


def _told(load: Load, mischief: Mischief, before: Counters, after: Counters) -> str:
    seen = load.seen
    besides = ", ".join(f"{count:,} {what}" for what, count in mischief.done.items())
    return (
        f"{seen.answered:,} answers judged, {seen.streamed:,} of them within streams; rows corrected "
        f"{after.corrected_rows - before.corrected_rows:,}; violating {len(seen.violating)}. Besides: {besides}; "
        f"bundles activated {after.activations - before.activations:,}."
    )


def main() -> int:
    """Soak on one transport after the other; the exit status."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="on each transport")
    parser.add_argument("--clients", type=int, default=12)
    ask_for_transport(parser)
    arguments = parser.parse_args()
    statuses = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            for ground in lay_ground(Path(folder), arguments.transport):
                place = Path(folder) / ground.transport
                place.mkdir()
                statuses.append(_soaked(ground, place, 60 * arguments.minutes, arguments.clients))
        except ServerUnavailable as error:
            print(f"NOT RUN: no Triton on this machine: {error}")
            return 2
    cores = len(os.sched_getaffinity(0))
    print(HOW.format(clients=arguments.clients, cores=cores, python=platform.python_version(), grpcio=grpc.__version__))
    return max(statuses)


def _soaked(ground: Ground, folder: Path, seconds: float, clients: int) -> int:
    """Print what came of it: 0, 1 where something was not as it was, 2 where it could not run."""
    print(f"\nCarried by the {ground.transport} transport:\n", flush=True)
    try:
        ground.require_transport()
    except NotRun as error:
        print(f"NOT RUN: {error}")
        return 2
    found = soak(ground, folder, seconds, clients)
    said = [f"BROKEN: {each}" for each in found] or ["Flat: memory, descriptors and p99 as at the start."]
    print("\n" + "\n".join(said), flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
