"""What a client feels while another one sends nothing but counterexamples in full batches.

Usage: python tests/benchmarks/bench_fairness.py [--rounds N] [--requests N]
"""

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
import numpy as np

from sidecar.protocols.generated import open_inference_pb2 as messages
from tests.benchmarks.portable_work import METHOD, MODEL, bench_network, best_class_property, running_process
from tests.e2e.guarding import compile_bundle, running_sidecar
from tests.e2e.triton.launcher import free_ports

BEST = 2
FINE, VIOLATING = "1,0,-1,0.5,0", "0.25,0.5,1,0.75,0.125"
BATCH_ROWS = 4096
BATCHES_IN_FLIGHT = 4
WARM_UP = 100
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)

HOW = """How: upstream is tests/benchmarks/scripted_upstream.py, sidecar is `sidecar serve` with one ordering gate over
five scores. Two neighbours, each on a connection of its own and in a closed loop, send one row: one whose answer
satisfies the property, and one whose answer must be corrected. Beside them, or not, a client in a process of its own
keeps {in_flight} batches of {rows} counterexamples in flight. {rounds} rounds of {requests} requests for each
neighbour, with and without in turn, after {warm_up} to warm up; percentiles are over all rounds. Everything shares
{cores} cores; Python {python}, grpcio {grpcio}."""


def request(scores: str, rows: int) -> bytes:
    """Rows in the property's domain; the upstream is told to answer each with these scores."""
    values = np.full((rows, 5), 0.5, "<f4")
    message = messages.ModelInferRequest(model_name=MODEL, id=scores, raw_input_contents=[values.tobytes()])
    message.inputs.add(name="input", datatype="FP32", shape=values.shape)
    return message.SerializeToString()


def send_batches(address: str, answered: Synchronized, refused: Synchronized) -> None:
    """Keep batches of counterexamples in flight for ever."""
    batch = request(VIOLATING, BATCH_ROWS)
    with grpc.insecure_channel(address, OPTIONS) as channel:
        call = channel.unary_unary(METHOD)

        def loop() -> None:
            while True:
                try:
                    call(batch, timeout=600)
                    count = answered
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    count = refused
                with count.get_lock():
                    count.value += 1

        threads = [threading.Thread(target=loop) for _ in range(BATCHES_IN_FLIGHT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@dataclasses.dataclass
class Crowd:
    """How many batches were answered and refused while they were sent, and for how long they were."""

    answered: int = 0
    refused: int = 0
    seconds: float = 0.0


@contextlib.contextmanager
def crowded(address: str, crowd: Crowd) -> Iterator[None]:
    """While the other client sends."""
    context = multiprocessing.get_context("spawn")
    answered, refused = context.Value("i", 0), context.Value("i", 0)
    process = context.Process(target=send_batches, args=(address, answered, refused), daemon=True)
    process.start()
    try:
        while not answered.value:
            assert process.is_alive()
            time.sleep(0.05)
        before, began = answered.value, time.perf_counter()
        yield
        crowd.seconds += time.perf_counter() - began
        crowd.answered += answered.value - before
        crowd.refused += refused.value
    finally:
        process.kill()
        process.join()


def neighbours(address: str, count: int) -> dict[str, list[float]]:
    """Latencies in milliseconds of both neighbours, who ask at the same time."""
    latencies: dict[str, list[float]] = {"untouched": [], "corrected": []}

    def loop(kind: str, content: bytes) -> None:
        with grpc.insecure_channel(address, OPTIONS) as channel:
            call = channel.unary_unary(METHOD)
            for index in range(WARM_UP + count):
                began = time.perf_counter()
                response = messages.ModelInferResponse.FromString(call(content, timeout=60))
                seconds = time.perf_counter() - began
                scores = np.frombuffer(response.raw_output_contents[0], "<f4")
                assert scores.argmax() != BEST, "the answer violates"
                if index >= WARM_UP:
                    latencies[kind].append(1e3 * seconds)

    threads = [
        threading.Thread(target=loop, args=(kind, request(scores, 1)))
        for kind, scores in (("untouched", FINE), ("corrected", VIOLATING))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(each) == count for each in latencies.values())
    return latencies


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """The sidecar's address."""
    model, bundle, stated = folder / f"{MODEL}.onnx", folder / f"{MODEL}.gates", folder / "property.vnnlib"
    model.write_bytes(bench_network(np.random.default_rng(3), "rows"))
    stated.write_text(best_class_property(BEST))
    compiled = compile_bundle(model, [stated], MODEL, bundle, "5s")
    assert compiled.returncode == 0, compiled.stderr
    upstream = f"127.0.0.1:{free_ports(1)[0]}"
    scripted = [sys.executable, str(Path(__file__).with_name("scripted_upstream.py")), upstream]
    with (
        running_process(scripted, upstream),
        running_sidecar([bundle], upstream, folder / "sidecar.log") as sidecar,
    ):
        yield sidecar.address


def line(name: str, alone: Sequence[float], beside: Sequence[float]) -> str:
    """Percentiles of one neighbour in milliseconds, and by how much they grew."""
    cells = [
        f"{np.percentile(alone, share):>9.2f}{np.percentile(beside, share):>9.2f}"
        f"{np.percentile(beside, share) / np.percentile(alone, share):>7.2f}"
        for share in (50, 99)
    ]
    return f"{name:<12}" + "".join(cells)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=1000, help="for each neighbour and round")
    arguments = parser.parse_args()
    alone: dict[str, list[float]] = {"untouched": [], "corrected": []}
    beside: dict[str, list[float]] = {"untouched": [], "corrected": []}
    crowd = Crowd()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as address:
        for _ in range(arguments.rounds):
            for kind, latencies in neighbours(address, arguments.requests).items():
                alone[kind] += latencies
            with crowded(address, crowd):
                for kind, latencies in neighbours(address, arguments.requests).items():
                    beside[kind] += latencies
    head = f"{'neighbour':<12}{'p50 ms':>9}{'crowded':>9}{'x':>7}{'p99 ms':>9}{'crowded':>9}{'x':>7}"
    print("\n".join([head, "-" * len(head), *(line(kind, alone[kind], beside[kind]) for kind in alone)]))
    rate = BATCH_ROWS * crowd.answered / crowd.seconds
    print(f"\nMeanwhile the other client had {rate:.0f} rows a second corrected, {crowd.refused} batches refused.\n")
    print(
        HOW.format(
            in_flight=BATCHES_IN_FLIGHT,
            rows=BATCH_ROWS,
            rounds=arguments.rounds,
            requests=arguments.requests,
            warm_up=WARM_UP,
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            grpcio=grpc.__version__,
        )
    )


if __name__ == "__main__":
    main()
