"""What the native evaluation answers by itself is what the Python functions would have answered; else it hands over."""

import pytest

from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.events import Refusal, RequestOutcome, RowOutcome
from sidecar.proxy.request_path import Judgement, admit, judge
from tests.conformance.cases import CASES
from tests.conformance.guarded_model import bundle_bytes

native = pytest.importorskip("gate_sidecar_native", reason="NOT RUN: the native transport is not built (make native)")

BUNDLE = activate(bundle_bytes())
MODELS = active_models([BUNDLE], limit_rows=8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_or_handed_over(case):
    from sidecar.proxy.native_transport import bundle_tables

    tables = bundle_tables(BUNDLE, 8)
    verdict = native.evaluate("guarded", tables, case.request, case.answer)
    print(verdict)
    if verdict[0] == "handed":
        return
    admission = admit(case.request, (), MODELS)
    assert not isinstance(admission, Refusal)
    judgement = judge(admission.plan, case.answer)
    assert isinstance(judgement, Judgement)
    assert judgement.answer == case.answer
    assert judgement.outcome in (RequestOutcome.OUTSIDE, RequestOutcome.UNTOUCHED)
    rows = dict(judgement.events.rows)
    assert (rows.get(RowOutcome.OUTSIDE, 0), rows.get(RowOutcome.UNTOUCHED, 0)) == verdict[1:3]
