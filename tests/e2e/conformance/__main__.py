"""`make conformance`: every case on every real server, as calls and on streams; ends with a table.

Exit codes: 0 all that could be played came out as stated, 1 something did not, 2 a server is not to be had here.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.cases import CASES
from tests.e2e.conformance import torchserve
from tests.e2e.conformance.playing import Verdict
from tests.e2e.conformance.policies import run_policies
from tests.e2e.conformance.product import Share, run_cases
from tests.e2e.conformance.servers import WAYS, Kind, scripted_server
from tests.e2e.conformance.table import lines_of
from tests.e2e.installing import ServerUnavailable
from tests.integration.proxy_harness import Loop

TORCHSERVE = "torchserve"
SERVERS = (*map(str, Kind), TORCHSERVE)


def _shares(server: str, loop: Loop, folder: Path) -> Iterator[Share]:
    if server == TORCHSERVE:
        yield torchserve.run_cases(loop, folder)
        return
    with scripted_server(Kind(server), folder) as scripted:
        for way in WAYS[scripted.kind]:
            print(f"{server}, by {way}: {len(CASES)} cases ...", flush=True)
            yield run_cases(loop, scripted, way, CASES, _subfolder(folder, way))
        yield run_policies(loop, scripted, _subfolder(folder, "policies"))


def _subfolder(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def main() -> int:
    """Runs the servers that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", choices=[*SERVERS, []], default=[], metavar="server")
    shares: list[Share] = []
    missing = []
    loop = Loop()
    for server in parser.parse_args().servers or SERVERS:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            try:
                shares += _shares(server, loop, Path(folder))
            except ServerUnavailable as error:
                missing.append(f"NOT RUN: no {server} on this machine: {error}")
    loop.close()
    print("\n".join([*lines_of(shares), *missing]))
    failed = any(share.of(Verdict.FAILED) for share in shares)
    return 1 if failed else 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
