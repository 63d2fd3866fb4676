"""How fast and how far the search proves, on public networks: `make bench-compile`.

Usage: python tests/benchmarks/bench_compile.py [--only SECTION ...] [--limits S,...] [--global-minutes M,...]
       [--minimum-volume V] [--samples N] [--budget S] [--most N] [--set NAME ...]

Sections: ``verdicts`` (all 186 ACAS Xu instances in one process), ``coverage`` (41 violated pairs against time),
``sets`` (the larger sets, a budget each), ``bundles`` (whole compilations; by name only, some minutes). The machine may
be shared, so seconds are a guide, and the load is printed; region counts and shares of searches that end by themselves
are the same in every run. For the pairs with most of the domain:
--only coverage --limits 0 --global-minutes 1,5,60.
"""

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.compiler.search import SearchLimits
from tests.benchmarks import compile_bundles, compile_coverage, compile_sets, compile_verdicts
from tests.benchmarks.public_sets import data_folder

SECTIONS: Final = ("verdicts", "coverage", "sets", "bundles")
DEFAULT: Final = SECTIONS[:3]
BUNDLE_SECONDS: Final = 60.0


def main() -> int:
    """Print the sections asked for; 1 where a verdict is wrong or there is no data."""
    parser = argparse.ArgumentParser(description="How fast and how far the search proves, on public networks.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=DEFAULT, help="these sections")
    parser.add_argument(
        "--limits", type=_numbers, default="1,10", help="seconds, for the pairs with property 2; 0 for none"
    )
    parser.add_argument(
        "--global-minutes", type=_numbers, default="1", help="for the pairs with properties 7 and 8; 0 leaves them out"
    )
    parser.add_argument("--samples", type=int, default=200_000, help="per pair, for the truly violating share")
    parser.add_argument("--minimum-volume", type=float, default=SearchLimits().minimum_volume, help="as of compile")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per instance of the larger sets")
    parser.add_argument("--most", type=int, default=None, help="instances of each larger set (default: all)")
    parser.add_argument("--set", nargs="+", choices=compile_sets.SETS, default=compile_sets.SETS, help="which of them")
    arguments = parser.parse_args()
    if not (data_folder() / "acasxu").is_dir():
        print(f"NOT RUN: no public data at GATE_DATA ({data_folder()})", file=sys.stderr)
        return 1
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load average {load} before it began")
    right = compile_verdicts.run() if "verdicts" in arguments.only else True
    if "coverage" in arguments.only:
        minutes = [60.0 * value for value in arguments.global_minutes if value > 0]
        seconds = [value for value in arguments.limits if value > 0]
        compile_coverage.run(seconds, minutes, arguments.samples, arguments.minimum_volume)
    if "sets" in arguments.only:
        compile_sets.run(arguments.set, arguments.budget, arguments.most)
    if "bundles" in arguments.only:
        compile_bundles.run(BUNDLE_SECONDS)
    return 0 if right else 1


def _numbers(text: str) -> list[float]:
    return sorted(float(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
