"""Whether the upstream serves the guarded model: what is said when it does not, and when that is logged."""

import asyncio
import logging

import grpc
import pytest

from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_METADATA, MODEL_READY
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.upstream import UpstreamFailure, UpstreamOutcome, UpstreamReply
from sidecar.proxy.upstream_model import Cause, obstacle
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.conformance.guarded_model import bundle_bytes

BATCHED = ModelSignature(
    (TensorSpec("features", Datatype.FP32, (4,)),), (TensorSpec("scores", Datatype.FP32, (2,)),), batch_axis=0
)
SINGLE = ModelSignature(BATCHED.inputs, BATCHED.outputs, batch_axis=None)

YES = UpstreamReply(pb.ModelReadyResponse(ready=True).SerializeToString())
NO = UpstreamReply(pb.ModelReadyResponse(ready=False).SerializeToString())
NOTHING_SAID = UpstreamReply(pb.ModelMetadataResponse(name="m").SerializeToString())


def _failed(code: grpc.StatusCode, details: str = "so it is", answered: bool = True) -> UpstreamFailure:
    return UpstreamFailure(Reason.UPSTREAM_ERROR, code, details, answered)


def _described(inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]) -> UpstreamReply:
    response = pb.ModelMetadataResponse(name="m")
    for side, tensors in ((response.inputs, inputs), (response.outputs, outputs)):
        for name, datatype, shape in tensors:
            side.add(name=name, datatype=datatype, shape=shape)
    return UpstreamReply(response.SerializeToString())


FEATURES = ("features", "FP32", [-1, 4])
SCORES = ("scores", "FP32", [-1, 2])


@pytest.mark.parametrize(
    ("ready", "metadata", "cause", "words"),
    [
        (
            _failed(grpc.StatusCode.UNAVAILABLE, "connection refused", answered=False),
            NOTHING_SAID,
            Cause.UNREACHABLE,
            ("cannot be reached", "UNAVAILABLE: connection refused", "--upstream"),
        ),
        (
            _failed(grpc.StatusCode.NOT_FOUND, "no m here"),
            NOTHING_SAID,
            Cause.UNKNOWN_MODEL,
            ("no m here", "NAME=FILE"),
        ),
        (
            _failed(grpc.StatusCode.UNAVAILABLE, "Server not ready"),
            NOTHING_SAID,
            Cause.NOT_READY,
            ("starting or stopping", "Server not ready"),
        ),
        (
            _failed(grpc.StatusCode.UNIMPLEMENTED),
            NOTHING_SAID,
            Cause.NO_SUCH_SERVICE,
            ("UNIMPLEMENTED", "Open Inference"),
        ),
        (UpstreamReply(b"\xff"), NOTHING_SAID, Cause.NO_SUCH_SERVICE, ("no ModelReadyResponse", "--upstream")),
        (
            NO,
            _failed(grpc.StatusCode.NOT_FOUND, "no m here"),
            Cause.UNKNOWN_MODEL,
            ("does not serve model 'm'", "no m here"),
        ),
        (NO, _failed(grpc.StatusCode.UNAVAILABLE), Cause.NOT_READY, ("not ready", "wait")),
        (NO, NOTHING_SAID, Cause.NOT_READY, ("not ready", "wait")),
        (
            YES,
            _described([("image", "FP32", [-1, 4])], []),
            Cause.OTHER_TENSORS,
            ("features FP32 [rows, 4]", "image FP32"),
        ),
        (YES, _described([("features", "FP16", [-1, 4])], []), Cause.OTHER_TENSORS, ("features FP16 [-1, 4]",)),
        (YES, _described([("features", "FP32", [-1, 5])], []), Cause.OTHER_TENSORS, ("features FP32 [-1, 5]",)),
        (
            YES,
            _described([FEATURES], [("scores", "FP32", [-1, 3])]),
            Cause.OTHER_TENSORS,
            ("output scores FP32 [rows, 2]",),
        ),
        (YES, _described([("features", "FP32", [-1, 1, 4])], []), Cause.OTHER_TENSORS, ("[-1, 1, 4]",)),
    ],
)
def test_what_stands_in_the_way_is_said(
    ready: UpstreamOutcome, metadata: UpstreamOutcome, cause: Cause, words: tuple[str, ...]
) -> None:
    found = obstacle("m", BATCHED, ready, metadata)
    assert found is not None
    assert found.cause is cause
    for each in words:
        assert each in found.why


