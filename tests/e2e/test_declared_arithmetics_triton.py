"""A real Triton that computes in coarse arithmetic, behind bundles that declare that and behind one that does not."""

import json
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.drill.model import MODEL, PROPERTY, network, requests, rounded_model
from tests.e2e.guarding import RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.triton.launcher import running_triton
from tests.integration.swapping import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

REQUESTS = 400


def _compiled(folder: Path, *options: str) -> Path:
    model, properties, bundle = folder / "m.onnx", folder / "p.vnnlib", folder / f"{'-'.join(options)}.gates"
    model.write_bytes(network())
    properties.write_text(PROPERTY)
    compiled = compile_bundle(model, [properties], MODEL, bundle, "2s", options)
    assert compiled.returncode == 0, compiled.stderr
    return bundle


def _asked(sidecar: RunningSidecar) -> tuple[str | None, float, float]:
    """The probe's result, corrections and breaches after some requests, half of them counterexamples."""
    wait_until(lambda: _probe(sidecar) is not None, 30)
    rng = np.random.default_rng(3)
    with triton.InferenceServerClient(sidecar.address) as client:
        for rows in requests(REQUESTS, rng):
            tensor = triton.InferInput("input", list(rows.shape), "FP32")
            tensor.set_data_from_numpy(rows)
            scores = client.infer(MODEL, [tensor], client_timeout=10).as_numpy("scores")
            inside = (np.abs(rows) <= 1).all(axis=1)
            assert (scores[inside, 0] < scores[inside, 1:].max(axis=1)).all()
    corrected = sidecar.metric("gate_corrections_total", model=MODEL)
    return _probe(sidecar), corrected, sidecar.metric("gate_breaches_total", model=MODEL)


def _probe(sidecar: RunningSidecar) -> str | None:
    """The result, once there is one."""
    (model,) = json.loads(sidecar.get("/status")[1])["models"]
    return model["probe"]["result"]


@pytest.mark.parametrize("arithmetic", ["tf32", "fp16"])
def test_what_a_server_computes_in_is_a_breach_unless_it_is_declared(triton_install, tmp_path, server_logs, arithmetic):
    declared, undeclared = _compiled(tmp_path, "--arithmetic", arithmetic), _compiled(tmp_path)
    server_logs.append(tmp_path / "triton" / "triton.log")
    (tmp_path / "triton").mkdir()
    served = rounded_model(tmp_path / "rounded", arithmetic)
    with running_triton(triton_install, [served], tmp_path / "triton") as server:
        for bundle in (declared, undeclared):
            server_logs.append(tmp_path / f"{bundle.stem}.log")
            with running_sidecar([bundle], server.grpc_address, server_logs[-1], ["--probe", "report"]) as sidecar:
                probed, corrected, breaches = _asked(sidecar)
            assert corrected > 0
            assert (probed, breaches > 0) == (("match", False) if bundle == declared else ("mismatch", True))
