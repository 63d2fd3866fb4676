"""The drill and the soak in short, so that their code cannot rot. `make drill` and `make soak` are the real ones."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sidecar.proxy.transport import TransportKind
from tests.drill import soak
from tests.drill.ground import Ground
from tests.drill.harness import run
from tests.drill.model import prepare, requests
from tests.drill.scenarios import SCENARIOS
from tests.drill.seen import encode
from tests.drill.table import is_kept, row, verdict
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SOAK_SECONDS = 10.0


@pytest.fixture(scope="module")
def portable(triton_install, tmp_path_factory) -> Ground:
    made = requests(200, np.random.default_rng(1))
    guarded = prepare(tmp_path_factory.mktemp("ground"))
    return Ground(TransportKind.PORTABLE, triton_install, guarded, [encode(rows) for rows in made])


@pytest.fixture(params=TransportKind)
def ground(portable: Ground, request) -> Ground:
    """On each transport; a run on one that is not built is a test that was not run."""
    if request.param is TransportKind.NATIVE and not NATIVE_IS_BUILT:
        pytest.skip(NOT_BUILT)
    return dataclasses.replace(portable, transport=request.param)


@pytest.mark.parametrize("name", ["kill -9", "wrong shapes"])
def test_a_fault_breaks_no_promise(ground: Ground, name: str, tmp_path: Path, server_logs: list[Path], record_property):
    server_logs += [tmp_path / "run" / "sidecar.log"]
    report = run(name, SCENARIOS[name], ground, tmp_path / "run")
    record_property("counted", f"drill: {row(report)}")
    assert report.broken == ()
    assert is_kept(report)
    assert verdict([report]) == 0


def test_a_short_soak_is_flat(ground: Ground, tmp_path: Path, capsys):
    """Ten seconds say nothing of memory, and next to nothing of latency beside other tests: these are not asked for."""
    broken = soak.soak(ground, tmp_path, SOAK_SECONDS, clients=4)
    print(capsys.readouterr().out)
    assert [each for each in broken if not each.startswith(("memory", "p99"))] == []
