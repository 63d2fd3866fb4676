"""The gates' own work as a share of a bare grpcio pass-through, on the portable transport, before a real model.

What `bench_proxy` shows of the proxies it shows with a load generator; here a client of grpcio asks, each request of
a kind is another one, and the gates were compiled by `sidecar compile`.
"""

import contextlib
import dataclasses
import functools
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import grpc
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sidecar.protocols.generated import open_inference_pb2 as messages
from tests.benchmarks.machine import cpu_seconds
from tests.benchmarks.own_work import OwnWork
from tests.e2e.guarding import SIDECAR, RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.triton.launcher import free_ports

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MODEL = "bench"
IN_FLIGHT = (1, 4)
WARM_UP = 40
DISTINCT_REQUESTS = 64
OWN_REPETITIONS = 20
LANES = ("direct", "bare pass-through", "sidecar, outside", "sidecar, untouched", "sidecar, corrected")
BARE = LANES[1]

HOW = """How: upstream is `sidecar model-server` (5 inputs, 6 x 50 ReLU, 5 outputs, one onnxruntime thread), bare is
tests/benchmarks/passthrough.py, sidecar is `sidecar serve --transport portable` with one ordering gate; each a
process of its own on loopback. The client is grpcio's synchronous one, one connection, closed loop, 1 or 4
threads. Each round runs every lane in a new order, {requests} requests for each thread count after {warm_up} to
warm up; {rounds} rounds. p50 is the median of the rounds' medians; a ratio is the median of the rounds' own
ratios to bare, its range in brackets. CPU is utime + stime of the process in the middle (of the upstream for
direct), all threads, over all rounds. Own is the gate's own work, admit and judge as the sidecar times them
itself (gate_decision_duration_seconds), its share that of bare's CPU. Own in a loop is CPU of admit, judge and
the books of both, without anything in between, in this process between the rounds. Correctness was checked
before the clock started."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """One way to ask: where, with which messages, and whose CPU time is counted."""

    name: str
    address: str
    requests: Sequence[bytes]
    pid: int
    own_seconds: Callable[[], float] | None = None  # what the sidecar says that it has computed so far


@dataclasses.dataclass(frozen=True)
class Measured:
    """One lane in one round: median latency; CPU and, of a sidecar, the gate's own work per request."""

    latency_us: float
    cpu_us: float
    own_us: float | None


# -- a model, a property, and three kinds of requests ---------------------------------------------------------


def bench_network(rng: np.random.Generator, rows: int | str = 1) -> bytes:
    """A random network of ACAS Xu's size: 5 inputs, six hidden layers of 50, 5 outputs; one row, or a named number."""
    sizes = [5, *[50] * 6, 5]
    nodes, constants, last = [], [], "input"
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(scale=(2 / fan_in) ** 0.5, size=(fan_in, fan_out)).astype(np.float32)
        constants += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(np.zeros(fan_out, np.float32), f"b{layer}"),
        ]
        output = f"h{layer}" if layer < 6 else "scores"
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [output]))
        if layer < 6:
            nodes.append(helper.make_node("Relu", [output], [f"r{layer}"]))
        last = f"r{layer}"
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 5])] for name in ("input", "scores")
    )
    graph = helper.make_graph(nodes, MODEL, inputs, outputs, constants)
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def best_class_property(best: int) -> str:
    """VNN-LIB: in the half of the inputs with x0 >= 0, this class must not have the largest score."""
    declared = [f"(declare-const {letter}_{index} Real)" for letter in "XY" for index in range(5)]
    box = [f"(assert (>= X_{index} {0.0 if index == 0 else -1.0}))(assert (<= X_{index} 1.0))" for index in range(5)]
    unsafe = [f"(assert (<= Y_{index} Y_{best}))" for index in range(5) if index != best]
    return "\n".join([*declared, *box, *unsafe])


