"""Real servers for the end-to-end tests: installed once, their logs shown where a test fails."""

from pathlib import Path

import pytest

from tests.e2e.installing import installed_or_not_run
from tests.e2e.torchserve.launcher import TorchServeInstall, install_torchserve
from tests.e2e.triton.launcher import TritonInstall, TritonUnavailable, cache_folder, install_triton, readable_log

LOGS = pytest.StashKey[list[Path]]()
LOG_TAIL_CHARACTERS = 4000


@pytest.fixture(scope="session")
def server_logs(request: pytest.FixtureRequest) -> list[Path]:
    """Append a server's log here, and its end is shown with every failure."""
    return request.session.stash.setdefault(LOGS, [])


@pytest.fixture(scope="session")
def triton_install() -> TritonInstall:
    """Triton's packages; tests that need it are not run where they cannot be had, and say why."""
    try:
        return install_triton(cache_folder())
    except TritonUnavailable as error:
        pytest.skip(f"NOT RUN: no Triton on this machine: {error}")


@pytest.fixture(scope="session")
def torchserve_install() -> TorchServeInstall:
    """TorchServe's packages and torch; where they cannot be had, tests that need them are not run, and say why."""
    return installed_or_not_run("torchserve", install_torchserve)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.failed:
        for path in item.session.stash.get(LOGS, []):
            if path.exists():
                report.sections.append((f"end of {path}", readable_log(path)[-LOG_TAIL_CHARACTERS:]))
    return report
