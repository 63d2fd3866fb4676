"""The harness for TorchServe itself, and what its wire carries: every case here is one that a codec must know."""

import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Network, forward
from tests.e2e.installing import ServerUnavailable
from tests.e2e.networks import tying_network
from tests.e2e.processes import RunningServer
from tests.e2e.torchserve import launcher, predictions
from tests.e2e.torchserve.launcher import (
    Payload,
    ServedModel,
    TorchServeInstall,
    install_torchserve,
    running_torchserve,
)
from tests.e2e.torchserve.predictions import Predictions

pytestmark = pytest.mark.e2e

ROWS = np.random.default_rng(0).uniform(-1, 1, (8, 5)).astype(np.float32)
OPEN_INFERENCE = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/"

pb = triton.service_pb2


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("model") / "tying.onnx"
    path.write_bytes(tying_network())
    return read_model(path).network


@pytest.fixture(scope="module")
def server(
    torchserve_install: TorchServeInstall,
    network: Network,
    tmp_path_factory: pytest.TempPathFactory,
    server_logs: list[Path],
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("torchserve")
    server_logs.append(folder / "torchserve.log")
    models = [ServedModel(payload.value, network, payload) for payload in Payload]
    with running_torchserve(torchserve_install, models, folder) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(channel: grpc.Channel) -> Predictions:
    return Predictions(channel)


@pytest.fixture(scope="module")
def expected(client: Predictions, network: Network) -> np.ndarray:
    """What torch computes, by the plainest format, compared with the model's mathematics."""
    answer = np.frombuffer(client.ask("raw", ROWS.tobytes()), "<f4").reshape(ROWS.shape)
    np.testing.assert_allclose(answer, forward(network, ROWS.astype(np.float64)), rtol=1e-6, atol=1e-6)
    return answer


def _json_request(rows: np.ndarray) -> bytes:
    return json.dumps({"instances": rows.tolist()}).encode()


def test_a_json_prediction_is_indented_text_whose_numbers_are_the_float32_values(client, expected):
    answer = client.ask("json", _json_request(ROWS))
    said = json.loads(answer)
    assert answer == json.dumps(said, indent=2).encode()
    assert said["model"] == "json"
    np.testing.assert_array_equal(np.array(said["predictions"]), expected.astype(np.float64))


def test_a_npy_prediction_is_a_whole_npy_file(client, expected):
    request, answer = io.BytesIO(), io.BytesIO()
    np.save(request, ROWS)
    np.save(answer, expected)
    assert client.ask("npy", request.getvalue()) == answer.getvalue()


def test_a_raw_prediction_has_the_bytes_of_the_rows_alone(client, expected):
    assert client.ask("raw", ROWS[:1].tobytes()) == expected[:1].tobytes()


def test_the_open_inference_service_takes_typed_contents_and_loses_raw_ones(channel, expected):
    call = channel.unary_unary(OPEN_INFERENCE + "ModelInfer")
    message = pb.ModelInferRequest(model_name="open_inference", model_version="1.0", id="7")
    tensor = message.inputs.add(name="input", datatype="FP32", shape=ROWS.shape)
    tensor.contents.fp32_contents.extend(ROWS.ravel().tolist())
    (scores,) = pb.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=30)).outputs
    assert (scores.name, scores.datatype, list(scores.shape)) == ("scores", "FP32", list(ROWS.shape))
    np.testing.assert_array_equal(np.array(scores.contents.fp32_contents, np.float32), expected.ravel())
    tensor.ClearField("contents")
    message.raw_input_contents.append(ROWS.tobytes())
    with pytest.raises(grpc.RpcError) as caught:  # no data fits no shape but an empty one
        call(message.SerializeToString(), timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_not_a_number_goes_in_and_comes_out(client):
    answer = client.ask("json", b'{"instances": [[NaN, 0, 0, 0, 0]]}')
    assert np.isnan(json.loads(answer)["predictions"]).all()


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"model": "another", "value": b""}, grpc.StatusCode.INTERNAL),
        ({"model": "json", "value": b"{}", "version": "9.0"}, grpc.StatusCode.INTERNAL),
        ({"model": "json", "value": b"no json"}, grpc.StatusCode.UNAVAILABLE),
        ({"model": "json", "value": b"{}", "key": "another"}, grpc.StatusCode.UNAVAILABLE),
        ({"model": "json", "value": bytes(6_600_000)}, grpc.StatusCode.CANCELLED),
    ],
    ids=["unknown model", "unknown version", "handler fails", "handler misses its key", "too large"],
)
def test_failures_have_the_codes_that_the_sidecar_must_know(client, question, code):
    with pytest.raises(grpc.RpcError) as caught:
        client.ask(**question)
    assert caught.value.code() is code
    assert client.ask("json", _json_request(ROWS)), "and the model goes on"


def test_the_message_bytes_are_as_written_down():
    assert predictions.request_bytes("m", {"data": b"[1]"}).hex(" ") in predictions.__doc__.replace("   ", " ")
    long = predictions.request_bytes("m", {"data": bytes(300)}, "1.0")
    assert long == b"\n\x01m\x12\x031.0\x1a\xb5\x02\n\x04data\x12\xac\x02" + bytes(300)
    assert predictions.prediction(b"\x0a\xac\x02" + bytes(300)) == bytes(300)


def test_server_and_workers_end_with_the_block(torchserve_install, network, tmp_path):
    with running_torchserve(torchserve_install, [ServedModel("only", network)], tmp_path) as server:
        (worker,) = re.findall(r"\[PID\](\d+)", server.log_path.read_text())
        assert Path("/proc", worker).exists()
    assert not Path("/proc", worker).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(server.grpc_address.split(":")), timeout=1)


def test_without_java_torchserve_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(launcher, "DEBIANS_JAVAS", tmp_path)
    with pytest.raises(ServerUnavailable, match="needs Java 17"):
        install_torchserve(tmp_path)


def test_without_apt_torchserve_is_unavailable_and_nothing_half_finished_is_left_to_use(
    tmp_path, monkeypatch, torchserve_install
):
    monkeypatch.setenv("JAVA_HOME", str(Path(torchserve_install.java).resolve().parents[1]))
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(ServerUnavailable, match="no apt-get"):
            install_torchserve(cache)
    assert all(path.name.startswith("partial-") for path in cache.iterdir() if path.is_dir())
