"""`make conformance`: every case on every real server, as calls and on streams; ends with a table.

Exit codes: 0 all that could be played came out as stated, 1 something did not, 2 a server is not to be had here.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.cases import CASES
from tests.e2e.conformance.playing import Verdict
from tests.e2e.conformance.product import Share, run_cases
from tests.e2e.conformance.servers import WAYS, Kind, scripted_server
from tests.e2e.conformance.table import lines_of
from tests.e2e.installing import ServerUnavailable
from tests.integration.proxy_harness import Loop


def _shares(kind: Kind, loop: Loop, folder: Path) -> Iterator[Share]:
    with scripted_server(kind, folder) as server:
        for way in WAYS[kind]:
            bundles = folder / way
            bundles.mkdir()
            print(f"{kind}, by {way}: {len(CASES)} cases ...", flush=True)
            yield run_cases(loop, server, way, CASES, bundles)


def main() -> int:
    """Runs what the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="*", type=Kind, default=list(Kind))
    shares: list[Share] = []
    missing = []
    loop = Loop()
    for kind in parser.parse_args().servers:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            try:
                shares += _shares(kind, loop, Path(folder))
            except ServerUnavailable as error:
                missing.append(f"NOT RUN: no {kind} on this machine: {error}")
    loop.close()
    print("\n".join([*lines_of(shares), *missing]))
    failed = any(share.of(Verdict.FAILED) for share in shares)
    return 1 if failed else 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
