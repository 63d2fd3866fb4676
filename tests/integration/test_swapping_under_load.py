"""Activation without a gap: bundles are swapped under load, from files, by the poll, on SIGHUP, over HTTP."""

import asyncio
import contextlib
import dataclasses
import functools
import http.server as http_server
import json
import os
import signal
import subprocess
import sys
import threading

import grpc
import pytest

from sidecar.config import BundleSource, HttpSource
from sidecar.proxy.methods import MODEL_INFER
from tests.conformance.bundle_variants import BOTH_GATES, BOTH_VIOLATED, variant
from tests.conformance.guarded_model import values
from tests.integration.proxy_harness import Carried, call, http, settings, sidecar
from tests.integration.swapping import LEVELS, Clients, swap
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

SWAPS = 300


@pytest.fixture
def upstream(socket_upstream):
    socket_upstream.answer(BOTH_VIOLATED)
    return socket_upstream


def _level(running) -> float:
    reply = call(running.listen_port, MODEL_INFER, BOTH_GATES)
    (level,) = {float(row[0]) for row in values(reply.body, "y")}
    return level


def _watching(tmp_path, upstream, **changes):
    path = tmp_path / "swapped.gates"
    path.write_bytes(variant(1))
    return path, settings(tmp_path, upstream.port, **{"bundles": (BundleSource(path),), **changes})


def test_no_answer_fails_or_mixes_bundles_while_they_are_swapped(loop, upstream, tmp_path):
    path, made = _watching(tmp_path, upstream)
    with sidecar(loop, made) as running, Clients(running.listen_port, 4) as clients:
        swap(running, loop, path, [variant(2), variant(1)], SWAPS)
    activations = running.metrics.value("gate_bundle_activations_total", model="guarded")
    assert clients.wrong == []
    assert activations == SWAPS + 1
    assert min(clients.answers_of(level) for level in LEVELS) > 20
    assert running.metrics.value("gate_requests_total", model="guarded", outcome="corrected") == len(clients.latencies)


def test_bad_bundles_in_between_fail_no_answer(loop, upstream, tmp_path):
    path, made = _watching(tmp_path, upstream)
    with sidecar(loop, made) as running, Clients(running.listen_port, 2) as clients:
        for number in range(30):
            path.write_bytes(variant(2, 2) if number % 2 else b"nonsense %d" % number)
            done = running.activation.state
            loop.run(_look(running))
            wait_until(lambda done=done: running.activation.state is not done)
            assert [each.reason for each in running.activation.state.failures] == [
                "bundle_rollback" if number % 2 else "bundle_magic"
            ]
    assert clients.wrong == []
    assert clients.answers_of(2) == 0


async def _look(running) -> None:
    running.look_now()


def test_a_request_in_flight_keeps_the_bundle_that_it_started_with(loop, upstream, tmp_path):
    path, made = _watching(tmp_path, upstream)
    arrived, release = threading.Event(), threading.Event()

    async def behave(_request, _context):
        arrived.set()
        await _released(release)
        return BOTH_VIOLATED

    upstream.behaviour = behave
    with sidecar(loop, made) as running, grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        pending = channel.unary_unary(MODEL_INFER).future(BOTH_GATES, timeout=20)
        assert arrived.wait(10)
        swap(running, loop, path, [variant(2)], 1)
        release.set()
        assert {float(row[0]) for row in values(pending.result(), "y")} == {1}
        assert _level(running) == 2


async def _released(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.005)


def test_the_poll_notices_a_change_by_itself(loop, upstream, tmp_path):
    path, made = _watching(tmp_path, upstream, bundle_poll_seconds=0.05)
    with sidecar(loop, made) as running:
        path.write_bytes(variant(2))
        wait_until(lambda: _level(running) == 2)


