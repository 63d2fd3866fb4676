"""The harness itself: an installation that is whole or absent, a server that ends with the test that wanted it."""

import socket
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton

from tests.e2e.networks import tying_network
from tests.e2e.traffic import Wire, ask
from tests.e2e.triton import launcher
from tests.e2e.triton.launcher import ServedModel, TritonFailed, TritonUnavailable, install_triton, running_triton

pytestmark = pytest.mark.e2e

WIRE = Wire("input", "scores", (None, 5))


def test_triton_answers_what_onnxruntime_computes_and_ends_with_its_block(triton_install, tmp_path):
    rows = np.random.default_rng(0).uniform(-1, 1, (8, 5)).astype(np.float32)
    expected = onnxruntime.InferenceSession(tying_network()).run(None, {"input": rows})[0]
    with running_triton(triton_install, [ServedModel("tying", tying_network(), 8)], tmp_path) as server:
        (answer,) = ask(server.grpc_address, "tying", WIRE, [rows])
        np.testing.assert_allclose(answer.rows, expected, rtol=1e-6, atol=1e-7)
        with triton.InferenceServerClient(server.grpc_address) as client:
            assert list(client.get_model_metadata("tying").inputs[0].shape) == [-1, 5]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(server.grpc_address.split(":")), timeout=1)


def test_triton_ends_when_the_test_fails(triton_install, tmp_path):
    def fail() -> None:
        with running_triton(triton_install, [], tmp_path) as server:
            raise ValueError(server.grpc_address)

    with pytest.raises(ValueError, match=":") as caught:
        fail()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(str(caught.value).split(":")), timeout=1)


def test_a_taken_port_is_left_and_another_tried(triton_install, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = launcher.free_ports(3)
        offers = [[taken.getsockname()[1], free[0]], free[1:]]
        monkeypatch.setattr(launcher, "free_ports", lambda _: offers.pop(0))
        with running_triton(triton_install, [], tmp_path) as server:
            assert server.grpc_address == f"127.0.0.1:{free[1]}"


def test_a_model_that_does_not_load_fails_with_the_end_of_the_log(triton_install, tmp_path):
    with (
        pytest.raises(TritonFailed, match=r"(?s)did not become ready.*triton\.log.*failed to load all models"),
        running_triton(triton_install, [ServedModel("broken", b"no model")], tmp_path),
    ):
        pass


def _unreachable_index(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    for name, value in {"PIP_FIND_LINKS": "", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)


def test_without_a_network_triton_is_unavailable_and_nothing_half_finished_is_left_to_use(tmp_path, monkeypatch):
    _unreachable_index(monkeypatch)
    (tmp_path / "partial-of-a-killed-run").mkdir()
    for _ in range(2):
        with pytest.raises(TritonUnavailable, match="pip could not install"):
            install_triton(tmp_path)
    finished = [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith("partial-")]
    assert finished == []
    assert not (tmp_path / "partial-of-a-killed-run").exists()


def test_a_binary_of_another_machine_is_unavailable(triton_install, tmp_path):
    binary = Path("pytriton/tritonserver/bin/tritonserver")
    (tmp_path / binary).parent.mkdir(parents=True)
    (tmp_path / binary).write_bytes(b"\x7fELF of another machine")
    (tmp_path / binary).chmod(0o755)
    elsewhere = launcher.TritonInstall(tmp_path, triton_install.backends)
    with (
        pytest.raises(TritonUnavailable, match="does not run on this machine"),
        running_triton(elsewhere, [], tmp_path),
    ):
        pass
