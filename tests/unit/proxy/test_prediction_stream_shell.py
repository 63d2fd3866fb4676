"""The shell around streams of predictions, with both sides in memory: what is told, and what is counted."""

import asyncio
import dataclasses

import grpc
import pytest

from sidecar.config import ModelPolicy
from sidecar.errors import Reason
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.load import Load
from sidecar.proxy.memory_upstream import MemoryClient, MemoryUpstream
from sidecar.proxy.methods import STREAM_PREDICTIONS
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.prediction_stream import PredictionStream
from sidecar.proxy.upstream import UpstreamFailure
from sidecar.proxy.workers import Workers
from tests.conformance.guarded_model import bundle_bytes
from tests.conformance.torchserve_cases import FINE, SETTINGS, answer_bytes, request_bytes

assert SETTINGS.torchserve is not None
POLICY = ModelPolicy(torchserve=dataclasses.replace(SETTINGS.torchserve, stream=True))
MODELS = active_models([activate(bundle_bytes(), policy=lambda _: POLICY)])
ASKED = request_bytes({"data": b'{"instances": [[0.5, 0]]}'})
CORRECTED = answer_bytes(FINE.replace("0.5", "1.0"))


class Stuck(Workers):
    async def check(self, *_):
        await asyncio.Event().wait()


class Fixture:
    def __init__(self, *answers: bytes | UpstreamFailure, workers: Workers | None = None, models=MODELS) -> None:
        self.upstream = MemoryUpstream({}, stream_answers={STREAM_PREDICTIONS: lambda _: list(answers)})
        self.upstream.initial = (("x-server-path", "/opt/models"),)
        self.metrics, self.client, self.workers = Metrics(), MemoryClient(()), workers or Workers()
        self.load = Load(10, 100_000_000)
        self._stream = PredictionStream(Registry(models), self.upstream, self.metrics, self.workers, self.load)

    def run(self, timeout_seconds: float = 5.0):
        answering = self._stream.answer("ab" * 16, self.client, ASKED, (), 5.0)
        try:
            return asyncio.run(asyncio.wait_for(answering, timeout_seconds))
        finally:
            self.workers.close()

    def requests(self, outcome: str, model: str = "guarded") -> float | None:
        return self.metrics.value("gate_requests_total", model=model, outcome=outcome)


def test_each_prediction_is_judged():
    fixture = Fixture(answer_bytes(FINE), answer_bytes(FINE.replace("0.5", "1.5")))
    assert fixture.run().status is None
    assert fixture.client.got == [answer_bytes(FINE), CORRECTED]
    assert fixture.client.initial == (("x-server-path", "/opt/models"),)
    assert fixture.requests("corrected") == 1


@pytest.mark.parametrize(("own", "expected"), [(None, 5.0), (2.0, 2.0), (9.0, 5.0)])
def test_the_models_own_time_for_the_upstream_holds(own, expected):
    policy = dataclasses.replace(POLICY, upstream_timeout_seconds=own)
    models = active_models([activate(bundle_bytes(), policy=lambda _: policy)])
    fixture = Fixture(answer_bytes(FINE), models=models)
    assert fixture.run().status is None
    assert fixture.upstream.asked[0].timeout_seconds == expected


FAILURE = UpstreamFailure(
    Reason.UPSTREAM_ERROR, grpc.StatusCode.INTERNAL, "at /opt/models", True, trailing=(("x-server-path", "/opt"),)
)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(FAILURE, grpc.StatusCode.INTERNAL), (answer_bytes("no JSON"), grpc.StatusCode.INTERNAL)],
    ids=["an error", "an answer that cannot be judged"],
)
def test_nothing_of_the_upstreams_goes_with_an_error(answer, code):
    fixture = Fixture(answer)
    end = fixture.run()
    assert end.status.code is code
    assert "/opt" not in f"{end}"
    assert fixture.client.got == []
    assert fixture.requests("failed") == 1


def test_a_request_that_its_client_gives_up_while_it_is_checked_is_counted():
    fixture = Fixture(workers=Stuck())
    with pytest.raises(TimeoutError):
        fixture.run(timeout_seconds=0.1)
    assert fixture.requests("cancelled", model="") == 1
    assert (fixture.load.calls, fixture.load.held_bytes) == (0, 0)
