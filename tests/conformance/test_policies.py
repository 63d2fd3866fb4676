"""The cases of the models' policies, as calls and on streams, with the upstream in memory."""

import asyncio
import dataclasses

import pytest

from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.wire import splice
from sidecar.proxy.active_bundle import ActiveModels, Registry, activate, active_models
from sidecar.proxy.failure_policy import Status
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.load import Load
from sidecar.proxy.memory_upstream import MemoryClient, MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_STREAM_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.upstream import UpstreamFailure
from sidecar.proxy.workers import Workers
from tests.conformance.cases import Error, VeryBytes
from tests.conformance.guarded_model import bundle_bytes
from tests.conformance.judging import check_fallback
from tests.conformance.policy_cases import POLICY_CASES, FellBack, Passed, PolicyCase

CONTENT = bundle_bytes()


def models_of(case: PolicyCase) -> ActiveModels:
    bundle = activate(CONTENT, mode=case.mode, policy=lambda _: case.policy)
    return dataclasses.replace(
        active_models([bundle], limit_rows=8),
        awaited=case.awaited,
        failing=case.failing,
        unguarded=case.unguarded,
        open_models=case.open_models,
    )


def counted(metrics: Metrics, name: str) -> float:
    return sum(
        sample.value for family in metrics.registry.collect() for sample in family.samples if sample.name == name
    )


def check_counts(case: PolicyCase, metrics: Metrics) -> None:
    fell_back = isinstance(case.expected, FellBack)
    bypassed = isinstance(case.expected, Passed) and case.expected.outcome == "bypassed"
    assert counted(metrics, "gate_fallbacks_total") == fell_back
    assert counted(metrics, "gate_bypassed_total") == bypassed
    assert counted(metrics, "gate_refusals_total") == isinstance(case.expected, Error)
    assert counted(metrics, "gate_requests_total") == 1


@pytest.mark.parametrize("case", POLICY_CASES, ids=lambda case: case.name)
def test_case(case: PolicyCase):
    upstream, metrics = MemoryUpstream({MODEL_INFER: case.answer}), Metrics()
    infer = ModelInfer(Registry(models_of(case)), upstream, metrics, Workers())
    answer = asyncio.run(infer.answer("ab" * 16, case.request, (), 1.0))
    trailing = dict(answer.trailing)
    match case.expected:
        case Error(reason, forwarded):
            assert isinstance(answer.result, Status)
            assert trailing["gate-reason"] == reason
            assert bool(upstream.asked) is forwarded
        case Passed(outcome, reason):
            assert answer.result == case.answer
            assert (trailing["gate-outcome"], trailing.get("gate-reason")) == (outcome, reason)
            assert upstream.asked[0].request == case.request
        case FellBack(reason):
            assert (trailing["gate-outcome"], trailing["gate-reason"]) == ("fallback", reason)
            check_fallback(case.request, answer.result, case.expected)
        case VeryBytes(outcome):
            assert (answer.result, trailing["gate-outcome"]) == (case.answer, outcome)
            assert "gate-reason" not in trailing
    check_counts(case, metrics)


def on_stream(case: PolicyCase):
    """The messages that answer a request on a stream: an error of the upstream's own is one within the stream."""

    def answer(content: bytes):
        own_id = pb.ModelInferRequest.FromString(content).id
        if isinstance(case.answer, bytes):
            body = splice(case.answer, {(pb.ModelInferResponse.ID_FIELD_NUMBER, 0): own_id.encode()})
            return [splice(b"\x12\x00", {(2, 0): body})]
        if case.answer.reason is not Reason.UPSTREAM_ERROR:
            return [case.answer]
        message = pb.ModelStreamInferResponse(error_message=case.answer.details)
        message.infer_response.id = own_id
        return [message.SerializeToString()]

    return answer


@pytest.mark.parametrize("case", [case for case in POLICY_CASES if not case.has_status], ids=lambda case: case.name)
def test_case_on_a_stream(case: PolicyCase):
    upstream = MemoryUpstream({}, stream_answers={MODEL_STREAM_INFER: on_stream(case)})
    metrics, client = Metrics(), MemoryClient([case.request])
    infer = ModelStreamInfer(Registry(models_of(case)), upstream, metrics, Workers(), Load(10, 100_000_000), 1.0)
    end = asyncio.run(infer.answer("ab" * 16, client, (), 1.0))
    breaks_off = isinstance(case.answer, UpstreamFailure) and case.answer.reason is not Reason.UPSTREAM_ERROR
    if breaks_off and isinstance(case.expected, Error) and case.expected.forwarded:
        assert (client.got, end.status.reason) == ([], case.expected.reason)
        return
    assert (end.status is not None) == (breaks_off and bool(upstream.asked))
    (message,) = client.got
    got = pb.ModelStreamInferResponse.FromString(message)
    body = got.infer_response.SerializeToString()
    match case.expected:
        case Error(reason, forwarded):
            assert got.error_message.partition(":")[0] in (reason, "its own words")
            assert bool(upstream.asked) is forwarded
        case Passed(outcome) | VeryBytes(outcome):
            assert metrics.value("gate_requests_total", model=_label(case), outcome=outcome) == 1
            assert not got.error_message
            assert got.infer_response == pb.ModelInferResponse.FromString(case.answer)
        case FellBack():
            assert metrics.value("gate_requests_total", model="guarded", outcome="fallback") == 1
            got.infer_response.ClearField("parameters")
            check_fallback(case.request, body, case.expected)
    if not breaks_off:  # the end is one more error
        check_counts(case, metrics)


def _label(case: PolicyCase) -> str:
    """No name that a client chose is a label."""
    name = pb.ModelInferRequest.FromString(case.request).model_name
    return name if name == "guarded" else ""


def test_case_names_are_distinct():
    names = [case.name for case in POLICY_CASES]
    assert len(set(names)) == len(names) >= 60
