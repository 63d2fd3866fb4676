"""The shell around the request path, with an upstream in memory: failures, time, cancellation, defects."""

import asyncio
import json
import logging
import threading

import grpc
import pytest

from sidecar.config import UpstreamWords
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.failure_policy import Status
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.upstream import UpstreamFailure, UpstreamReply
from sidecar.proxy.workers import MAX_REQUEST_BYTES_ON_THE_LOOP, Workers
from tests.conformance.guarded_model import bundle_bytes, request, response, values

INSIDE = request([0.75, 0]).SerializeToString()
TOO_HIGH = response([[3, 2, 1]]).SerializeToString()
MODELS = active_models([activate(bundle_bytes())])


class Fixture:
    def __init__(self, answer, delay_seconds: float = 0.0, **more) -> None:
        self.upstream = MemoryUpstream({MODEL_INFER: answer}, delay_seconds)
        self.metrics = Metrics()
        for bundle in MODELS.bundles.values():
            self.metrics.bundle_activated(bundle)
        self.workers = Workers()
        self.infer = ModelInfer(Registry(MODELS), self.upstream, self.metrics, self.workers, **more)

    def ask(self, content: bytes = INSIDE, timeout_seconds: float = 1.0):
        return asyncio.run(self.infer.answer("ab" * 16, content, (("k", "v"),), timeout_seconds))

    def requests(self, outcome: str, model: str = "guarded") -> float | None:
        return self.metrics.value("gate_requests_total", model=model, outcome=outcome)

    def refusals(self, reason: Reason, model: str = "guarded") -> float | None:
        return self.metrics.value("gate_refusals_total", model=model, reason=reason)


def test_metadata_of_the_upstream_goes_with_an_answer():
    reply = UpstreamReply(TOO_HIGH, (("i", "1"),), (("t", "2"),))
    fixture = Fixture(reply)
    answer = fixture.ask()
    assert answer.initial == (("i", "1"),)
    assert answer.trailing == (("t", "2"), ("gate-decision", "ab" * 16 + "/1"), ("gate-outcome", "corrected"))
    assert fixture.upstream.asked[0].metadata == (("k", "v"),)


def test_nothing_of_the_answer_goes_with_a_refusal():
    reply = UpstreamReply(response([[float("nan"), 0, 0]]).SerializeToString(), (("i", "1"),), (("t", "2"),))
    fixture = Fixture(reply)
    answer = fixture.ask()
    assert isinstance(answer.result, Status)
    assert answer.initial == ()
    assert [key for key, _ in answer.trailing] == ["gate-decision", "gate-outcome", "gate-reason"]
    assert fixture.requests("refused") == fixture.refusals(Reason.OUTPUT_NOT_FINITE) == 1


@pytest.mark.parametrize("words", UpstreamWords)
@pytest.mark.parametrize(("code", "is_callers"), [(grpc.StatusCode.ABORTED, False), (grpc.StatusCode.NOT_FOUND, True)])
def test_an_upstreams_error_is_told_with_its_words_and_metadata_or_neither(words, code, is_callers):
    failure = UpstreamFailure(Reason.UPSTREAM_ERROR, code, "at /srv/x.py", answered=True, trailing=(("t", "2"),))
    fixture = Fixture(failure, words=words)
    answer = fixture.ask()
    is_told = is_callers or words is UpstreamWords.ALL
    text = "at /srv/x.py" if is_told else "the model server could not answer"
    assert answer.result == Status(code, text, Reason.UPSTREAM_ERROR)
    assert (("t", "2") in answer.trailing) is is_told
    assert fixture.requests("failed") == fixture.refusals(Reason.UPSTREAM_ERROR) == 1


def test_a_slow_upstream_fails_in_time():
    fixture = Fixture(TOO_HIGH, delay_seconds=60)
    assert fixture.ask(timeout_seconds=0.01).result.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert fixture.refusals(Reason.UPSTREAM_DEADLINE) == 1


def test_cancelling_is_counted():
    fixture = Fixture(TOO_HIGH, delay_seconds=60)

    async def ask_and_cancel():
        asking = asyncio.create_task(fixture.infer.answer("ab" * 16, INSIDE, (), 100.0))
        await asyncio.sleep(0.01)
        asking.cancel()
        await asking

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask_and_cancel())
    assert fixture.requests("cancelled") == 1


