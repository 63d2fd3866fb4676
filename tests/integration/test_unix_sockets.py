"""Listening on Unix sockets, and an upstream behind one."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pytest

from sidecar.errors import OperationError
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.serve import start_sidecar
from tests.conformance.guarded_model import request, response
from tests.integration.proxy_harness import SocketUpstream, settings, sidecar
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()


@pytest.fixture
def folder():
    """Short: a socket's path may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="gate"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def upstream(loop, folder):
    upstream = SocketUpstream()
    upstream.answer(FINE)
    upstream.path = folder / "upstream.sock"

    async def start():
        upstream.server = grpc.aio.server()
        upstream.server.add_generic_rpc_handlers((upstream,))
        upstream.server.add_insecure_port(f"unix:{upstream.path}")
        await upstream.server.start()

    loop.run(start())
    yield upstream
    loop.run(upstream.server.stop(0))


def _settings(tmp_path, folder, upstream):
    return settings(tmp_path, 1, upstream=f"unix:{upstream.path}", listen=f"unix:{folder / 'gate.sock'}")


def _infer(folder):
    # What gRPC's own library says of itself on such sockets, the path, is no authority to others.
    named = [("grpc.default_authority", "sidecar")]
    with grpc.insecure_channel(f"unix:{folder / 'gate.sock'}", named) as channel:
        return channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5)


def _left_over(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def test_from_socket_to_socket(loop, upstream, folder, tmp_path):
    with sidecar(loop, _settings(tmp_path, folder, upstream)):
        assert _infer(folder) == FINE


def test_nobody_but_owner_and_group_may_connect(loop, upstream, folder, tmp_path):
    before = os.umask(0)
    try:
        with sidecar(loop, _settings(tmp_path, folder, upstream)):
            assert stat.S_IMODE((folder / "gate.sock").stat().st_mode) == 0o660
            assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_a_socket_that_was_left_over_is_replaced(loop, upstream, folder, tmp_path):
    _left_over(folder / "gate.sock")
    with sidecar(loop, _settings(tmp_path, folder, upstream)):
        assert _infer(folder) == FINE


def test_no_socket_is_left_over(loop, upstream, folder, tmp_path):
    with sidecar(loop, _settings(tmp_path, folder, upstream)):
        pass
    assert not (folder / "gate.sock").exists()


def test_a_socket_in_use_is_not_taken(loop, upstream, folder, tmp_path):
    made = _settings(tmp_path, folder, upstream)
    with sidecar(loop, made):
        with pytest.raises(OperationError, match="another process listens there"):
            loop.run(start_sidecar(made))
        assert _infer(folder) == FINE


@pytest.mark.parametrize("make", [lambda path: path.write_text("precious"), lambda path: path.mkdir()])
def test_what_is_no_socket_is_not_removed(loop, folder, tmp_path, make):
    path = folder / "gate.sock"
    make(path)
    with pytest.raises(OperationError, match="there is a file or folder"):
        loop.run(start_sidecar(settings(tmp_path, 1, listen=f"unix:{path}")))
    assert path.exists()


def test_a_path_that_cannot_be_had_is_told(loop, folder, tmp_path):
    for path in (folder / "missing" / "gate.sock", folder / ("x" * 120)):
        with pytest.raises(OperationError, match="--listen"):
            loop.run(start_sidecar(settings(tmp_path, 1, listen=f"unix:{path}")))


def test_the_command_line_wants_a_whole_path():
    command = [sys.executable, "-m", "sidecar.cli", "serve", "--bundle", "b", "--upstream", "unix:gate.sock"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (ended.returncode, "unix:/run/gate.sock" in ended.stderr) == (2, True)
