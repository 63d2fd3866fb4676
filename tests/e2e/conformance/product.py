"""The product of all cases, all servers and all ways: one server at a time, every case in order."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.config import BundleSource, Probing, ServeSettings
from tests.conformance.expectations import Case
from tests.conformance.guarded_model import bundle_bytes
from tests.conformance.more_models import more_bundles
from tests.conformance.typed_model import typed_bundles
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
    with _stage(loop, server, way, folder) as stage:
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
def _stage(loop: Loop, server: ScriptedServer, way: Way, folder: Path) -> Iterator[Stage]:
    with (
        sidecar(loop, settings(folder, server.address)) as running,
        asker(server.address, way) as direct,
        asker(f"127.0.0.1:{running.listen_port}", way) as through,
    ):
        yield Stage(direct, through, server.script, running.metrics, limits_of(server.kind, way))


def settings(folder: Path, upstream: str, **changes) -> ServeSettings:
    """The sidecar as the cases want it, before this upstream."""
    contents = [bundle_bytes(), *more_bundles(), *typed_bundles()]
    sources = [BundleSource(folder / f"{number}.gates") for number, _ in enumerate(contents)]
    for source, content in zip(sources, contents, strict=True):
        source.path.write_bytes(content)
    defaults = {"bundles": tuple(sources), "listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "limit_rows": 8}
    defaults["probe"] = Probing.OFF  # the bundles do not say how a verified model answers
    return ServeSettings(upstream=upstream, **(defaults | changes))