def test_a_defect_fails_closed_under_its_decision_id(caplog):
    def defect(_):
        raise ZeroDivisionError("a secret of ours")

    fixture = Fixture(defect)
    with caplog.at_level(logging.ERROR):
        answer = fixture.ask()
    assert answer.result.code is grpc.StatusCode.INTERNAL
    assert "secret" not in answer.result.details
    assert "a secret of ours" in caplog.text
    assert fixture.requests("failed") == fixture.refusals(Reason.INTERNAL) == 1


def test_a_large_batch_does_not_hold_up_a_small_request():
    """However long large batches take (here: until the small request is answered), the loop goes on meanwhile."""
    rows = 200
    large = Fixture(response([[3, 2, 1]] * rows).SerializeToString())
    let_go_on = threading.Event()
    large.workers._turns._thread.submit(let_go_on.wait)

    async def ask_both():
        asked = request([[0.75, 0]] * rows).SerializeToString()
        batch = asyncio.create_task(large.infer.answer("ab" * 16, asked, (), 10.0))
        await asyncio.wait_for(large.infer.answer("cd" * 16, b"\xff", (), 10.0), 10)
        still_judging = not batch.done()
        let_go_on.set()
        return still_judging, await batch

    still_judging, answer = asyncio.run(ask_both())
    assert still_judging
    assert (values(answer.result, "y") == [1, 2, 1]).all()
    large.workers.close()


def test_a_large_request_is_checked_beside_the_loop():
    rows = 4000
    fixture = Fixture(response([[0.5, 0, 0]] * rows).SerializeToString())
    large = request([[0.75, 0]] * rows).SerializeToString()
    assert len(large) > MAX_REQUEST_BYTES_ON_THE_LOOP

    async def ask_both():
        batch = asyncio.create_task(fixture.infer.answer("ab" * 16, large, (), 10.0))
        await asyncio.sleep(0)
        checked_at_once = bool(fixture.upstream.asked)
        return checked_at_once, await batch

    checked_at_once, answer = asyncio.run(ask_both())
    assert not checked_at_once
    assert answer.result == fixture.upstream.answers[MODEL_INFER]
    fixture.workers.close()


def test_an_unjudged_answer_is_counted_and_recorded(caplog):
    models = active_models([activate(bundle_bytes(), mode=Mode.SHADOW)])
    metrics = Metrics()
    infer = ModelInfer(Registry(models), MemoryUpstream({MODEL_INFER: b"\xff"}), metrics, Workers())
    with caplog.at_level(logging.INFO, "sidecar.audit"):
        answer = asyncio.run(infer.answer("ab" * 16, INSIDE, (), 1.0))
    assert answer.result == b"\xff"
    assert dict(answer.trailing)["gate-outcome"] == "unjudged"
    assert metrics.value("gate_requests_total", model="guarded", outcome="unjudged") == 1
    assert json.loads(caplog.records[-1].message)["outcome"] == "unjudged"


def test_requests_for_unknown_models_do_not_make_series():
    fixture = Fixture(TOO_HIGH)
    fixture.ask(request([0, 0], model_name="made-up-17").SerializeToString())
    assert "made-up-17" not in fixture.metrics.exposition().decode()
    assert fixture.refusals(Reason.MODEL_NOT_GUARDED, model="") == 1


def test_no_series_appears_with_traffic():
    """All children exist from activation on."""
    fixture = Fixture(TOO_HIGH)
    series = _series(fixture)
    for content in (INSIDE, b"\xff", request([4.5, 0]).SerializeToString(), request([0.25, 0]).SerializeToString()):
        fixture.ask(content)
    fixture.upstream.answers[MODEL_INFER] = b"\xff"
    fixture.ask()
    assert _series(fixture) == series


def _series(fixture: Fixture) -> set[str]:
    lines = fixture.metrics.exposition().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#") and "_created" not in line}


def test_the_fake_upstream_says_unimplemented_to_what_it_was_not_told():
    outcome = asyncio.run(MemoryUpstream({}).call("/x", b"", (), 1.0))
    assert outcome.code is grpc.StatusCode.UNIMPLEMENTED
