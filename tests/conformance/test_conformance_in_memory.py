"""All cases on the request path and its shell, without a transport."""

import asyncio

import pytest

from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.decision_ids import new_call_id
from sidecar.proxy.failure_policy import Status
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.workers import Workers
from tests.conformance.cases import CASES, Case
from tests.conformance.guarded_model import bundle_bytes
from tests.conformance.judging import Received, check
from tests.conformance.more_models import more_bundles
from tests.conformance.typed_model import typed_bundles


@pytest.fixture(scope="module")
def models():
    contents = (bundle_bytes(), *more_bundles(), *typed_bundles())
    return active_models([activate(content) for content in contents], limit_rows=8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, models):
    upstream = MemoryUpstream({MODEL_INFER: case.answer})
    infer = ModelInfer(Registry(models), upstream, Metrics(), Workers())
    answer = asyncio.run(infer.answer(new_call_id(), case.request, (), 1.0))
    body = None if isinstance(answer.result, Status) else answer.result
    forwarded = upstream.asked[0].request if upstream.asked else None
    check(case, Received(body, dict(answer.trailing), forwarded))


def test_case_names_are_distinct():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 400
