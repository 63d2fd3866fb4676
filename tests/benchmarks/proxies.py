"""The proxies and the sidecar's transports before a fast upstream: one interleaved run, every answer accounted for.

An answer is checked three times: by a client that decodes it, before the clock starts; and of each timed run by the
length of all answers, by what the upstream counts as answered, and by what our own lanes count as their outcome.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from tests.benchmarks.lanes import BARE, DIRECT, ENVOY, NGINX, Lane, Upstream, running_lanes, running_upstream
from tests.benchmarks.load import Load, LoadWentWrong, Shape, framed, run_load
from tests.benchmarks.machine import cpu_seconds, on_cores, pin, server_and_load_core
from tests.benchmarks.workload import CORRECTED, METHOD, Workload, scores

TWO_CORES = (Shape(1, 1), Shape(4, 4))
ONE_CORE = (Shape(1, 1, one_core=True), Shape(4, 4, one_core=True))
FIRST_GUESS = 32
MOST_REQUESTS = 200_000
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure: who is asked what, and how."""

    workload: Workload
    shape: Shape
    lane: Lane


@dataclasses.dataclass(frozen=True)
class Measured:
    """A cell in one round; CPU of the process in the middle, and the share of its core that it kept busy."""

    load: Load
    cpu_us: float
    busy: float


Round = Mapping[tuple[str, str, str], Measured]
"""By the workload's title, the shape and the lane's name."""


@dataclasses.dataclass(frozen=True)
class Results:
    """All rounds, and the lanes that were to run."""

    workloads: Sequence[Workload]
    lanes: Sequence[Lane]
    rounds: Sequence[Round]


class Bench:
    """Everything that runs, and the files that h2load sends."""

    def __init__(self, upstream: Upstream, workloads: Sequence[Workload], lanes: Sequence[Lane], folder: Path) -> None:
        self._upstream = upstream
        self._workloads = workloads
        self._lanes = lanes
        self._folder = folder
        self._server_core, self._load_core = server_and_load_core()
        self._answer_bytes: dict[tuple[str, str], int] = {}
        self.cells = [
            Cell(workload, shape, lane)
            for workload in workloads
            for shape in shapes_of(workload, workloads)
            for lane in lanes
            if not lane.not_run
        ]

    def check(self) -> None:
        """Each lane answers each message as its name says; how long its answers are is kept for the timed runs."""
        for workload in self._workloads:
            for kind, request in workload.requests.items():
                self._body(workload, kind).write_bytes(framed(request))
            for lane in self._lanes:
                if not lane.not_run:
                    self._answer_bytes[workload.title, lane.name] = len(checked_answer(workload, lane))

    def run(self, cell: Cell, requests: int) -> Measured:
        """One timed run.

        Raises:
            LoadWentWrong: not every call was answered as it has to be.
        """
        with self._upstream_where(cell.shape), self._all_counted(cell, requests):
            core = self._server_core if cell.shape.one_core else self._load_core
            body = self._body(cell.workload, cell.lane.kind)
            answer_bytes = self._answer_bytes[cell.workload.title, cell.lane.name]
            before = _cpu(cell.lane)
            load = run_load(cell.lane.address, body, answer_bytes, cell.shape, requests, core)
            used = _cpu(cell.lane) - before
        return Measured(load, 1e6 * used / requests, used / load.seconds)

    def requests_for(self, cell: Cell, seconds: float) -> int:
        """How many requests take about this long; also warms up."""
        count = FIRST_GUESS
        for share in (0.2, 1.0):
            rate = self.run(cell, count).load.rate
            count = int(min(max(rate * seconds * share, FIRST_GUESS), MOST_REQUESTS))
        return count

    def _body(self, workload: Workload, kind: str) -> Path:
        return self._folder / f"{workload.model}-{kind}.request"

    @contextlib.contextmanager
    def _upstream_where(self, shape: Shape) -> Iterator[None]:
        if shape.one_core:
            pin(self._upstream.pid, {self._server_core})
        try:
            yield
        finally:
            pin(self._upstream.pid, {self._load_core})

    @contextlib.contextmanager
    def _all_counted(self, cell: Cell, requests: int) -> Iterator[None]:
        size, before, decided = str(cell.workload.request_bytes), self._upstream.counts(), _decided(cell)
        yield
        answered = self._upstream.counts()[size] - before[size]
        if answered != requests:
            raise LoadWentWrong(f"{cell.lane.name}: of {requests} requests the upstream answered {answered}")
        counted = _decided(cell) - decided
        if cell.lane.sidecar and counted != requests:
            raise LoadWentWrong(f"{cell.lane.name}: of {requests} requests {counted} ended as {cell.lane.kind}")


def shapes_of(workload: Workload, workloads: Sequence[Workload]) -> Sequence[Shape]:
    """All on one core only for the smallest message: that is where the work of the proxy shows."""
    return TWO_CORES + ONE_CORE if workload is workloads[0] else TWO_CORES


