"""The demo with real processes and real gRPC: it succeeds, it can fail, and it leaves nothing running."""

import io
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar.demo import parts, run
from sidecar.demo.parts import running
from sidecar.demo.run import run_demo
from sidecar.errors import OperationError
from sidecar.gates.values import Mode
from tests.waiting import wait_until

REQUESTS = 200


def figure(shown: str, name: str) -> int:
    found = re.search(rf"^ *{name} +([\d,]+)", shown, re.MULTILINE)
    assert found, shown
    return int(found[1].replace(",", ""))


def ports(shown: str) -> list[int]:
    found = re.search(r"model server on port (\d+), and the sidecar in front of it on (\d+)", shown)
    assert found, shown
    return [int(port) for port in found.groups()]


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_demo_shows_violations_by_the_model_and_none_after_the_sidecar(tmp_path: Path) -> None:
    stream = io.StringIO()
    status = run_demo(keep=tmp_path / "kept", stream=stream, requests=REQUESTS)
    shown = stream.getvalue()
    assert status == 0, shown
    assert figure(shown, "violations by the model") > 0
    assert figure(shown, "violations after the sidecar") == 0
    assert figure(shown, "answers checked") >= REQUESTS
    assert figure(shown, "identical to the byte") > 0
    assert shown.count("\n") <= 40
    assert max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= 100
    assert "\x1b" not in shown
    assert not any(is_open(port) for port in ports(shown))
    kept = {file.name for file in (tmp_path / "kept").iterdir()}
    assert kept >= {"safe_distance.onnx", "safe_distance.yaml", "safe_distance.gates"}


@pytest.mark.slow
def test_demo_fails_when_the_sidecar_only_watches() -> None:
    stream = io.StringIO()
    status = run_demo(keep=None, stream=stream, requests=REQUESTS, mode=Mode.SHADOW)
    shown = stream.getvalue()
    assert status == 1
    assert figure(shown, "violations after the sidecar") == figure(shown, "violations by the model") > 0
    assert "FAILED" in shown


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_ends_its_servers(number: signal.Signals, tmp_path: Path) -> None:
    program = "import sys; from sidecar.demo.run import run_demo; run_demo(None, sys.stdout, requests=10**6)"
    output = tmp_path / "output"
    with output.open("wb") as stream:
        demo = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=stream, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: "in front of it on" in output.read_text(), 60.0)
            demo.send_signal(number)
            assert demo.wait(20) != 0
        finally:
            demo.kill()
            demo.wait()
    assert not any(is_open(port) for port in ports(output.read_text()))


@pytest.mark.slow
def test_server_that_cannot_start_is_told_in_one_line(tmp_path: Path) -> None:
    arguments = ["model-server", "--model", str(tmp_path / "missing.onnx"), "--listen", "127.0.0.1:0"]
    with (
        pytest.raises(OperationError, match=r"the model server ended with status 2: .*missing\.onnx") as raised,
        running("model server", arguments, re.compile("never"), tmp_path / "log"),
    ):
        pass
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_server_that_does_not_listen_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "START_SECONDS", 0.5)
    arguments = ["model-server", "--model", str(run.MODEL_PATH), "--listen", "127.0.0.1:0"]
    started = time.monotonic()
    with (
        pytest.raises(OperationError, match="does not listen"),
        running("model server", arguments, re.compile("never"), tmp_path / "log"),
    ):
        pass
    assert time.monotonic() - started < 0.5 + parts.STOP_SECONDS + 5