def request_kinds(content: bytes, rng: np.random.Generator) -> tuple[int, dict[str, list[bytes]]]:
    """A class that wins in part of the box, and requests outside the box, satisfying and violating in it."""
    session = onnxruntime.InferenceSession(content)
    rows = rng.uniform(-1, 1, (4000, 1, 5)).astype(np.float32)
    winners = np.array([session.run(None, {"input": row})[0].argmax() for row in rows])
    inside = rows[:, 0, 0] >= 0
    shares = np.bincount(winners[inside], minlength=5) / inside.sum()
    best = int(np.abs(shares - 0.4).argmin())
    chosen = {
        "outside": ~inside,
        "untouched": inside & (winners != best),
        "corrected": inside & (winners == best),
    }
    kinds = {kind: [_request(row) for row in rows[mask][:DISTINCT_REQUESTS]] for kind, mask in chosen.items()}
    assert all(len(requests) == DISTINCT_REQUESTS for requests in kinds.values()), shares
    return best, kinds


def _request(row: np.ndarray) -> bytes:
    request = messages.ModelInferRequest(model_name=MODEL, raw_input_contents=[row.tobytes()])
    request.inputs.add(name="input", datatype="FP32", shape=row.shape)
    return request.SerializeToString()


def _scores(response: bytes) -> np.ndarray:
    return np.frombuffer(messages.ModelInferResponse.FromString(response).raw_output_contents[0], "<f4")


# -- the processes --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_process(command: Sequence[str], address: str) -> Iterator[int]:
    """A process that listens on the address; gives its id."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running_lanes(folder: Path) -> Iterator[list[Lane]]:
    """All lanes, ready and checked."""
    rng = np.random.default_rng(3)
    model, bundle, stated = folder / f"{MODEL}.onnx", folder / f"{MODEL}.gates", folder / "property.vnnlib"
    model.write_bytes(bench_network(rng))
    best, kinds = request_kinds(model.read_bytes(), rng)
    stated.write_text(best_class_property(best))
    compiled = compile_bundle(model, [stated], MODEL, bundle, "10s")
    assert compiled.returncode == 0, compiled.stderr
    upstream, bare = (f"127.0.0.1:{port}" for port in free_ports(2))
    served = [*SIDECAR, "model-server", "--model", str(model), "--listen", upstream]
    passing = [sys.executable, str(Path(__file__).with_name("passthrough.py")), bare, upstream]
    with (
        running_process(served, upstream) as upstream_pid,
        running_process(passing, bare) as bare_pid,
        running_sidecar([bundle], upstream, folder / "sidecar.log", ["--transport", "portable"]) as sidecar,
    ):
        lanes = [
            Lane(LANES[0], upstream, kinds["untouched"], upstream_pid),
            Lane(LANES[1], bare, kinds["untouched"], bare_pid),
            *(
                Lane(f"sidecar, {kind}", sidecar.address, requests, sidecar.pid, functools.partial(_own, sidecar))
                for kind, requests in kinds.items()
            ),
        ]
        assert tuple(lane.name for lane in lanes) == LANES
        check_answers(lanes, upstream, best)
        yield lanes


def _own(sidecar: RunningSidecar) -> float:
    return sidecar.metric("gate_decision_duration_seconds_sum", model=MODEL)


def check_answers(lanes: Sequence[Lane], upstream: str, best: int) -> None:
    """Each lane does what its name says, on every message that will be timed."""
    with grpc.insecure_channel(upstream) as direct:
        for lane in lanes:
            with grpc.insecure_channel(lane.address) as channel:
                for request in lane.requests:
                    expected, got = direct.unary_unary(METHOD)(request), channel.unary_unary(METHOD)(request)
                    if lane.name == "sidecar, corrected":
                        assert _scores(expected).argmax() == best
                        assert (_scores(got) > _scores(got)[best]).any(), f"not corrected: {_scores(got)}"
                    else:
                        assert got == expected, f"{lane.name}: the answer was changed"


# -- the clock ------------------------------------------------------------------------------------------------


def measure(lane: Lane, in_flight: int, requests: int) -> Measured:
    """A closed loop on one connection, ``in_flight`` threads with an equal share of the requests."""
    with grpc.insecure_channel(lane.address) as channel:
        call = channel.unary_unary(METHOD)
        _loop(call, lane.requests, WARM_UP)
        latencies: list[float] = []
        threads = [
            threading.Thread(target=lambda: latencies.extend(_loop(call, lane.requests, requests // in_flight)))
            for _ in range(in_flight)
        ]
        own_before = lane.own_seconds() if lane.own_seconds else 0.0
        before = cpu_seconds(lane.pid)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = cpu_seconds(lane.pid) - before
        own = 1e6 * (lane.own_seconds() - own_before) / len(latencies) if lane.own_seconds else None
    return Measured(1e6 * median(latencies), 1e6 * used / len(latencies), own)


def _loop(call: Callable[[bytes], bytes], requests: Sequence[bytes], count: int) -> list[float]:
    latencies = []
    for index in range(count):
        began = time.perf_counter()
        call(requests[index % len(requests)])
        latencies.append(time.perf_counter() - began)
    return latencies


def table(rounds: Sequence[dict[str, Measured]], in_flight: int) -> str:
    """p50 and CPU of each lane, and their ratios to the bare pass-through."""
    head = (
        f"{in_flight} in flight".ljust(20)
        + f"{'p50 us':>8}  {'x bare':>18}{'CPU us':>9}{'x bare':>8}{'own us':>8}{'share':>7}"
    )
    lines = [head, "-" * len(head)]
    bare_cpu = sum(each[BARE].cpu_us for each in rounds)
    for name in LANES:
        ratios = [each[name].latency_us / each[BARE].latency_us for each in rounds]
        latency = median(each[name].latency_us for each in rounds)
        cpu = sum(each[name].cpu_us for each in rounds)
        spread = f"{median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        cpu_ratio = "" if name == "direct" else f"{cpu / bare_cpu:.2f}"
        owns = [own for each in rounds if (own := each[name].own_us) is not None]
        own = f"{sum(owns) / len(rounds):>8.0f}{sum(owns) / bare_cpu:>7.1%}" if owns else ""
        lines.append(f"{name:<20}{latency:>8.0f}  {spread:>18}{cpu / len(rounds):>9.0f}{cpu_ratio:>8}{own}")
    return "\n".join(lines)


def exchanges(lanes: Sequence[Lane]) -> dict[str, list[tuple[bytes, bytes]]]:
    """Of each kind of request, each with the upstream's answer."""
    with grpc.insecure_channel(lanes[0].address) as channel:
        call = channel.unary_unary(METHOD)
        return {lane.name: [(each, call(each)) for each in lane.requests] for lane in lanes if lane.own_seconds}


