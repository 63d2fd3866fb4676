"""What the README tells people to type works, and prints what the README says."""

import concurrent.futures
import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.protocols.generated import torchserve_pb2
from sidecar.proxy.methods import PREDICTIONS
from tests.transports import NATIVE_IS_BUILT

README = (Path(__file__).parents[2] / "README.md").read_text()
SIDECAR = [sys.executable, "-m", "sidecar.cli"]


def _block(after: str, language: str = "") -> str:
    """The first code block after some words."""
    _, _, rest = README.partition(after)
    found = re.search(rf"```{language}\n(.*?)```", rest, re.DOTALL)
    assert found is not None, f"no code block after {after!r}"
    return found[1]


def _shape(text: str) -> list[str]:
    """Lines without figures and without the white space that figures need."""
    return [" ".join(re.sub(r"[\d.,%]+", "#", line).split()) for line in text.strip().splitlines()]


NATIVE_CARRIES = "Calls are carried by the native transport#"


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows() -> None:
    printed = subprocess.run([*SIDECAR, "demo"], capture_output=True, text=True, timeout=120, check=True).stdout
    story, end = "One of the violations", "Try next"
    shown = _shape(_block("prints:"))
    if NATIVE_IS_BUILT:
        shown = [NATIVE_CARRIES if line.startswith("Calls are carried by") else line for line in shown]
    got = _shape(printed)
    assert got[: got.index(story)] == shown[: shown.index(story)]
    # Which violation is told may differ with the processor's rounding; what to try next is the same but for the row,
    # and for the line that puts the command on the PATH where it is not.
    commands = [line for line in shown[shown.index(end) :] if "--input" not in line and "export PATH" not in line]
    assert commands == [line for line in got[got.index(end) :] if "--input" not in line and "export PATH" not in line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a newcomer has it: a model, and the README's property file."""
    random = np.random.default_rng(5)
    layers = [(2, 8), (8, 3)]
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), f"w{number}")
        for number, shape in enumerate(layers)
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "newcomer", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "safety.yaml").write_text(_block("says what the numbers mean", "yaml"))
    return tmp_path


def _free_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_sockets]
    for each in with_sockets:
        each.close()
    return ports


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that a test starts; they end with it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        assert process.wait(20) == 0


def _get(url: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_the_five_lines_guard_a_model(folder: Path, started: list["subprocess.Popen[str]"]) -> None:
    install, compile_, inspect, serve, curl = _block("Guard your own model in five lines").strip().splitlines()
    assert install == "pip install '.[compile]'"  # make test has done as much
    upstream, listen, admin = _free_ports(3)
    ports = {"triton:8001": f"127.0.0.1:{upstream}", "0.0.0.0:9001": f"127.0.0.1:{listen}"}
    ports |= {"0.0.0.0:9002": f"127.0.0.1:{admin}", "127.0.0.1:8001": f"127.0.0.1:{upstream}"}

    def command(line: str) -> list[str]:
        program, *arguments = shlex.split(line)
        assert program == "sidecar"
        return [*SIDECAR, *(ports.get(word, word) for word in arguments)]

    for line in (compile_, inspect):
        ended = subprocess.run(command(line), cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stderr
        assert "brake-when-close" in ended.stdout
    (model_server,) = re.findall(r"`(sidecar model-server --model[^`]*)`", README)
    started += [
        subprocess.Popen(command(line), cwd=folder, text=True, stderr=subprocess.DEVNULL)
        for line in (model_server, serve)
    ]
    assert curl == "curl localhost:9002/metrics"
    assert "gate_bundle_info{" in _get(f"http://127.0.0.1:{admin}/metrics")
    assert _get(f"http://127.0.0.1:{admin}/readyz")


def test_the_verdict_on_a_newcomers_model_reads_as_shown(folder: Path) -> None:
    (line,) = _block("### A verdict only").strip().splitlines()
    ended = subprocess.run(
        [*SIDECAR, *shlex.split(line)[1:]], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert _shape(ended.stdout) == _shape(_block("it prints for example:"))


def _predict(request: bytes, _: object) -> bytes:
    """What the README's handler does, in a TorchServe of few words."""
    payload = json.loads(torchserve_pb2.PredictionsRequest.FromString(request).input["data"])
    answer = {"predictions": [[0.0, 1.0, 2.0] for _ in payload["instances"]]}
    return torchserve_pb2.PredictionResponse(prediction=json.dumps(answer).encode()).SerializeToString()


class _TorchServe(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(_predict) if details.method == PREDICTIONS else None


def test_what_is_said_of_torchserve_guards_a_model(folder: Path, started: list["subprocess.Popen[str]"]) -> None:
    upstream, listen, admin = _free_ports(3)
    settings = _block("### Behind TorchServe", "yaml")
    compile_, check, serve, curl = _block(settings + "```").strip().splitlines()
    assert curl == "curl localhost:9002/readyz"
    for port, ours in (("7070", upstream), ("9001", listen), ("9002", admin)):
        settings = settings.replace(port, str(ours))
    (folder / "sidecar.yaml").write_text(settings)
    for line in (compile_, check):
        ended = subprocess.run(
            [*SIDECAR, *shlex.split(line)[1:]], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 0, ended.stderr
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), [_TorchServe()])
    server.add_insecure_port(f"127.0.0.1:{upstream}")
    server.start()
    started.append(subprocess.Popen([*SIDECAR, *shlex.split(serve)[1:]], cwd=folder, stderr=subprocess.DEVNULL))
    assert "ready" in _get(f"http://127.0.0.1:{admin}/readyz")
    close_and_fast = {"instances": [[10 / 150, 30 / 40]]}
    request = torchserve_pb2.PredictionsRequest(model_name="model", input={"data": json.dumps(close_and_fast).encode()})
    with grpc.insecure_channel(f"127.0.0.1:{listen}") as channel:
        answer = channel.unary_unary(PREDICTIONS)(request.SerializeToString(), timeout=10)
    server.stop(None)
    scores = json.loads(torchserve_pb2.PredictionResponse.FromString(answer).prediction)["predictions"][0]
    assert scores[0] > max(scores[1:]), "the gate makes BRAKE the best"


def test_every_command_in_the_readme_exists() -> None:
    listed = re.findall(r"^\| `sidecar ([a-z-]+)` \|", README, re.MULTILINE)
    helped = subprocess.run([*SIDECAR, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert listed
    assert set(listed) == set(re.findall(r"^    ([a-z][a-z-]+)", helped, re.MULTILINE))


def test_every_metric_in_the_readme_is_exported() -> None:
    from sidecar.proxy.metrics import Metrics

    named = set(re.findall(r"`(gate_[a-z_]+)", README))
    exported = {line.split()[2] for line in Metrics().exposition().decode().splitlines() if line.startswith("# HELP")}
    assert named <= exported
    assert exported <= named
