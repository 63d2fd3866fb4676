"""The audit record: one JSON line to the logger ``sidecar.audit`` for each row that a gate fired on, for each
request that was refused, failed, or answered without being judged, and for each change of a property's mode.

Rows that satisfied their properties leave no line; metrics count them.
"""

import json
import logging
import math
from typing import Final

from sidecar.gates.values import Mode
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import Events, Refusal, RowEvent, RowOutcome

_LOGGER: Final = logging.getLogger("sidecar.audit")
_ENCODER: Final = json.JSONEncoder(allow_nan=False)


def record_events(bundle: ActiveBundle, decision: str, events: Events) -> None:
    """Write down what happened to the rows of an answer, or that it went to the client without being judged."""
    for event in events.fired:
        _record_row(bundle, decision, event, events.unproved_version)
    for outcome, why in (
        (RowOutcome.UNJUDGED, events.unjudged),
        (RowOutcome.BYPASSED, events.bypassed),
        (RowOutcome.FALLBACK, events.fell_back),
    ):
        if why is not None:
            _write_request(decision, outcome, why)


def _record_row(bundle: ActiveBundle, decision: str, event: RowEvent, unproved_version: str | None) -> None:
    _write(
        {
            "decision": decision,
            "model": bundle.model_name,
            "revision": bundle.revision,
            "row": event.row,
            "outcome": event.outcome.value,
            "action": event.action,
            "reason": event.reason,
            "largest_change": _number(event.largest_change),
            "breach": any(violation.is_breach for violation in event.violations),
            "gates": [
                {"property": violation.property_id, "mode": violation.mode, "label": violation.region}
                for violation in event.violations
            ],
            **({} if unproved_version is None else {"unproved_version": unproved_version}),
        }
    )


def record_refusal(decision: str, refusal: Refusal) -> None:
    """Write down that a request got an error."""
    _write_request(decision, "error", refusal)


def record_bypass(model_name: str, decision: str, why: Refusal) -> None:
    """Write down that an answer of a model without an active bundle went to the client."""
    _write(
        {
            "decision": decision,
            "model": model_name,
            "revision": None,
            "outcome": "bypassed",
            "reason": why.reason,
            "message": why.text,
        }
    )


def record_mode(bundle: ActiveBundle, property_id: str, before: Mode, after: Mode) -> None:
    """Write down that requests from now on find a property in another mode."""
    _write(
        {
            "event": "mode_changed",
            "model": bundle.model_name,
            "revision": bundle.revision,
            "property": property_id,
            "before": before,
            "after": after,
        }
    )


def _write_request(decision: str, outcome: str, refusal: Refusal) -> None:
    _write(
        {
            "decision": decision,
            "model": refusal.bundle.model_name if refusal.bundle else None,
            "revision": refusal.bundle.revision if refusal.bundle else None,
            "outcome": outcome,
            "reason": refusal.reason,
            "message": refusal.text,
        }
    )


def _number(value: float) -> float | str:
    """Infinity and NaN are no JSON: a change from or to such a value is recorded as text."""
    return value if math.isfinite(value) else str(value)


def _write(record: dict[str, object]) -> None:
    if _LOGGER.isEnabledFor(logging.INFO):
        _LOGGER.info(_ENCODER.encode(record))
