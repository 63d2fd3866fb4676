"""The native evaluation beside the Python functions, for one request and its answer."""

import collections
import importlib
from typing import Any, Final

from sidecar.bundle.coverage import Label
from sidecar.proxy.active_bundle import ActiveBundle, active_models
from sidecar.proxy.events import Refusal, RequestOutcome, RowOutcome
from sidecar.proxy.native_tables import bundle_tables
from sidecar.proxy.request_path import Judgement, admit, judge
from tests.transports import NATIVE_IS_BUILT

LIMIT_ROWS: Final = 8


class Compared:
    """A bundle on both sides."""

    def __init__(self, bundle: ActiveBundle, limit_rows: int = LIMIT_ROWS) -> None:
        self._bundle = bundle
        self._models = active_models([bundle], limit_rows=limit_rows)
        self._tables = bundle_tables(bundle, limit_rows)
        self._native: Any = importlib.import_module("gate_sidecar_native") if NATIVE_IS_BUILT else None

    def why_handed(self, request: bytes, answer: bytes) -> str | None:
        """Why it is handed over; None where both give the same, which is asserted."""
        verdict = self._native.evaluate(self._bundle.model_name, self._tables, request, answer)
        judgement = self.judged(request, answer)
        if verdict[0] == "handed":
            return str(verdict[1])
        _, outside, untouched, domains = verdict
        assert isinstance(judgement, Judgement)
        assert judgement.answer == answer
        rows = dict(judgement.events.rows)
        assert (rows.get(RowOutcome.OUTSIDE, 0), rows.get(RowOutcome.UNTOUCHED, 0)) == (outside, untouched)
        assert sum(rows.values()) == outside + untouched
        assert judgement.outcome is (RequestOutcome.UNTOUCHED if untouched else RequestOutcome.OUTSIDE)
        assert judgement.events.fired == ()
        native = collections.Counter((self._bundle.property_ids[gate], Label(label)) for gate, label in domains)
        assert native == {(seen.property_id, seen.label): seen.count for seen in judgement.events.in_domain}
        return None

    def judged(self, request: bytes, answer: bytes) -> Judgement | Refusal:
        """What the Python functions make of it."""
        admission = admit(request, (), self._models)
        return admission if isinstance(admission, Refusal) else judge(admission.plan, answer)

    def satisfies(self, request: bytes, answer: bytes) -> bool:
        """Whether no gate fires, in shadow neither."""
        judgement = self.judged(request, answer)
        return isinstance(judgement, Judgement) and not judgement.events.fired
