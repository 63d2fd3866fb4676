"""A real Triton that comes back with another model of the same shapes: noticed, withheld, and put right."""

import contextlib
import json

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.guarding import RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.processes import free_ports
from tests.e2e.triton.launcher import ServedModel, running_triton
from tests.integration.small_models import NAME, OTHERS, PROPERTY, VERIFIED, SmallModel
from tests.integration.swapping import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATIENCE_SECONDS = 30.0


def _answer(address: str) -> str:
    """The status with which a request ends."""
    tensor = triton.InferInput("input", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.full((1, 5), 0.5, np.float32))
    with triton.InferenceServerClient(address) as client:
        try:
            client.infer(NAME, [tensor], client_timeout=10)
        except InferenceServerException as error:
            return f"{error.status()}: {error.message()}"
    return "OK"


def _health(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5).status


def _probe(sidecar: RunningSidecar) -> dict:
    (model,) = json.loads(sidecar.get("/status")[1])["models"]
    return model["probe"]


def test_another_model_after_a_restart_is_withheld_until_the_right_one_is_back(triton_install, tmp_path, server_logs):
    (tmp_path / "small.onnx").write_bytes(VERIFIED.content())
    (tmp_path / "p.vnnlib").write_text(PROPERTY)
    bundle = tmp_path / "b.gates"
    compiled = compile_bundle(tmp_path / "small.onnx", [tmp_path / "p.vnnlib"], NAME, bundle, "5s")
    assert compiled.returncode == 0, compiled.stderr
    ports = free_ports(2)
    address = f"127.0.0.1:{ports[0]}"

    def serving(model: SmallModel, folder: str):
        server_logs.append(tmp_path / folder / "triton.log")
        (tmp_path / folder).mkdir()
        return running_triton(triton_install, [ServedModel(NAME, model.content(), 8)], tmp_path / folder, ports)

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(serving(VERIFIED, "first"))
        server_logs.append(tmp_path / "sidecar.log")
        options = ["--probe", "required"]
        sidecar = stack.enter_context(running_sidecar([bundle], address, server_logs[-1], options))
        assert _answer(sidecar.address) == "OK"
        assert _probe(sidecar)["result"] == "match"
        first.close()
        for name, other in OTHERS.items():
            _check_withheld(sidecar, serving(other, name))
        stack.enter_context(serving(VERIFIED, "again"))
        wait_until(lambda: sidecar.get("/readyz")[0] == 200, PATIENCE_SECONDS)
        assert _health(sidecar.address) == health_pb2.HealthCheckResponse.SERVING
        assert _answer(sidecar.address) == "OK"
        assert sidecar.metric("gate_probe_mismatch", model=NAME) == 0
        print(_probe(sidecar))


def _check_withheld(sidecar: RunningSidecar, server: contextlib.AbstractContextManager) -> None:
    before = sidecar.metric("gate_probe_total", model=NAME, result="mismatch")
    with server:
        wait_until(lambda: sidecar.metric("gate_probe_total", model=NAME, result="mismatch") > before, PATIENCE_SECONDS)
        status, why = sidecar.get("/readyz")
        assert status == 503
        assert "has not been seen to serve the verified model" in why
        assert _health(sidecar.address) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert "upstream_unmatched" in _answer(sidecar.address)
        assert sidecar.metric("gate_probe_mismatch", model=NAME) == 1
        assert "output scores[" in _probe(sidecar)["detail"]
        print(_probe(sidecar)["detail"])