def own_table(own: dict[str, list[float]], results: dict[int, list[dict[str, Measured]]]) -> str:
    """The gate's own work in a loop, as a share of bare's CPU at each number of requests in flight."""
    head = "own in a loop".ljust(20) + f"{'CPU us':>8}" + "".join(f"{f'{n} in flight':>13}" for n in results)
    lines = [head, "-" * len(head)]
    for name, times in own.items():
        shares = [
            median(times) * len(rounds) / sum(each[BARE].cpu_us for each in rounds) for rounds in results.values()
        ]
        lines.append(f"{name:<20}{median(times):>8.0f}" + "".join(f"{share:>13.1%}" for share in shares))
    return "\n".join(lines)


def tables(rounds: int, requests: int) -> str:
    """Runs it, in some two seconds a round, and says what came out and how."""
    order = np.random.default_rng(4)
    results: dict[int, list[dict[str, Measured]]] = {in_flight: [] for in_flight in IN_FLIGHT}
    with tempfile.TemporaryDirectory() as folder, running_lanes(Path(folder)) as lanes:
        pairs = exchanges(lanes)
        work = OwnWork((Path(folder) / f"{MODEL}.gates").read_bytes())
        own: dict[str, list[float]] = {name: [] for name in pairs}
        for _ in range(rounds):
            for name, times in own.items():
                times.append(work.microseconds(pairs[name], OWN_REPETITIONS))
            for in_flight, measured in results.items():
                shuffled = [lanes[index] for index in order.permutation(len(lanes))]
                measured.append({lane.name: measure(lane, in_flight, requests) for lane in shuffled})
    said = [table(measured, in_flight) for in_flight, measured in results.items()]
    how = HOW.format(requests=requests, warm_up=WARM_UP, rounds=rounds)
    return "\n\n".join([*said, own_table(own, results), how])
