"""All cases over both transports, against the upstream in memory. The native one takes each as it is stated to."""

import dataclasses

import pytest

from sidecar.config import BundleSource
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from sidecar.proxy.transport import TransportKind
from tests.conformance.cases import CASES, Case
from tests.conformance.judging import Received, check
from tests.conformance.more_models import more_bundles
from tests.conformance.stated_lanes import NATIVE, stated_lanes
from tests.conformance.typed_model import typed_bundles
from tests.integration.proxy_harness import Loop, call, settings
from tests.integration.served_upstream import sidecar_before
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

READY = pb.ModelReadyResponse(ready=True).SerializeToString()


@pytest.fixture(scope="module")
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def upstream():
    return MemoryUpstream({MODEL_READY: READY})


@pytest.fixture(scope="module")
def running(loop, upstream, tmp_path_factory, transport):  # noqa: ARG001 (a sidecar for each)
    folder = tmp_path_factory.mktemp("bundles")
    stated = settings(folder, 1, limit_rows=8)
    contents = [*more_bundles(), *typed_bundles()]
    paths = [folder / f"{number}.gates" for number, _ in enumerate(contents)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    bundles = (*stated.bundles, *map(BundleSource, paths))
    with sidecar_before(loop, dataclasses.replace(stated, bundles=bundles), upstream) as running:
        yield running


LANES = stated_lanes()
REASONS = sorted({*LANES.values()} - {NATIVE})


def test_every_case_states_its_lane():
    assert list(LANES) == [case.name for case in CASES]


def _handed_over(running) -> dict[str, float]:
    counts = {reason: running.metrics.value("gate_native_handed_over_total", reason=reason) for reason in REASONS}
    return {reason: count or 0.0 for reason, count in counts.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, running, upstream):
    before = _handed_over(running)
    _check_case(case, running, upstream)
    if running.transport is TransportKind.NATIVE:
        took = [reason for reason, count in _handed_over(running).items() if count > before[reason]]
        assert took == ([] if LANES[case.name] == NATIVE else [LANES[case.name]])


def _check_case(case: Case, running, upstream):
    upstream.answers[MODEL_INFER] = case.answer
    upstream.asked.clear()
    reply = call(running.listen_port, MODEL_INFER, case.request)
    forwarded = [asked.request for asked in upstream.asked if asked.method == MODEL_INFER]
    check(case, Received(reply.body, reply.trailing, forwarded[0] if forwarded else None))
