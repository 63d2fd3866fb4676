"""`make drill`: every fault against a real Triton under load, as a table. The exit status is 0 where all promises held.

Usage: python -m tests.drill [--transport native|portable|both] [--only NAME ...] [--keep FOLDER]
"""

import argparse
import itertools
import platform
import sys
import tempfile
import time
from pathlib import Path

import grpc

from tests.drill.ground import ask_for_transport, lay_ground
from tests.drill.harness import Report, run
from tests.drill.scenarios import SCENARIOS
from tests.drill.table import HEAD, details, row, verdict
from tests.e2e.installing import ServerUnavailable


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for logs; a temporary one by default")
    ask_for_transport(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drill-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return drill(arguments.only, arguments.transport, folder)


def drill(names: list[str], transport: str, folder: Path) -> int:
    """The table, each scenario on one transport after the other, and the exit status."""
    began = time.monotonic()
    try:
        grounds = list(lay_ground(folder, transport))
    except ServerUnavailable as error:
        print(f"NOT RUN: all {len(names)} scenarios: no Triton on this machine: {error}")
        return 2
    print(HEAD, flush=True)
    reports: list[Report] = []
    for (number, name), ground in itertools.product(enumerate(names), grounds):
        reports.append(run(name, SCENARIOS[name], ground, folder / f"{number:02}-{ground.transport}"))
        print(row(reports[-1]), flush=True)
    print(details(reports))
    print(f"\nPython {platform.python_version()}, grpcio {grpc.__version__}; {time.monotonic() - began:.0f} s in all.")
    return verdict(reports)


if __name__ == "__main__":
    sys.exit(main())
