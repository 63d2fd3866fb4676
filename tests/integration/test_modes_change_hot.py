"""The settings file of a running sidecar: modes change between two requests, and never within one."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from sidecar.config import ServeSettings
from sidecar.proxy.live_settings import SettingsFile
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.serve import start_sidecar
from sidecar.settings.resolve import resolve
from tests.conformance.bundle_variants import BOTH_GATES, BOTH_VIOLATED, variant
from tests.conformance.guarded_model import values
from tests.integration.proxy_harness import Loop, call, http
from tests.integration.swapping import Clients, Seen
from tests.waiting import wait_until

CHANGES = 120


@pytest.fixture
def upstream(socket_upstream):
    socket_upstream.answer(BOTH_VIOLATED)
    return socket_upstream


class ConfigMap:
    """A settings file as the kubelet projects it: a link through ``..data``, which is replaced in one step."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self._folder, self._port, self._version = folder, upstream_port, 0
        (folder / "guarded.gates").write_bytes(variant(1))
        self.path = folder / "sidecar.yaml"
        self.path.symlink_to("..data/sidecar.yaml")

    def put(self, mode: str, more: str = "") -> None:
        self.put_text(
            f"bundles: [{self._folder}/guarded.gates]\nupstream: 127.0.0.1:{self._port}\nlisten: 127.0.0.1:0\n"
            f"admin: 127.0.0.1:0\nreadiness_interval: 50ms\nbundle_poll: 20ms\nmode: {mode}\n{more}"
        )

    def put_text(self, text: str) -> None:
        self._version += 1
        folder = self._folder / f"..{self._version}"
        folder.mkdir()
        (folder / "sidecar.yaml").write_text(text)
        (self._folder / "..data_tmp").symlink_to(folder.name)
        (self._folder / "..data_tmp").replace(self._folder / "..data")


@pytest.fixture
def config(tmp_path: Path, upstream) -> ConfigMap:
    config = ConfigMap(tmp_path, upstream.port)
    config.put("enforce")
    return config


@contextlib.contextmanager
def _following(loop: Loop, config: ConfigMap):
    def read(content: bytes) -> ServeSettings:
        return resolve(config.path, {}, {}, content).settings

    made = read(config.path.read_bytes())
    running = loop.run(start_sidecar(made, file=SettingsFile(config.path, read)))
    try:
        yield running
    finally:
        loop.run(running.stop())


def _modes(running) -> set[str]:
    return set(running.registry.current.bundles["guarded"].modes)


class EitherMode(Clients):
    """Clients that get an answer corrected in both rows, or the upstream's own."""

    def _judge(self, body: bytes, seen: Seen) -> None:
        found = tuple(float(row[0]) for row in values(body, "y"))
        if body != BOTH_VIOLATED and found != (1, 1):
            seen.wrong.append(f"first outputs {found}")
        level = int(found == (1, 1))
        seen.levels[level] = seen.levels.get(level, 0) + 1


def test_no_answer_fails_or_mixes_modes_while_they_change(loop, config):
    with _following(loop, config) as running, EitherMode(running.listen_port, 4) as clients:
        for number in range(CHANGES):
            mode = "enforce" if number % 2 else "shadow"
            config.put(mode)
            wait_until(lambda mode=mode: _modes(running) == {mode})
    assert clients.wrong == []
    assert min(clients.answers_of(0), clients.answers_of(1)) > 20
    assert running.metrics.value("gate_settings_changes_total") == CHANGES
    assert running.metrics.value("gate_bundle_activations_total", model="guarded") == 1