def checked_answer(workload: Workload, lane: Lane) -> bytes:
    """The answer to the lane's kind of request, decoded and found right."""
    with grpc.insecure_channel(lane.address, options=UNLIMITED) as channel:
        answer = channel.unary_unary(METHOD)(workload.requests[lane.kind], timeout=60)
    if lane.kind != CORRECTED:
        assert answer == workload.answer, f"{lane.name}: the answer was changed"
        return answer
    expected, got = scores(workload.answer), scores(answer)
    assert expected.argmax() == 0
    assert got.shape == expected.shape
    assert (got[1:5] >= got[0]).any(), f"{lane.name}: not corrected: {got}"
    return answer


def _cpu(lane: Lane) -> float:
    return 0.0 if lane.pid is None else cpu_seconds(lane.pid)


def _decided(cell: Cell) -> float:
    if cell.lane.sidecar is None:
        return 0
    return cell.lane.sidecar.metric("gate_requests_total", model=cell.workload.model, outcome=cell.lane.kind)


def compare(
    workloads: Sequence[Workload], program: Path, folder: Path, wanted: Sequence[str], rounds: int, seconds: float
) -> Results:
    """Starts everything, checks it, and runs all cells in a new order each round."""
    server_core, load_core = server_and_load_core()
    order = np.random.default_rng(4)
    with (
        running_upstream(program, workloads, folder, load_core) as upstream,
        running_lanes(upstream.address, workloads, folder, server_core, wanted) as lanes,
        on_cores({load_core}),
    ):
        bench = Bench(upstream, workloads, lanes, folder)
        bench.check()
        counts = [bench.requests_for(cell, seconds) for cell in bench.cells]
        measured = []
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}: {len(bench.cells)} cells", file=sys.stderr, flush=True)
            shuffled = order.permutation(len(bench.cells))
            measured.append(
                {_key(bench.cells[index]): bench.run(bench.cells[index], counts[index]) for index in shuffled}
            )
        return Results(workloads, lanes, measured)


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.workload.title, str(cell.shape), cell.lane.name


# -- the tables -----------------------------------------------------------------------------------------------

HEAD = (
    f"{'':<22}{'CPU us':>8}{'x nginx':>22}{'x Envoy':>22}{'x bare':>22}"
    f"{'p50 us':>9}{'added':>8}{'/ Envoy':>9}{'req/s':>9}{'busy':>6}"
)


def table(results: Results, workload: Workload) -> str:
    """Every lane for one size of message."""
    lines = [f"{workload.title}: request {workload.request_bytes} bytes, answer {len(workload.answer)} bytes", HEAD]
    for shape in shapes_of(workload, results.workloads):
        lines.append(f"-- {shape} ".ljust(len(HEAD), "-"))
        lines += [_line(results, workload.title, str(shape), lane) for lane in results.lanes]
    return "\n".join(lines)


def _line(results: Results, title: str, shape: str, lane: Lane) -> str:
    if lane.not_run:
        return f"{lane.name:<22}NOT RUN"

    def of(name: str) -> list[Measured] | None:
        found = [each[title, shape, name] for each in results.rounds if (title, shape, name) in each]
        return found or None

    mine, direct = of(lane.name), of(DIRECT)
    p50, rate = median(each.load.p50_us for each in mine), median(each.load.rate for each in mine)
    if lane.pid is None:
        return f"{lane.name:<22}{'-':>8}{'':>66}{p50:>9.0f}{'':>17}{rate:>9.0f}"
    cpu, busy = median(each.cpu_us for each in mine), median(each.busy for each in mine)
    added = median(_added(mine, direct))
    envoy = of(ENVOY)
    of_envoy = f"{median(_quotients(_added(mine, direct), _added(envoy, direct))):.2f}" if envoy else "NOT RUN"
    nginx_ratio, envoy_ratio, bare_ratio = (_ratio(of(other), mine) for other in (NGINX, ENVOY, BARE))
    return (
        f"{lane.name:<22}{cpu:>8.1f}{nginx_ratio:>22}{envoy_ratio:>22}{bare_ratio:>22}"
        f"{p50:>9.0f}{added:>8.0f}{of_envoy:>9}{rate:>9.0f}{busy:>6.0%}"
    )


def _added(lane: Sequence[Measured], direct: Sequence[Measured]) -> list[float]:
    return [mine.load.p50_us - theirs.load.p50_us for mine, theirs in zip(lane, direct, strict=True)]


def _quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [high / low if low > 0 else float("nan") for high, low in zip(above, below, strict=True)]


def _ratio(other: Sequence[Measured] | None, mine: Sequence[Measured]) -> str:
    """Requests per CPU second as a multiple of the other's."""
    if other is None:
        return "NOT RUN"
    ratios = _quotients([each.cpu_us for each in other], [each.cpu_us for each in mine])
    middle, least, most = (f"{each:.{1 if each >= 10 else 2}f}" for each in (median(ratios), min(ratios), max(ratios)))
    return f"{middle} [{least}-{most}]"
