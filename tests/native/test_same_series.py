"""The same traffic leaves the same counts, whatever carries it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.config import TransportChoice
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from tests.conformance.cases import CASES
from tests.integration.proxy_harness import READY, Loop, call, settings
from tests.integration.served_upstream import sidecar_before
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)

SERIES = (
    "gate_requests_total",
    "gate_rows_total",
    "gate_in_domain_rows_total",
    "gate_violations_total",
    "gate_breaches_total",
    "gate_corrections_total",
    "gate_refusals_total",
    "gate_request_duration_seconds_count",
    "gate_decision_duration_seconds_count",
    "gate_calls_in_flight",
    "gate_held_bytes",
)


def _counted(loop: Loop, folder, transport: TransportChoice) -> dict:
    upstream = MemoryUpstream({MODEL_READY: READY})
    with sidecar_before(loop, settings(folder, 1, limit_rows=8, transport=transport), upstream) as running:
        for case in CASES[::7]:
            upstream.answers[MODEL_INFER] = case.answer
            call(running.listen_port, MODEL_INFER, case.request)
        # A client has its answer a moment before the call is over.
        wait_until(lambda: "gate_calls_in_flight 0.0" in running.metrics.exposition().decode())
        families = text_string_to_metric_families(running.metrics.exposition().decode())
        samples = [sample for family in families for sample in family.samples if sample.name in SERIES]
        return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


def test_both_transports_count_alike(tmp_path):
    loop = Loop()
    try:
        portable = _counted(loop, tmp_path, TransportChoice.PORTABLE)
        native = _counted(loop, tmp_path, TransportChoice.NATIVE)
    finally:
        loop.close()
    assert {name for name, *_ in portable} == set(SERIES)
    assert native == portable
    assert portable["gate_requests_total", ("model", "guarded"), ("outcome", "untouched")] > 5
