"""The shell around the request path of streams, with both sides in memory: defects, large requests, giving up."""

import asyncio
import dataclasses
import functools

import grpc
import pytest

from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy import stream_infer
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.events import Refusal
from sidecar.proxy.load import Load
from sidecar.proxy.memory_upstream import MemoryClient, MemoryUpstream
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.stream_client import StreamEnd
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.upstream import UpstreamFailure
from sidecar.proxy.workers import MAX_REQUEST_BYTES_ON_THE_LOOP, MAX_ROWS_ON_THE_LOOP, Workers
from tests.conformance.guarded_model import bundle_bytes, request, response, values

MODELS = active_models([activate(bundle_bytes())])
INSIDE = request([0.75, 0]).SerializeToString()


def answered(rows: int = 1, **flags: bool):
    """An upstream that answers with rows that violate a property."""

    def answer(content: bytes) -> list[bytes]:
        inner = response([[3, 2, 1]] * rows)
        inner.id = pb.ModelInferRequest.FromString(content).id
        for name, value in flags.items():
            inner.parameters[name].bool_param = value
        return [pb.ModelStreamInferResponse(infer_response=inner).SerializeToString()]

    return answer


class Fixture:
    def __init__(self, answer, *messages: bytes, models=MODELS, silence_seconds: float = 5.0, workers=None) -> None:
        self.upstream = MemoryUpstream({}, stream_answers={MODEL_STREAM_INFER: answer})
        self.metrics, self.client, self.workers = Metrics(), MemoryClient(messages), workers or Workers()
        self.load = Load(10, 100_000_000)
        self.infer = ModelStreamInfer(
            Registry(models), self.upstream, self.metrics, self.workers, self.load, silence_seconds
        )

    def run(self):
        try:
            return asyncio.run(self.infer.answer("ab" * 16, self.client, (("k", "v"),), None))
        finally:
            self.workers.close()

    @property
    def got(self) -> list[pb.ModelStreamInferResponse]:
        return [pb.ModelStreamInferResponse.FromString(each) for each in self.client.got]

    def requests(self, outcome: str, model: str = "guarded") -> float | None:
        return self.metrics.value("gate_requests_total", model=model, outcome=outcome)


def test_requests_are_answered():
    fixture = Fixture(answered(triton_final_response=True), INSIDE, INSIDE)
    assert fixture.run() == StreamEnd(None)
    assert [values(each.infer_response.SerializeToString(), "y").tolist() for each in fixture.got] == [[[1, 2, 1]]] * 2
    assert fixture.requests("corrected") == 2
    assert (fixture.upstream.asked[0].metadata, fixture.upstream.asked[0].timeout_seconds) == ((("k", "v"),), None)


def test_a_defect_in_admitting_fails_that_request(monkeypatch):
    whole = stream_infer.admit_streamed
    calls = []

    def admit(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("secret")
        return whole(*arguments)

    monkeypatch.setattr(stream_infer, "admit_streamed", admit)
    fixture = Fixture(answered(), INSIDE, INSIDE)
    assert fixture.run().status is None
    assert [each.error_message.partition(":")[0] for each in fixture.got] == ["internal", ""]
    assert "secret" not in fixture.got[0].error_message
    assert fixture.requests("failed", model="") == 1


def test_a_defect_in_judging_fails_that_response_closed():
    bundle = MODELS.bundles["guarded"]
    broken = active_models([dataclasses.replace(bundle, modes=())])
    fixture = Fixture(answered(triton_final_response=True), INSIDE, models=broken)
    assert fixture.run().status is None
    (message,) = fixture.got
    assert message.error_message.startswith("internal: ")
    assert message.infer_response.id == "42"
    assert not message.infer_response.outputs
    assert fixture.requests("failed") == 1


def test_a_defect_of_the_shell_ends_the_stream_closed():
    def answer(_: bytes) -> list[bytes]:
        raise ZeroDivisionError("secret")

    fixture = Fixture(answer, INSIDE)
    status = fixture.run().status
    assert (status.code, status.reason) == (grpc.StatusCode.INTERNAL, Reason.INTERNAL)
    assert "secret" not in status.details
    assert (fixture.got, fixture.requests("failed")) == ([], 1)


def test_large_requests_and_batches_are_computed_in_threads():
    rows = 4000
    message = request([[0.75, 0]] * rows).SerializeToString()
    assert len(message) > MAX_REQUEST_BYTES_ON_THE_LOOP
    assert rows > MAX_ROWS_ON_THE_LOOP
    fixture = Fixture(answered(rows), message)
    assert fixture.run().status is None
    assert values(fixture.got[0].infer_response.SerializeToString(), "y").tolist() == [[1, 2, 1]] * rows


def test_too_many_corrections_are_an_error_within_the_stream():
    class Full(Workers):
        async def judge(self, plan, *_):
            return Refusal(Reason.TOO_MANY_CORRECTIONS, "as many as may", plan.bundle)

    fixture = Fixture(answered(triton_final_response=True), INSIDE, workers=Full())
    assert fixture.run().status is None
    assert [each.error_message for each in fixture.got] == ["too_many_corrections: as many as may"]
    assert fixture.requests("refused") == 1


def test_an_upstream_that_fails_ends_the_stream():
    failure = UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "10.0.0.1", answered=False)
    fixture = Fixture(lambda _: [failure], INSIDE)
    end = fixture.run()
    assert end.status.code is grpc.StatusCode.UNAVAILABLE
    assert "10.0.0.1" not in end.status.details
    assert end.trailing == (("gate-reason", "upstream_unavailable"),)