def test_a_defect_in_a_look_does_not_end_the_watching(loop, upstream, tmp_path, monkeypatch, caplog):
    path, made = _watching(tmp_path, upstream, bundle_poll_seconds=0.05)

    def defect(*_):
        raise ZeroDivisionError("ours")

    with sidecar(loop, made) as running:
        monkeypatch.setattr(running.activation, "look", defect)
        wait_until(lambda: "ZeroDivisionError" in caplog.text)
        assert _level(running) == 1
        monkeypatch.undo()
        path.write_bytes(variant(2))
        wait_until(lambda: _level(running) == 2)


def test_before_the_first_bundle_the_answer_is_unavailable_and_then_it_comes(loop, upstream, tmp_path):
    folder = tmp_path / "later"
    folder.mkdir()
    made = settings(tmp_path, upstream.port, bundles=(BundleSource(folder),), bundle_poll_seconds=0.05)
    with sidecar(loop, made) as running:
        reply = call(running.listen_port, MODEL_INFER, BOTH_GATES)
        assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.UNAVAILABLE, "not_ready")
        assert http(running.admin_port, "/readyz")[0] == 503
        (folder / "a.gates").write_bytes(variant(2))
        wait_until(lambda: http(running.admin_port, "/readyz")[0] == 200)
        assert _level(running) == 2


def test_a_model_that_an_awaited_source_may_guard_is_unavailable_rather_than_denied(loop, upstream, tmp_path):
    (tmp_path / "later").mkdir()
    _, made = _watching(tmp_path, upstream)
    made = dataclasses.replace(made, bundles=(*made.bundles, BundleSource(tmp_path / "later")))
    with sidecar(loop, made) as running:
        other = BOTH_GATES.replace(b"guarded", b"gauged!")
        assert call(running.listen_port, MODEL_INFER, other).trailing["gate-reason"] == "not_ready"
        assert _level(running) == 1


def test_a_bundle_over_http_is_followed(loop, upstream, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    with _file_server(served) as url:
        made = settings(tmp_path, upstream.port, bundles=(HttpSource(f"{url}/b.gates"),), bundle_poll_seconds=0.05)
        with sidecar(loop, made) as running:
            (served / "b.gates").write_bytes(variant(1))
            wait_until(lambda: http(running.admin_port, "/readyz")[0] == 200)
            assert _level(running) == 1
            (served / "b.gates").write_bytes(variant(2))
            wait_until(lambda: _level(running) == 2)
            (served / "b.gates").unlink()
            wait_until(lambda: json.loads(http(running.admin_port, "/status")[1])["not_active"] != [])
            assert _level(running) == 2


@contextlib.contextmanager
def _file_server(folder):
    class Handler(http_server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http_server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_sighup_looks_at_once(upstream, tmp_path):
    path = tmp_path / "b.gates"
    path.write_bytes(variant(1))
    program = (
        "import asyncio, logging, pathlib, sys\n"
        "from sidecar.config import BundleSource, ServeSettings, TransportChoice\n"
        "from sidecar.proxy.serve import serve\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "source = BundleSource(pathlib.Path(sys.argv[1]))\n"
        "where = sys.argv[2], '127.0.0.1:0', '127.0.0.1:0'\n"
        "carried = TransportChoice(sys.argv[3])\n"
        "made = ServeSettings((source,), *where, bundle_poll_seconds=3600.0, transport=carried)\n"
        "asyncio.run(serve(made))\n"
    )
    arguments = [sys.executable, "-u", "-c", program, str(path), f"127.0.0.1:{upstream.port}", Carried.by]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            next(line for line in process.stdout if line.startswith("listening"))
            path.write_bytes(variant(2, 9))
            os.kill(process.pid, signal.SIGHUP)
            lines = iter(process.stdout.readline, "")
            assert "revision 9 active for guarded" in next(line for line in lines if line.startswith("bundle"))
            assert next(line for line in lines if line.startswith("looked")).endswith(
                "0 places give none that is active\n"
            )
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
