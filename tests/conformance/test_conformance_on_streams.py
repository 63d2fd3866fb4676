"""All cases as requests on a stream, without a transport: what a call gets, a request on a stream gets."""

import asyncio
import dataclasses

import pytest
from google.protobuf.message import DecodeError

from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.stream import with_own_id
from sidecar.protocols.wire import splice, top_level_fields
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.events import RequestOutcome
from sidecar.proxy.load import Load
from sidecar.proxy.memory_upstream import MemoryClient, MemoryUpstream
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.workers import Workers
from tests.conformance.cases import CASES, Case
from tests.conformance.guarded_model import DTYPES, bundle_bytes
from tests.conformance.judging import Received, check
from tests.conformance.more_models import NAMES, more_bundles
from tests.conformance.typed_model import model_name, typed_bundles

MODELS = ("guarded", *NAMES, *map(model_name, DTYPES))


@pytest.fixture(scope="module")
def models():
    contents = (bundle_bytes(), *more_bundles(), *typed_bundles())
    return active_models([activate(content) for content in contents], limit_rows=8)


def _id(request: bytes) -> str:
    return pb.ModelInferRequest.FromString(request).id


def _is_readable(content: bytes) -> bool:
    try:
        pb.ModelInferResponse.FromString(content)
    except DecodeError:
        return False
    return True


def _is_response(content: bytes) -> bool:
    return bool(pb.ModelInferResponse.FromString(content).id)


def _answer(case: Case, request: bytes) -> bytes:
    """The case's answer under the request's id, in the place where the answer has one."""
    try:
        body = splice(case.answer, {(pb.ModelInferResponse.ID_FIELD_NUMBER, 0): _id(request).encode()})
    except ValueError:
        body = case.answer
    return splice(b"\x12\x00", {(2, 0): body})


def _as_called(case: Case) -> Case:
    """A call's answer does not depend on whether the request has an id; the upstream in memory gives one anyway."""
    try:
        absent = _id(case.request) == ""
    except DecodeError:
        return case
    return dataclasses.replace(case, answer=splice(case.answer, {(3, 0): None})) if absent else case


def _received(message: bytes, metrics: Metrics, forwarded: bytes | None) -> Received:
    answer = pb.ModelStreamInferResponse.FromString(message)
    if forwarded is not None:
        forwarded = forwarded.removesuffix(with_own_id(b"", _id(forwarded)))
    if answer.error_message:
        return Received(None, {"gate-reason": answer.error_message.partition(":")[0]}, forwarded)
    outcomes = [
        each
        for each in RequestOutcome
        if any(metrics.value("gate_requests_total", model=model, outcome=each) for model in MODELS)
    ]
    (field,) = top_level_fields(message)
    return Received(message[field.payload : field.end], {"gate-outcome": ",".join(outcomes)}, forwarded)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, models):
    upstream = MemoryUpstream({}, stream_answers={MODEL_STREAM_INFER: lambda request: [_answer(case, request)]})
    metrics, client = Metrics(), MemoryClient([case.request])
    infer = ModelStreamInfer(Registry(models), upstream, metrics, Workers(), Load(10, 100_000_000), 1.0)
    end = asyncio.run(infer.answer("ab" * 16, client, (), 1.0))
    if upstream.asked and not _is_readable(case.answer):
        assert client.got == []
        assert end.status.reason is Reason.UPSTREAM_MALFORMED
        return
    (message,) = client.got
    forwarded = upstream.asked[0].request if upstream.asked else None
    received = _received(message, metrics, forwarded)
    if upstream.asked and not _is_response(case.answer):
        # Nobody can tell whose it is, so the request stays unanswered when the stream ends.
        assert received.trailers["gate-reason"] == Reason.UPSTREAM_UNCORRELATED
        assert end.status.reason is Reason.UPSTREAM_UNAVAILABLE
        return
    assert end.status is None
    check(_as_called(case), received)