@pytest.mark.parametrize(
    "metadata",
    [
        _described([FEATURES], [SCORES]),
        _described([("features", "FP32", [1, 4])], [("scores", "FP32", [1, 2])]),
        _described([("features", "FP32", [4])], [("scores", "FP32", [2])]),
        _described([("other", "BYTES", []), ("features", "FP32", [-1, -1])], []),
        NOTHING_SAID,
        UpstreamReply(b"\xff"),
        _failed(grpc.StatusCode.UNIMPLEMENTED),
    ],
    ids=["fits", "one-row", "without-batch-axis", "more-inputs", "nothing-said", "nonsense", "unimplemented"],
)
def test_what_does_not_contradict_the_bundle_is_no_obstacle(metadata: UpstreamOutcome) -> None:
    assert obstacle("m", BATCHED, YES, metadata) is None


def test_a_batch_is_no_single_row() -> None:
    found = obstacle("m", SINGLE, YES, _described([FEATURES], [SCORES]))
    assert found is not None
    assert "expected input features FP32 [4], got features FP32 [-1, 4]" in found.why
    assert obstacle("m", SINGLE, YES, _described([("features", "FP32", [4])], [])) is None


@pytest.fixture
def upstream() -> MemoryUpstream:
    return MemoryUpstream({MODEL_READY: YES, MODEL_METADATA: NOTHING_SAID})


@pytest.fixture
def readiness(upstream: MemoryUpstream) -> Readiness:
    return Readiness(Registry(active_models([activate(bundle_bytes())])), upstream, Metrics(), 1.0)


def test_not_asked_yet_is_not_ready(readiness: Readiness) -> None:
    assert not readiness.ready
    assert readiness.why == ("guarded: the upstream has not been asked yet",)


def test_an_obstacle_is_logged_once_and_its_end_too(
    upstream: MemoryUpstream, readiness: Readiness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.proxy")
    for ready in (NO, NO, _failed(grpc.StatusCode.NOT_FOUND), YES, YES, NO):
        upstream.answers[MODEL_READY] = ready
        asyncio.run(readiness.ask())
        assert readiness.ready is (ready is YES)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "WARNING", "INFO", "WARNING"]
    assert "does not serve model 'guarded'" in caplog.messages[1]


def test_other_tensors_are_not_ready(upstream: MemoryUpstream, readiness: Readiness) -> None:
    upstream.answers[MODEL_METADATA] = _described([("pixels", "UINT8", [-1, 3])], [])
    asyncio.run(readiness.ask())
    (why,) = readiness.why
    assert "pixels UINT8 [-1, 3]" in why


def test_a_failing_question_is_no_yes(readiness: Readiness, upstream: MemoryUpstream) -> None:
    def broken(_: bytes) -> bytes:
        raise RuntimeError("torn")

    upstream.answers[MODEL_READY] = broken
    asyncio.run(readiness.ask())
    assert readiness.why == ("guarded: asking the upstream failed: RuntimeError('torn')",)


def test_without_a_bundle_and_when_stopping_it_is_not_ready(upstream: MemoryUpstream, readiness: Readiness) -> None:
    empty = Readiness(Registry(active_models([])), upstream, Metrics(), 1.0)
    assert empty.why == ("no gate bundle is active",)
    asyncio.run(readiness.ask())
    assert readiness.ready
    readiness.drain()
    assert readiness.why == ("stopping",)


def _readiness_over(answers, delay_seconds=0.0):
    upstream = MemoryUpstream(answers, delay_seconds)
    registry = Registry(active_models([activate(bundle_bytes())]))
    return upstream, Readiness(registry, upstream, Metrics(), 1.0)


def test_who_asks_meanwhile_shares_the_answers():
    upstream, readiness = _readiness_over({MODEL_READY: pb.ModelReadyResponse(ready=True).SerializeToString()}, 0.01)

    async def ask():
        await asyncio.gather(*(readiness.ask() for _ in range(5)))

    asyncio.run(ask())
    assert [each.method for each in upstream.asked].count(MODEL_READY) == 1


def test_looking_again_does_not_trust_a_question_that_was_on_its_way():
    answers = {MODEL_READY: pb.ModelReadyResponse(ready=True).SerializeToString()}
    upstream, readiness = _readiness_over(answers, 0.02)

    async def look():
        await readiness.ask()
        on_its_way = asyncio.create_task(readiness.ask())
        await asyncio.sleep(0.025)  # its first answer, "ready", is here
        upstream.answers[MODEL_READY] = pb.ModelReadyResponse(ready=False).SerializeToString()
        again = await readiness.look_again("guarded")
        await on_its_way
        return again, await readiness.look_again("guarded")

    assert asyncio.run(look()) == (False, False)
