"""A real Triton with a guarded and an unguarded model: the second passes as it is, the first has a fallback when Triton
is killed.
"""

import contextlib
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sidecar.bundle.codec import encode
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement, terms
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.conformance.guarded_model import Label, bundle, leaf
from tests.e2e.guarding import running_sidecar
from tests.e2e.networks import tying_network
from tests.e2e.triton.launcher import ServedModel, running_triton

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIGNATURE = ModelSignature(
    (TensorSpec("input", Datatype.FP32, (5,)),), (TensorSpec("scores", Datatype.FP32, (5,)),), batch_axis=0
)
FALLBACK = (9, 8, 7, 6, 5)


def _bundle() -> bytes:
    """Near zero the first score must be above 5, which it never is; else the fallback is the answer."""
    gate = Gate(
        property_id="high",
        domain=(Region(Box((Fraction(-1),) * 5, (Fraction(1),) * 5)),),
        requirement=Requirement(((Literal(terms({0: Fraction(1)}), (), Fraction(-5), strict=True),),)),
        action=Action.FALLBACK,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=tuple(map(Fraction, FALLBACK)),
    )
    return encode(bundle("guarded", SIGNATURE, ((gate, Mode.ENFORCE, leaf(Label.OPEN)),)))


def _scores(client: triton.InferenceServerClient, model: str, value: float = 0.0) -> list[float]:
    tensor = triton.InferInput("input", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.full((1, 5), value, np.float32))
    return client.infer(model, [tensor], client_timeout=5).as_numpy("scores")[0].tolist()


def test_unguarded_models_pass_and_fallbacks_stand_in_for_a_killed_server(
    triton_install, tmp_path: Path, server_logs: list[Path]
) -> None:
    (tmp_path / "guarded.gates").write_bytes(_bundle())
    server_logs += [tmp_path / "triton.log", tmp_path / "sidecar.log"]
    options = ("--unguarded-models", "pass", "--on-upstream-failure", "fallback")
    models = [ServedModel("guarded", tying_network(), 8), ServedModel("free", tying_network(), 8)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_triton(triton_install, models, tmp_path))
        sidecar = stack.enter_context(
            running_sidecar([tmp_path / "guarded.gates"], server.grpc_address, server_logs[-1], options)
        )
        direct = stack.enter_context(triton.InferenceServerClient(server.grpc_address))
        through = stack.enter_context(triton.InferenceServerClient(sidecar.address))
        assert _scores(through, "free") == _scores(direct, "free") != list(FALLBACK)
        assert _scores(through, "guarded") == list(FALLBACK)
        with pytest.raises(InferenceServerException, match="model_not_guarded"):
            _scores(through, "Guarded")
        os.kill(server.pid, signal.SIGKILL)
        assert [_scores(through, "guarded") for _ in range(20)] == [list(FALLBACK)] * 20
        for model, value in (("free", 0.0), ("guarded", 2.0)):
            with pytest.raises(InferenceServerException, match="upstream_unavailable"):
                _scores(through, model, value)
        assert sidecar.metric("gate_corrections_total", model="guarded", action="fallback") == 1
        assert sidecar.metric("gate_fallbacks_total", model="guarded", reason="upstream_unavailable") == 20
        assert sidecar.metric("gate_requests_total", model="", outcome="unguarded") == 1