def test_a_request_in_flight_keeps_the_modes_that_it_started_with(loop, config, upstream):
    arrived, release = threading.Event(), threading.Event()

    async def behave(_request, _context):
        arrived.set()
        while not release.is_set():
            await asyncio.sleep(0.005)
        return BOTH_VIOLATED

    upstream.behaviour = behave
    with _following(loop, config) as running, grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        pending = channel.unary_unary(MODEL_INFER).future(BOTH_GATES, timeout=20)
        assert arrived.wait(10)
        config.put("shadow")
        wait_until(lambda: _modes(running) == {"shadow"})
        release.set()
        assert {float(row[0]) for row in values(pending.result(), "y")} == {1}
        assert call(running.listen_port, MODEL_INFER, BOTH_GATES).body == BOTH_VIOLATED


def test_a_broken_file_leaves_the_modes_and_status_says_why(loop, config):
    def settings_status() -> dict:
        return json.loads(http(running.admin_port, "/status")[1])["settings"]

    with _following(loop, config) as running:
        config.put("of")
        wait_until(lambda: settings_status()["reason"] is not None)
        found = settings_status()
        assert (found["file"], found["changed_at"], found["reason"]) == (str(config.path), None, "settings_invalid")
        assert "sidecar.yaml:7:7: 'of' is no choice" in found["message"]
        assert _modes(running) == {"enforce"}
        assert http(running.admin_port, "/readyz")[0] == 200
        config.put("off", "drain: 3s\n")
        wait_until(lambda: settings_status()["reason"] == "settings_need_restart")
        assert _modes(running) == {"off"}
        assert "drain" in settings_status()["message"]
        config.put("enforce")
        wait_until(lambda: settings_status()["reason"] is None)
        assert "gate_settings_failing 0.0" in http(running.admin_port, "/metrics")[1]
        assert settings_status()["changed_at"] is not None


def test_a_match_of_the_upstream_is_required_from_one_request_to_the_next_and_no_more(loop, config):
    def refused() -> bool:
        return call(running.listen_port, MODEL_INFER, BOTH_GATES).trailing.get("gate-reason") == "upstream_unmatched"

    with _following(loop, config) as running:
        assert not refused()
        config.put("enforce", "models: [{name: guarded, probe: required}]\n")
        wait_until(refused)
        wait_until(lambda: http(running.admin_port, "/readyz")[0] == 503)
        config.put("enforce")
        wait_until(lambda: not refused())
        wait_until(lambda: http(running.admin_port, "/readyz")[0] == 200)
        assert running.metrics.value("gate_bundle_activations_total", model="guarded") == 1


@pytest.mark.timeout(60)
def test_sighup_takes_the_modes_from_the_file_at_once_and_flags_stand_over_it(config):
    config.put("enforce", "outside: refuse\n")
    config.put_text(config.path.read_text().replace("bundle_poll: 20ms", "bundle_poll: 1h"))
    command = [sys.executable, "-u", "-m", "sidecar.cli", "serve", "--config", str(config.path), "--outside", "pass"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            next(line for line in lines if "listening on" in line)
            config.put_text(config.path.read_text().replace("enforce", "shadow").replace("refuse", "pass"))
            os.kill(process.pid, signal.SIGHUP)
            told = next(line for line in lines if "in force from now on" in line)
            assert told.endswith("in force from now on: mode\n")
            told = next(line for line in lines if "mode of property" in line)
            assert told.endswith("mode of property ceiling of guarded: enforce -> shadow\n")
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.mark.timeout(60)
def test_settings_from_a_pipe_are_not_followed_and_sighup_ends_nothing(config):
    reading, writing = os.pipe()
    os.write(writing, config.path.read_bytes())
    os.close(writing)
    command = [sys.executable, "-u", "-m", "sidecar.cli", "serve", "--config", f"/dev/fd/{reading}"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=[reading]
    ) as process:
        os.close(reading)
        try:
            lines = iter(process.stderr.readline, "")
            next(line for line in lines if "listening on" in line)
            os.kill(process.pid, signal.SIGHUP)
            assert next(line for line in lines if "looked for new bundles as asked" in line)
            process.terminate()
            assert "settings" not in process.stderr.read()
            assert process.wait(20) == 0
        finally:
            process.kill()
