"""A real Triton that is told to stop under load. For some seconds it says NOT_FOUND of models that it has served: no
client may see that, and readiness has to follow.
"""

import collections
import contextlib
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc._utils import _get_inference_request

from tests.e2e.guarding import compile_bundle, running_sidecar
from tests.e2e.networks import OVERLAPPING_PROPERTY, tying_network
from tests.e2e.triton.launcher import ServedModel, running_triton

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL = "tying"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CLIENTS = 4


def _request() -> bytes:
    tensor = triton.InferInput("input", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 5), np.float32))
    nothing = {"request_id": "", "outputs": None, "priority": 0, "timeout": None, "parameters": None}
    sequence = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
    return _get_inference_request(
        model_name=MODEL, inputs=[tensor], model_version="", **nothing, **sequence
    ).SerializeToString()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "tying.onnx").write_bytes(tying_network())
    (tmp_path / "overlapping.vnnlib").write_text(OVERLAPPING_PROPERTY)
    compiled = compile_bundle(
        tmp_path / "tying.onnx", [tmp_path / "overlapping.vnnlib"], MODEL, tmp_path / "b.gates", "5s"
    )
    assert compiled.returncode == 0, compiled.stderr
    return tmp_path / "b.gates"


def _keep_asking(address: str, enough: threading.Event, seen: list[grpc.StatusCode]) -> None:
    with grpc.insecure_channel(address) as channel:
        infer, request = channel.unary_unary(METHOD), _request()
        while not enough.is_set():
            try:
                infer(request, timeout=10)
                seen.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                seen.append(error.code())
                enough.wait(0.005)


def test_clients_see_answers_or_unavailable_and_health_follows(triton_install, bundle, tmp_path, server_logs):
    seen, enough = list[grpc.StatusCode](), threading.Event()  # appending is atomic, adding to a counter is not
    server_logs += [tmp_path / "triton.log", tmp_path / "sidecar.log"]
    with contextlib.ExitStack() as stack:
        going = stack.enter_context(contextlib.ExitStack())
        served = [ServedModel(MODEL, tying_network(), 8)]
        server = going.enter_context(running_triton(triton_install, served, tmp_path))
        sidecar = stack.enter_context(running_sidecar([bundle], server.grpc_address, server_logs[-1]))
        arguments = (sidecar.address, enough, seen)
        clients = [threading.Thread(target=_keep_asking, args=arguments) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        stack.callback(enough.set)
        enough.wait(2)
        assert set(seen) == {grpc.StatusCode.OK}
        going.close()  # SIGTERM, and wait for its end
        enough.wait(2)
        health = stack.enter_context(grpc.insecure_channel(sidecar.address))
        checked = health_pb2_grpc.HealthStub(health).Check(health_pb2.HealthCheckRequest(service=MODEL), timeout=5)
        assert checked.status == NOT_SERVING
        enough.set()
        for client in clients:
            client.join()
        refused = sidecar.metric("gate_refusals_total", model=MODEL, reason="upstream_unavailable")
    counts = collections.Counter(seen)
    print({code.name: count for code, count in counts.items()})
    assert set(seen) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert counts[grpc.StatusCode.UNAVAILABLE] == refused
    log = (tmp_path / "sidecar.log").read_text(errors="replace")
    assert "NOT_FOUND: Request for unknown model" in log, (
        "Triton did not say NOT_FOUND this time: this run proves nothing"
    )
