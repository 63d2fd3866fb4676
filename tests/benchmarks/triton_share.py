"""How much of a real Triton's throughput is left when a sidecar stands before it, with as many clients as saturate it.

In two placements: Triton has a core to itself and the sidecar is on the load's, or the two share one. What is kept of a
core that they share follows from the CPU of both, too: a request takes the sum. That figure does not suffer from others
who want the same core.
"""

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import grpc
import numpy as np
import tritonclient.grpc

from tests.benchmarks.lanes import DIRECT, NATIVE, PORTABLE, running_sidecar
from tests.benchmarks.load import LoadWentWrong, Shape, framed, run_load
from tests.benchmarks.machine import children, cpu_seconds, on_cores, pin, server_and_load_core
from tests.benchmarks.portable_work import bench_network
from tests.benchmarks.workload import FIRST_INPUT, METHOD, UNTOUCHED, Workload, request, scores
from tests.e2e.installing import ServerUnavailable
from tests.e2e.triton.launcher import ServedModel, cache_folder, install_triton, running_triton

MORE_CLIENTS = (1, 2, 4, 8, 16)
SATURATED = 0.95
"""Of the throughput of the best number of clients: the smallest number that reaches this is enough."""

APART, SHARED = PLACES = "sidecar on the load's core", "sidecar on Triton's core"
WARM_UP = 100
SEARCH_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run: requests per second; CPU per request of Triton and of the sidecar, 0 where there is none."""

    rate: float
    triton_us: float
    sidecar_us: float


@dataclasses.dataclass(frozen=True)
class Share:
    """Every lane's rounds by placement; the streams of each of four connections; lanes that did not run, and why."""

    streams: int
    rounds: Mapping[str, Mapping[str, Sequence[Measured]]]
    not_run: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class _Lane:
    address: str
    pid: int | None = None


def share_of_triton(workload: Workload, folder: Path, rounds: int, seconds: float) -> Share:
    """Measured in turn, in a new order each round.

    Raises:
        ServerUnavailable: Triton does not run on this machine.
    """
    model = ServedModel(workload.model, bench_network(np.random.default_rng(3)))
    install = install_triton(cache_folder())
    (folder / "triton").mkdir()
    server_core, load_core = server_and_load_core()
    with contextlib.ExitStack() as stack:
        before = children(os.getpid())
        with on_cores({server_core}):
            triton = stack.enter_context(running_triton(install, [model], folder / "triton"))
        (triton_pid,) = set(children(os.getpid())) - set(before)
        lanes, missing = {DIRECT: _Lane(triton.grpc_address)}, {}
        for transport in (PORTABLE, NATIVE):
            try:
                start = running_sidecar(transport, [workload], triton.grpc_address, folder, server_core)
                address, pid, _ = stack.enter_context(start)
                lanes[transport] = _Lane(address, pid)
            except ServerUnavailable as error:
                missing[transport] = str(error)
        stack.enter_context(on_cores({load_core}))
        runs = _Runs(workload, triton_pid, lanes, folder / "triton.request", load_core)
        streams = runs.saturating()
        measured: dict[str, dict[str, list[Measured]]] = {place: {name: [] for name in lanes} for place in PLACES}
        for index, place in itertools.product(range(rounds), PLACES):
            for name in sorted(lanes, reverse=bool(index % 2)):
                if (pid := lanes[name].pid) is not None:
                    pin(pid, {server_core if place == SHARED else load_core})
                measured[place][name].append(runs.run(name, streams, seconds))
        return Share(streams, measured, missing)