def test_each_request_is_judged_by_the_bundle_that_is_active_when_it_arrives():
    registry = Registry(MODELS)
    off = active_models([activate(bundle_bytes(), mode=Mode.SHADOW)])
    fixture = Fixture(answered(triton_final_response=True), INSIDE, INSIDE)
    fixture.infer = ModelStreamInfer(registry, fixture.upstream, fixture.metrics, fixture.workers, fixture.load, 5.0)
    whole = fixture.client.read

    has_read = False

    async def read() -> bytes | None:
        nonlocal has_read
        while has_read and not fixture.client.got:
            await asyncio.sleep(0.001)
        if has_read:
            registry.current = off
        has_read = True
        return await whole()

    fixture.client.read = read
    fixture.run()
    assert [values(each.infer_response.SerializeToString(), "y")[0, 0] for each in fixture.got] == [1, 3]


def test_a_silent_upstream_ends_the_stream_in_time():
    fixture = Fixture(lambda _: [], INSIDE, silence_seconds=0.01)
    fixture.client.read = _never_ending(fixture.client.read)
    assert fixture.run().status.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert fixture.requests("failed") == 1


def test_more_requests_do_not_give_a_silent_upstream_more_time():
    fixture = Fixture(lambda _: [], *[INSIDE] * 50, silence_seconds=0.1)
    fixture.client.read = _never_ending(fixture.client.read, pause_seconds=0.02)
    assert fixture.run().status.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert fixture.requests("failed") < 20


@pytest.mark.parametrize("final", [True, False])
def test_giving_up_is_counted_for_what_is_in_flight(final):
    fixture = Fixture(answered(triton_final_response=final), INSIDE)
    fixture.client.read = _never_ending(fixture.client.read)

    async def give_up() -> None:
        async with asyncio.timeout(0.1):
            await fixture.infer.answer("ab" * 16, fixture.client, (), None)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert len(fixture.got) == 1
    assert fixture.requests("corrected" if final else "cancelled") == 1


def _never_ending(read, pause_seconds: float = 0.0):
    async def read_or_wait():
        await asyncio.sleep(pause_seconds)
        return await read() or await asyncio.sleep(60)

    return read_or_wait


def test_what_is_remembered_of_answered_requests_is_held_and_bounded(monkeypatch):
    """Of a server that never says which response is the last one: as many rows as its clients like would stay here."""
    seen = []

    class Watching(MemoryClient):
        async def write(self, message: bytes, initial) -> None:
            await super().write(message, initial)
            seen.append((fixture.load.calls, fixture.load.held_bytes))

    size = len(INSIDE)
    limited = functools.partial(stream_infer.Correlation, limit_open_ended_bytes=3 * size)
    monkeypatch.setattr(stream_infer, "Correlation", limited)
    fixture = Fixture(answered())
    fixture.client = Watching([INSIDE] * 8)
    assert fixture.run().status is None
    assert fixture.requests("corrected") == 8
    assert seen[-1][0] == 2, "the stream, and the request that is being answered"
    (answer,) = answered()(fixture.upstream.asked[-1].request)
    assert seen[-1][1] == 4 * size + len(answer), "that one, its answer, and three that are remembered"
    assert (fixture.load.calls, fixture.load.held_bytes) == (0, 0)
