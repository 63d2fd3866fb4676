"""What all tests share: the public data folder, and a closing report of time and of what was not run, by part."""

import collections
import os
import pathlib
import signal

import pytest

from tests.transports import transport as transport

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def acasxu() -> pathlib.Path:
    """The folder with the public ACAS Xu networks and properties; tests that need it are not run without it."""
    folder = (ROOT / os.environ.get("GATE_DATA", "../shared/data")).resolve() / "acasxu"
    if not folder.is_dir():
        pytest.skip(f"NOT RUN: no public data at GATE_DATA ({folder})")
    return folder


def _part(nodeid: str) -> str:
    folder, _, rest = nodeid.partition("/")
    return rest.partition("/")[0] if folder == "tests" and "/" in rest else folder


class _PartReport:
    """Sums time and counts over tests/<part>/; with xdist it listens on the controller."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        self.ran: collections.Counter[str] = collections.Counter()
        self.not_run: list[tuple[str, str]] = []
        self.counted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = _part(report.nodeid)
        self.seconds[part] += report.duration
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.not_run.append((report.nodeid, reason))
        elif report.when == "call":
            self.ran[part] += 1
            self.counted += [str(value) for key, value in report.user_properties if key == "counted"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("time by part (seconds of test work, over all workers)")
        for part, seconds in sorted(self.seconds.items()):
            terminalreporter.line(f"{part:<14}{self.ran[part]:>6} ran {seconds:>8.1f} s")
        if self.counted:
            terminalreporter.section("what the real servers were asked")
            for line in self.counted:
                terminalreporter.line(line)
        if self.not_run:
            terminalreporter.section(f"{len(self.not_run)} TESTS NOT RUN", red=True, bold=True)
            for nodeid, reason in self.not_run:
                terminalreporter.line(f"{nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores SIGINT for what it starts in the background, and so would all processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_PartReport())
