"""The embedded model server, spoken to by another maker's client over real gRPC."""

import os
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from sidecar.errors import OperationError
from sidecar.model_server.server import start_model_server

WEIGHT = np.arange(15, dtype=np.float32).reshape(5, 3)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    path = tmp_path_factory.mktemp("model") / "linear.onnx"
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def server(model_path):
    running = start_model_server(model_path, None, "127.0.0.1:0")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def _input(values):
    array = np.array(values, dtype=np.float32)
    tensor = triton.InferInput("x", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def test_a_client_gets_what_the_model_computes(client):
    rows = np.eye(5, dtype=np.float32)
    np.testing.assert_array_equal(client.infer("linear", [_input(rows)]).as_numpy("y"), WEIGHT)


def test_non_finite_values_pass(client):
    answer = client.infer("linear", [_input([[np.nan] * 5, [1] * 5])]).as_numpy("y")
    assert np.isnan(answer[0]).all()
    assert np.isfinite(answer[1]).all()


def test_messages_above_grpcs_usual_limit_pass_both_ways(client):
    rows = np.ones((500_000, 5), dtype=np.float32)  # 10 MB up, 6 MB down
    assert client.infer("linear", [_input(rows)]).as_numpy("y").shape == (500_000, 3)


def test_health_and_metadata_are_answered(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    assert not client.is_model_ready("linear", "2")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata().name == "gate-sidecar model-server"
    assert list(client.get_model_metadata("linear").inputs[0].shape) == [-1, 5]


def _status(call):
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def test_an_unknown_model_or_version_is_not_found(client):
    status, message = _status(lambda: client.infer("another", [_input([[1] * 5])]))
    assert status == "StatusCode.NOT_FOUND"
    assert "'another' is not served here" in message
    status, message = _status(lambda: client.infer("linear", [_input([[1] * 5])], model_version="2"))
    assert status == "StatusCode.NOT_FOUND"
    assert "version '2'" in message
    assert _status(lambda: client.get_model_metadata("another"))[0] == "StatusCode.NOT_FOUND"


def test_a_misfit_is_an_invalid_argument(client):
    status, message = _status(lambda: client.infer("linear", [_input([[1] * 4])]))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "has shape [1, 4]; the model takes [-1, 5]" in message


def test_an_rpc_that_is_not_offered_is_unimplemented(client):
    assert _status(client.get_model_repository_index)[0] == "StatusCode.UNIMPLEMENTED"


def test_bytes_that_are_no_message_are_an_invalid_argument(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a ModelInferRequest" in caught.value.details()


def test_a_failure_of_onnxruntime_is_internal_and_the_server_lives_on(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    path = tmp_path / "add.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()
    )
    running = start_model_server(path, "sum", "127.0.0.1:0")
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        inputs = [triton.InferInput("a", [2], "FP32"), triton.InferInput("b", [3], "FP32")]
        for tensor in inputs:
            tensor.set_data_from_numpy(np.ones(tensor.shape(), np.float32))
        assert _status(lambda: client.infer("sum", inputs))[0] == "StatusCode.INTERNAL"
        assert client.is_model_ready("sum")
    running.stop()


def test_a_port_in_use_is_an_error(server, model_path):
    with pytest.raises(OperationError, match=f"cannot listen on 127.0.0.1:{server.port}"):
        start_model_server(model_path, None, f"127.0.0.1:{server.port}")


def test_a_stopped_server_gives_its_port_back(model_path):
    first = start_model_server(model_path, None, "127.0.0.1:0")
    first.stop()
    second = start_model_server(model_path, None, f"127.0.0.1:{first.port}")
    assert second.port == first.port
    second.stop()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_signalled(model_path, sent):
    command = [sys.executable, "-m", "sidecar.cli", "model-server", "--model", str(model_path), "--listen"]
    process = subprocess.Popen([*command, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        line = process.stdout.readline()
        assert "127.0.0.1:" in line, line
        with triton.InferenceServerClient(f"127.0.0.1:{line.rsplit(':', 1)[1].split()[0]}") as client:
            assert client.is_model_ready("linear")
        process.send_signal(sent)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
