"""The product of all cases, all servers and all ways: one server at a time, every case in order."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.config import BundleSource, Probing, ServeSettings
from tests.conformance.expectations import Case
from tests.conformance.guarded_model import DTYPES, MODEL, bundle_bytes
from tests.conformance.more_models import NAMES, more_bundles
from tests.conformance.typed_model import model_name, typed_bundles
from tests.e2e.conformance.asking import Way, asker
from tests.e2e.conformance.limits import is_refusal, limits_of
from tests.e2e.conformance.playing import Result, Stage, Verdict, play
from tests.e2e.conformance.servers import ScriptedServer
from tests.integration.proxy_harness import Loop, sidecar


@dataclasses.dataclass(frozen=True)
class Share:
    """What one server made of the cases, asked one way."""

    server: str
    way: Way
    results: tuple[Result, ...]

    def of(self, verdict: Verdict) -> list[Result]:
        """The results with this verdict."""
        return [result for result in self.results if result.verdict is verdict]


def run_cases(loop: Loop, server: ScriptedServer, way: Way, cases: Sequence[Case], folder: Path) -> Share:
    """Every case's result.

    Args:
        loop: in which the sidecar runs.
        folder: an empty folder of the caller's, for the bundles.
    """
    with running_stage(loop, server, way, folder) as stage:
        refusals = [case for case in cases if is_refusal(case)]
        before = server.arrivals()
        results = [play(case, stage) for case in refusals]
        arrived = server.arrivals() - before
        results.append(_nothing_arrived(len(refusals), arrived))
        results += [play(case, stage) for case in cases if not is_refusal(case)]
    return Share(server.kind, way, tuple(results))


def _nothing_arrived(refusals: int, arrived: int) -> Result:
    name = "the-server-itself-counts-no-refused-request"
    if arrived:
        return Result(name, Verdict.FAILED, f"{arrived} of {refusals} refused requests arrived")
    return Result(name, Verdict.PASSED)


@contextlib.contextmanager
def running_stage(loop: Loop, server: ScriptedServer, way: Way, folder: Path) -> Iterator[Stage]:
    """A sidecar before this server, until the block is left; the arguments are those of `run_cases`."""
    with (
        sidecar(loop, settings(folder, server)) as running,
        asker(server.address, way) as direct,
        asker(f"127.0.0.1:{running.listen_port}", way) as through,
    ):
        yield Stage(direct, through, server.script, running.metrics, limits_of(server.kind, way))


def settings(folder: Path, server: ScriptedServer) -> ServeSettings:
    """The sidecar as the cases want it, before this server, with bundles for the models that it has."""
    contents = {MODEL: bundle_bytes()}
    contents |= zip(NAMES, more_bundles(), strict=True)
    contents |= zip(map(model_name, DTYPES), typed_bundles(), strict=True)
    sources = [BundleSource(folder / f"{name}.gates") for name in contents if name in server.models]
    for source in sources:
        source.path.write_bytes(contents[source.path.stem])
    return ServeSettings(
        tuple(sources),
        server.address,
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        probe=Probing.OFF,  # the bundles do not say how a verified model answers
        limit_rows=8,
    )
