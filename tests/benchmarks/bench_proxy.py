"""What the sidecar costs beside nginx, haproxy, Envoy and a bare grpcio proxy, and what a real Triton keeps.

Usage: python tests/benchmarks/bench_proxy.py [--rounds N] [--seconds S] [--messages N] [--lanes NAME ...]
       [--triton-rounds N] [--portable-rounds N]

Three parts, each of them left out with 0 rounds: the proxies before a fast upstream, one table for each size of
message; the share of a real Triton's throughput that is kept; the gates' own work on the portable transport. What
cannot run on this machine is a line that begins with NOT RUN, in the tables and after them.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc

from tests.benchmarks import load, portable_work, proxies, triton_share
from tests.benchmarks.lanes import NATIVE, OTHERS, PORTABLE, build_upstream, envoy_version, find_program
from tests.benchmarks.machine import server_and_load_core
from tests.benchmarks.workload import make_workload
from tests.e2e.installing import ServerUnavailable
from tests.e2e.processes import ServerFailed

MESSAGES = (
    ("5 floats", "floats5", 5, 5),
    ("784 floats", "floats784", 784, 10),
    ("602 KB", "floats150528", 150_528, 1000),
)
"""As ACAS Xu's, MNIST's and ImageNet's: title, model, inputs, outputs."""

PORTABLE_REQUESTS = 300
TRITON_SECONDS = 1.0

HOW = """How: the upstream is tests/native/upstream_echo, one answer for all messages of a size; gates, metrics and
decision ids are on, in our lanes two gates a model (class 1, class 0 not the largest of 5): outside is a row
in no gate's domain, untouched in that of the one that the answer satisfies, corrected in that of the other;
all other lanes carry the untouched message. Each proxy has one worker on core {server}; h2load (closed loop,
connections x streams) and the upstream are on core {load}, or on core {server} as well where it says so.
{rounds} rounds of all cells in a new order each, some {seconds} s a cell. CPU is utime + stime of the proxy's
whole process tree by the kernel's clock, per request, median of the rounds; "x" is requests per CPU second as
a multiple of the other's, median of the rounds' own ratios, their range in brackets. p50 is h2load's, added
is p50 over direct's in the same round, "/ Envoy" that over what Envoy adds; busy is CPU over time, of the
proxy. With streams enough to saturate something, p50 is a queue's. Answers were decoded before the clock
started; of each timed run the length of all answers, the upstream's count and the sidecar's own of the
outcome had to agree with the number of requests."""

TRITON_HOW = """How: Triton 2.51 (6 x 50 ReLU on onnxruntime, Python backend) is on core {server}, h2load on core
{load}, with as few streams as get the most out of Triton alone. Answers were compared byte by byte before; of
each run Triton's own count of successes and the length of all answers had to agree with the number of requests.
Kept is throughput over Triton's own in the same round; kept by CPU is Triton's CPU alone over that of both, per
request."""


def main() -> None:
    """Run the parts, print their tables."""
    arguments = _arguments()
    print(_machine(), end="\n\n", flush=True)
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.rounds:
            missing += _proxies(arguments, Path(folder) / "proxies")
        if arguments.triton_rounds:
            missing += _triton(arguments, Path(folder) / "triton")
    if arguments.portable_rounds:
        print(portable_work.tables(arguments.portable_rounds, PORTABLE_REQUESTS), end="\n\n", flush=True)
    print(f"Load average at the end: {_load_average()}")
    for line in missing:
        print(line)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of the proxies")
    parser.add_argument("--seconds", type=float, default=0.4, help="about how long each cell of a round takes")
    parser.add_argument("--messages", type=int, choices=(1, 2, 3), default=3, help="sizes, from the smallest on")
    lanes = (*OTHERS, PORTABLE, NATIVE)
    parser.add_argument("--lanes", nargs="+", choices=lanes, default=lanes, help="beside direct")
    parser.add_argument("--triton-rounds", type=int, default=4)
    parser.add_argument("--portable-rounds", type=int, default=5)
    return parser.parse_args()


def _proxies(arguments: argparse.Namespace, folder: Path) -> Sequence[str]:
    folder.mkdir()
    try:
        if not load.is_here():
            raise ServerUnavailable("this machine has no h2load (Debian: apt-get install nghttp2-client)")
        program = build_upstream(folder)
    except ServerUnavailable as error:
        return [f"NOT RUN: the comparison with other proxies: {error}"]
    workloads = [make_workload(*each) for each in MESSAGES[: arguments.messages]]
    results = proxies.compare(workloads, program, folder, arguments.lanes, arguments.rounds, arguments.seconds)
    for workload in workloads:
        print(proxies.table(results, workload), end="\n\n")
    server, load_core = server_and_load_core()
    print(HOW.format(server=server, load=load_core, rounds=arguments.rounds, seconds=arguments.seconds))
    missing = [f"NOT RUN: {lane.name}: {lane.not_run}" for lane in results.lanes if lane.not_run]
    print("\n".join(missing), end="\n\n", flush=True)
    return missing


def _triton(arguments: argparse.Namespace, folder: Path) -> Sequence[str]:
    folder.mkdir()
    try:
        if not load.is_here():
            raise ServerUnavailable("this machine has no h2load (Debian: apt-get install nghttp2-client)")
        share = triton_share.share_of_triton(
            make_workload(*MESSAGES[0]), folder, arguments.triton_rounds, TRITON_SECONDS
        )
    except (ServerUnavailable, ServerFailed) as error:
        return [f"NOT RUN: the share of Triton's throughput: {error}"]
    server, load_core = server_and_load_core()
    print(triton_share.table(share), TRITON_HOW.format(server=server, load=load_core), sep="\n", end="\n\n", flush=True)
    return [f"NOT RUN: Triton, {name}: {why}" for name, why in share.not_run.items()]


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    sharing = "" if cores > 1 else "; ONE CORE ONLY: load, upstream and server share it everywhere"
    programs = (("nginx", "-v"), ("haproxy", "-v"), ("h2load", "--version"), ("go", "version"))
    versions = [f"Python {platform.python_version()}", f"grpcio {grpc.__version__}", f"Envoy {envoy_version()}"]
    versions += [_version(*program) for program in programs]
    return f"Machine: {cores} cores{sharing}; load average at the start: {_load_average()}\n{'; '.join(versions)}"


def _version(program: str, option: str) -> str:
    path = find_program(program)
    if path is None:
        return f"no {program}"
    said = subprocess.run([path, option], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).splitlines()[0]


def _load_average() -> str:
    return ", ".join(f"{each:.1f}" for each in os.getloadavg())


if __name__ == "__main__":
    main()
