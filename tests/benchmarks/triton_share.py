"""How much of a real Triton's throughput is left when a sidecar stands before it, with as many clients as saturate it.

Triton and the sidecar share the server's core, as two containers of a pod share theirs; the load has the other one.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import grpc
import numpy as np
import tritonclient.grpc

from tests.benchmarks.lanes import DIRECT, NATIVE, PORTABLE, NotReady, running_sidecar
from tests.benchmarks.load import LoadWentWrong, Shape, framed, run_load
from tests.benchmarks.machine import on_cores, server_and_load_core
from tests.benchmarks.portable_work import bench_network
from tests.benchmarks.workload import FIRST_INPUT, METHOD, UNTOUCHED, Workload, request, scores
from tests.e2e.installing import ServerUnavailable
from tests.e2e.triton.launcher import ServedModel, cache_folder, install_triton, running_triton

MORE_CLIENTS = (1, 2, 4, 8, 16)
SATURATED = 1.05
"""Twice the clients get less than this factor more done."""

WARM_UP = 100
SEARCH_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Share:
    """Requests per second by lane and round; ``streams`` of four connections each; lanes that did not run, and why."""

    streams: int
    rates: Mapping[str, Sequence[float]]
    not_run: Mapping[str, str]


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
        with on_cores({server_core}):
            triton = stack.enter_context(running_triton(install, [model], folder / "triton"))
        addresses, missing = {DIRECT: triton.grpc_address}, {}
        for transport in (PORTABLE, NATIVE):
            try:
                start = running_sidecar(transport, [workload], triton.grpc_address, folder, server_core)
                addresses[transport] = stack.enter_context(start)[0]
            except (ServerUnavailable, NotReady) as error:
                missing[transport] = str(error)
        stack.enter_context(on_cores({load_core}))
        run = _Runs(workload, addresses, folder / "triton.request", load_core)
        streams = run.saturating()
        rates = {name: [] for name in addresses}
        for index in range(rounds):
            for name in sorted(addresses, reverse=bool(index % 2)):
                rates[name].append(run.rate(name, streams, seconds))
        return Share(streams, rates, missing)


class _Runs:
    def __init__(self, workload: Workload, addresses: Mapping[str, str], body: Path, core: int) -> None:
        self._addresses, self._body, self._core, self._model = addresses, body, core, workload.model
        asked, self._answer_bytes = self._checked_request()
        body.write_bytes(framed(asked))

    def _checked_request(self) -> tuple[bytes, int]:
        """A row in a gate's domain whose answer satisfies it, so that every lane gives Triton's bytes."""
        rng = np.random.default_rng(5)
        with contextlib.ExitStack() as stack:
            calls = {
                name: stack.enter_context(grpc.insecure_channel(address)).unary_unary(METHOD)
                for name, address in self._addresses.items()
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
        rates = {streams: self.rate(DIRECT, streams, SEARCH_SECONDS) for streams in MORE_CLIENTS}
        for fewer, more in itertools.pairwise(MORE_CLIENTS):
            if rates[more] < SATURATED * rates[fewer]:
                return more
        return MORE_CLIENTS[-1]

    def rate(self, name: str, streams: int, seconds: float) -> float:
        """Requests per second, after a warm-up that says how many that will be."""
        warm = self._run(name, streams, WARM_UP)
        return self._run(name, streams, max(WARM_UP, int(warm * seconds)))

    def _run(self, name: str, streams: int, requests: int) -> float:
        with self._all_counted(name, requests):
            shape = Shape(4, streams)
            return run_load(self._addresses[name], self._body, self._answer_bytes, shape, requests, self._core).rate

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
        with tritonclient.grpc.InferenceServerClient(self._addresses[DIRECT]) as client:
            (statistics,) = client.get_inference_statistics(self._model).model_stats
        return statistics.inference_stats.success.count


def table(share: Share) -> str:
    """Throughput, and what is kept of Triton's own in the same round."""
    head = f"Triton, 4 x {share.streams}".ljust(22) + f"{'req/s':>8}{'kept':>22}"
    lines = [head, "-" * len(head)]
    for name in (DIRECT, PORTABLE, NATIVE):
        if name in share.not_run:
            lines.append(f"{name:<22}NOT RUN: {share.not_run[name]}")
            continue
        kept = [mine / direct for mine, direct in zip(share.rates[name], share.rates[DIRECT], strict=True)]
        spread = f"{median(kept):.1%} [{min(kept):.1%}-{max(kept):.1%}]"
        lines.append(f"{name:<22}{median(share.rates[name]):>8.0f}{spread:>22}")
    return "\n".join(lines)
