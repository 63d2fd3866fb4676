"""All 186 ACAS Xu instances in one process: verdicts, time, memory, and what other tools needed."""

import os
import resource
import time
from pathlib import Path
from typing import Final

from sidecar.compiler.compiled import compiled_step
from sidecar.compiler.rounding import declared_arithmetic
from sidecar.compiler.verify import Verified, verify
from sidecar.compiler.verify_report import overall
from tests.benchmarks.public_sets import Instance, acas_xu

LIMIT_SECONDS: Final = 116.0
"""For each instance, as at VNN-COMP."""

SLOWEST_SHOWN: Final = 8

BAR_WALL_SECONDS: Final = 25.0
BAR_HARDEST_SECONDS: Final = 5.0
BAR_MEMORY_BYTES: Final = 2e9
HARDEST: Final = "3_3 prop_2"

PUBLISHED: Final = """\
   other tools, their own figures, each on faster or larger machines than two cores:
     VNN-COMP 2023 / 2025, all 186 instances: nnenum 351 / 414 s, alpha-beta-CROWN 1545 / 1377 s,
     NeuralSAT 1175 / 3528 s, PyRAT 1163 / 2910 s; Marabou 1735 s"""
"""Published totals; the competition's machines of those years."""


def run() -> bool:
    """Print the section; whether all verdicts are right."""
    instances = acas_xu()
    began = time.monotonic()
    compiled_step()
    start_up = time.monotonic() - began
    decided = [(each, *_decided(each)) for each in instances]
    wall, used = _since_start(), resource.getrusage(resource.RUSAGE_SELF)
    right = [each.verdict == overall(found) for each, found, _ in decided]
    print(f"\nVerdicts on all {len(instances)} ACAS Xu instances: one process, start-up included, {_cores()} cores")
    for (each, found, _), fine in zip(decided, right, strict=True):
        if not fine:
            print(f"   WRONG OR UNKNOWN: {each.name}: {overall(found)}, known: {each.verdict}")
    slowest = sorted(decided, key=lambda row: -row[2])[:SLOWEST_SHOWN]
    print("   slowest: " + "; ".join(f"{each.name} {seconds:.2f} s" for each, _, seconds in slowest))
    hardest = next(seconds for each, _, seconds in decided if each.name == HARDEST)
    print(f"   wall {wall:.1f} s ({start_up:.1f} s of it loading compiled kernels), CPU {_cpu(used):.1f} s", end="")
    print(f" (all threads: {_cpu(used) / wall / _cores():.0%} of the cores), load average {os.getloadavg()[0]:.1f}")
    for tool in ("nnenum", "alpha-beta-CROWN"):
        total = sum(dict(each.published_seconds)[tool] for each in instances)
        print(f"   {tool} on the same instances at VNN-COMP 2021: {total:,.0f} s{_MACHINE[tool]}")
    print(PUBLISHED)
    memory = used.ru_maxrss * 1024
    _bar(f"verdicts {sum(right)}/{len(right)}", all(right), "186/186, none wrong")
    _bar(f"wall {wall:.1f} s", wall < BAR_WALL_SECONDS, f"< {BAR_WALL_SECONDS:g} s on two cores")
    _bar(f"N3,3 property 2 {hardest:.2f} s", hardest < BAR_HARDEST_SECONDS, f"< {BAR_HARDEST_SECONDS:g} s")
    _bar(f"peak memory {memory / 1e9:.2f} GB", memory < BAR_MEMORY_BYTES, "< 2 GB")
    return all(right)


_MACHINE: Final = {"nnenum": "", "alpha-beta-CROWN": ", on a machine with a GPU"}


def _decided(each: Instance) -> tuple[list[Verified], float]:
    began = time.monotonic()
    model, properties = each.read()
    found = verify(model, properties, declared_arithmetic(model.signature), LIMIT_SECONDS, None, lambda _: None)
    return found, time.monotonic() - began


def _bar(got: str, met: bool, bar: str) -> None:
    print(f"   {'met    ' if met else 'NOT MET'}  {got}; bar: {bar}")


def _cpu(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _since_start() -> float:
    """Wall seconds since this process began, the interpreter's own start included."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