class _Runs:
    def __init__(self, workload: Workload, triton_pid: int, lanes: Mapping[str, _Lane], body: Path, core: int) -> None:
        self._triton_pid, self._lanes = triton_pid, lanes
        self._body, self._core, self._model = body, core, workload.model
        asked, self._answer_bytes = self._checked_request()
        body.write_bytes(framed(asked))

    def _checked_request(self) -> tuple[bytes, int]:
        """A row in a gate's domain whose answer satisfies it, so that every lane gives Triton's bytes."""
        rng = np.random.default_rng(5)
        with contextlib.ExitStack() as stack:
            calls = {
                name: stack.enter_context(grpc.insecure_channel(lane.address)).unary_unary(METHOD)
                for name, lane in self._lanes.items()
            }
            for _ in range(100):
                row = rng.uniform(-1, 1, (1, 5)).astype(np.float32)
                row[0, 0] = FIRST_INPUT[UNTOUCHED]
                asked = request(self._model, row)
                answer = calls[DIRECT](asked)
                if scores(answer).argmax() != 1:
                    assert all(call(asked) == answer for call in calls.values()), "a lane changed Triton's answer"
                    return asked, len(answer)
        raise AssertionError("no row whose answer satisfies the gate")

    def saturating(self) -> int:
        """Streams of each of four connections to Triton itself."""
        rates = {streams: self.run(DIRECT, streams, SEARCH_SECONDS).rate for streams in MORE_CLIENTS}
        return min(streams for streams, rate in rates.items() if rate >= SATURATED * max(rates.values()))

    def run(self, name: str, streams: int, seconds: float) -> Measured:
        """One timed run, after a warm-up that says how many requests take that long."""
        warm = self._counted_run(name, streams, WARM_UP).rate
        return self._counted_run(name, streams, max(WARM_UP, int(warm * seconds)))

    def _counted_run(self, name: str, streams: int, requests: int) -> Measured:
        lane, shape = self._lanes[name], Shape(4, streams)
        with self._all_counted(name, requests):
            before = cpu_seconds(self._triton_pid), _cpu(lane)
            load = run_load(lane.address, self._body, self._answer_bytes, shape, requests, self._core)
            triton, sidecar = cpu_seconds(self._triton_pid) - before[0], _cpu(lane) - before[1]
        return Measured(load.rate, 1e6 * triton / requests, 1e6 * sidecar / requests)

    @contextlib.contextmanager
    def _all_counted(self, name: str, requests: int) -> Iterator[None]:
        before = self._successes()
        yield
        counted = self._successes() - before
        if counted != requests:
            raise LoadWentWrong(f"Triton before {name}: of {requests} requests it counts {counted} successes")

    def _successes(self) -> int:
        # Triton counts a call shortly after its answer.
        time.sleep(0.05)
        with tritonclient.grpc.InferenceServerClient(self._lanes[DIRECT].address) as client:
            (statistics,) = client.get_inference_statistics(self._model).model_stats
        return statistics.inference_stats.success.count


def _cpu(lane: _Lane) -> float:
    return 0.0 if lane.pid is None else cpu_seconds(lane.pid)


def table(share: Share) -> str:
    """Throughput and what is kept of Triton's own in the same round; CPU, and what is kept by that."""
    title = f"Triton, 4 x {share.streams}"
    head = f"{title:<22}{'req/s':>8}{'kept':>24}{'Triton us':>11}{'sidecar us':>12}{'kept by CPU':>13}"
    lines = [head]
    for place, rounds in share.rounds.items():
        lines.append(f"-- {place} ".ljust(len(head), "-"))
        lines += [_line(share.not_run, rounds, name, place == SHARED) for name in (DIRECT, PORTABLE, NATIVE)]
    return "\n".join(lines)


def _line(not_run: Mapping[str, str], rounds: Mapping[str, Sequence[Measured]], name: str, shares: bool) -> str:
    if name in not_run:
        return f"{name:<22}NOT RUN"
    mine, direct = rounds[name], rounds[DIRECT]
    rate, triton, sidecar = (
        median(values) for values in zip(*((each.rate, each.triton_us, each.sidecar_us) for each in mine), strict=True)
    )
    if name == DIRECT:
        return f"{name:<22}{rate:>8.0f}{'':>24}{triton:>11.0f}"
    kept = [ours.rate / alone.rate for ours, alone in zip(mine, direct, strict=True)]
    spread = f"{median(kept):.1%} [{min(kept):.1%}-{max(kept):.1%}]"
    alone = median(each.triton_us for each in direct)
    by_cpu = f"{alone / (triton + sidecar):.1%}" if shares else ""
    return f"{name:<22}{rate:>8.0f}{spread:>24}{triton:>11.0f}{sidecar:>12.1f}{by_cpu:>13}"
