"""From decisions to events: what was seen, with the coverage map's label on it. Nothing here decides anything."""

import collections
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label, label, label_row
from sidecar.gates.decide import Decisions, Outcome, RowDecision
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import DomainRows, Events, Refusal, RowEvent, RowOutcome, Violation
from sidecar.tensors import Rows


def all_outside(count: int) -> Events:
    """The events of a request without a row in any domain."""
    return Events(((RowOutcome.OUTSIDE, count),))


def not_judged(contained: npt.NDArray[np.bool_], why: Refusal) -> Events:
    """The events of an answer that goes to the client although it could not be judged."""
    inside = int(contained.any(axis=1).sum())
    return Events(((RowOutcome.UNJUDGED, inside), (RowOutcome.OUTSIDE, len(contained) - inside)), unjudged=why)


def observe(bundle: ActiveBundle, inputs: Rows, contained: npt.NDArray[np.bool_], decisions: Decisions) -> Events:
    """The events of an answer that was judged.

    ``contained`` is bool (row, gate), False for gates that are off.
    """
    if len(inputs) == 1 and not decisions.rows:
        return _untouched_alone(bundle, inputs[0].tolist(), contained[0].tolist())
    refused = any(row.outcome is Outcome.REFUSED for row in decisions.rows)
    return Events(
        rows=_row_counts(contained, decisions, refused),
        fired=tuple(_row_event(bundle, inputs, row, refused) for row in decisions.rows),
        in_domain=tuple(_domain_rows(bundle, inputs, contained)),
    )


def _untouched_alone(bundle: ActiveBundle, inputs: list[float], contained: list[bool]) -> Events:
    """The commonest case by far, without array operations."""
    gates = [gate for gate, inside in enumerate(contained) if inside]
    return Events(
        rows=((RowOutcome.UNTOUCHED if gates else RowOutcome.OUTSIDE, 1),),
        in_domain=tuple(
            DomainRows(bundle.property_ids[gate], Label(label_row(bundle.coverage, gate, inputs)), 1) for gate in gates
        ),
    )


def _row_counts(
    contained: npt.NDArray[np.bool_], decisions: Decisions, refused: bool
) -> tuple[tuple[RowOutcome, int], ...]:
    count = len(contained)
    if refused:
        return ((RowOutcome.REFUSED, count),)
    outside = count - int(contained.any(axis=1).sum())
    corrected = sum(row.outcome is Outcome.CORRECTED for row in decisions.rows)
    counts = {
        RowOutcome.OUTSIDE: outside,
        RowOutcome.CORRECTED: corrected,
        RowOutcome.UNTOUCHED: count - outside - corrected,
    }
    return tuple((outcome, rows) for outcome, rows in counts.items() if rows)


def _row_event(bundle: ActiveBundle, inputs: Rows, row: RowDecision, refused: bool) -> RowEvent:
    here = inputs[row.row].tolist()
    return RowEvent(
        row=row.row,
        outcome=RowOutcome.REFUSED if refused else RowOutcome(row.outcome),
        action=row.action,
        reason=row.reason,
        largest_change=row.largest_change,
        violations=tuple(
            Violation(bundle.property_ids[gate], bundle.modes[gate], Label(label_row(bundle.coverage, gate, here)))
            for gate in sorted((*row.fired, *row.shadow_fired))
        ),
    )


def _domain_rows(bundle: ActiveBundle, inputs: Rows, contained: npt.NDArray[np.bool_]) -> Iterator[DomainRows]:
    for gate, property_id in enumerate(bundle.property_ids):
        inside = contained[:, gate]
        if inside.any():
            counts = collections.Counter(label(bundle.coverage, gate, inputs[inside]).tolist())
            yield from (DomainRows(property_id, Label(proved), count) for proved, count in sorted(counts.items()))
