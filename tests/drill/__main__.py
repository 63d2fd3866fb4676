"""`make drill`: every fault against a real Triton under load, as a table. The exit status is 0 where all promises held.

Usage: python -m tests.drill [--only NAME ...] [--keep FOLDER]
"""

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np

from tests.drill.harness import Ground, Report, run
from tests.drill.model import prepare, requests
from tests.drill.scenarios import SCENARIOS
from tests.drill.seen import encode
from tests.drill.table import HEAD, details, row, verdict
from tests.e2e.installing import ServerUnavailable
from tests.e2e.triton.launcher import cache_folder, install_triton

REQUESTS = 400


def lay_ground(folder: Path) -> Ground:
    """Triton installed, bundles compiled, requests encoded."""
    install = install_triton(cache_folder())
    made = requests(REQUESTS, np.random.default_rng(20260101))
    return Ground(install, prepare(folder), [encode(rows) for rows in made])


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for logs; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drill-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return drill(arguments.only, folder)


def drill(names: list[str], folder: Path) -> int:
    """The table, and the exit status."""
    began = time.monotonic()
    try:
        ground = lay_ground(folder)
    except ServerUnavailable as error:
        print(f"NOT RUN: all {len(names)} scenarios: no Triton on this machine: {error}")
        return 2
    print(HEAD, flush=True)
    reports: list[Report] = []
    for number, name in enumerate(names):
        reports.append(run(name, SCENARIOS[name], ground, folder / f"{number:02}"))
        print(row(reports[-1]), flush=True)
    print(details(reports))
    print(f"\nPython {platform.python_version()}, grpcio {grpc.__version__}; {time.monotonic() - began:.0f} s in all.")
    return verdict(reports)


if __name__ == "__main__":
    sys.exit(main())
