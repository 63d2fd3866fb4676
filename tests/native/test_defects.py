"""A defect of ours that one call meets is that call's alone."""

import logging

import grpc
import pytest

from sidecar.config import TransportChoice
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from tests.conformance.guarded_model import request, response
from tests.integration.proxy_harness import READY, Loop, call, settings
from tests.integration.served_upstream import sidecar_before
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

pytestmark = pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)

INSIDE = request([0.75, 0]).SerializeToString()
TOO_HIGH = response([[3, 2, 1]]).SerializeToString()


def test_before_it_is_judged_is_an_internal_error_and_the_next_call_is_answered(tmp_path, monkeypatch, caplog):
    upstream, loop = MemoryUpstream({MODEL_READY: READY, MODEL_INFER: TOO_HIGH}), Loop()

    def defect(*_):
        raise RuntimeError("a defect")

    with sidecar_before(loop, settings(tmp_path, 1, transport=TransportChoice.NATIVE), upstream) as running:
        with monkeypatch.context() as broken, caplog.at_level(logging.ERROR, "sidecar.proxy"):
            broken.setattr(ModelInfer, "judge", defect)
            failed = call(running.listen_port, MODEL_INFER, INSIDE)
        answered = call(running.listen_port, MODEL_INFER, INSIDE)
    loop.close()
    assert (failed.code, failed.trailing["gate-reason"]) == (grpc.StatusCode.INTERNAL, "internal")
    assert "a defect" in caplog.text
    assert "a defect" not in failed.details
    assert answered.trailing["gate-outcome"] == "corrected"
