"""From decisions to events: what was seen, with the coverage map's label on it. Nothing here decides anything."""

import collections
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LABELS, Label, label, label_row
from sidecar.gates.decide import Decisions, Outcome, RowDecision
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import DomainRows, Events, Refusal, RowEvent, RowOutcome, Violation
from sidecar.tensors import Rows


def all_outside(count: int) -> Events:
    """The events of a request without a row in any domain."""
    return Events(((RowOutcome.OUTSIDE, count),))


def not_judged(contained: npt.NDArray[np.bool_], why: Refusal) -> Events:
    """The events of an answer that goes to the client although it could not be judged."""
    return Events(_counts_inside(contained, RowOutcome.UNJUDGED), unjudged=why)


def bypassed(contained: npt.NDArray[np.bool_], why: Refusal) -> Events:
    """The same, where it could have been refused and the failure mode is open."""
    return Events(_counts_inside(contained, RowOutcome.BYPASSED), bypassed=why)


def fell_back(contained: npt.NDArray[np.bool_], why: Refusal) -> Events:
    """The events of an answer made of fallbacks; every row lies in some domain."""
    return Events(((RowOutcome.FALLBACK, len(contained)),), fell_back=why)


def _counts_inside(contained: npt.NDArray[np.bool_], outcome: RowOutcome) -> tuple[tuple[RowOutcome, int], ...]:
    inside = int(contained.any(axis=1).sum())
    return (outcome, inside), (RowOutcome.OUTSIDE, len(contained) - inside)


def observe(bundle: ActiveBundle, inputs: Rows, contained: npt.NDArray[np.bool_], decisions: Decisions) -> Events:
    """The events of an answer that was judged.

    ``contained`` is bool (row, gate), False for gates that are off.
    """
    refused = any(row.outcome is Outcome.REFUSED for row in decisions.rows)
    if len(inputs) == 1:
        return _alone(bundle, inputs[0], contained[0].tolist(), decisions.rows, refused)
    return Events(
        rows=_row_counts(contained, decisions, refused),
        fired=tuple(_row_event(bundle, _labels(bundle, inputs, row), row, refused) for row in decisions.rows),
        in_domain=tuple(_domain_rows(bundle, inputs, contained)),
    )


def _alone(
    bundle: ActiveBundle,
    inputs: npt.NDArray[np.float64],
    contained: list[bool],
    fired: tuple[RowDecision, ...],
    refused: bool,
) -> Events:
    """The commonest case by far, without array operations."""
    labels = {gate: LABELS[label_row(bundle.coverage, gate, inputs)] for gate, inside in enumerate(contained) if inside}
    outcome = RowOutcome(fired[0].outcome) if fired else RowOutcome.UNTOUCHED if labels else RowOutcome.OUTSIDE
    return Events(
        rows=((outcome, 1),),
        fired=tuple([_row_event(bundle, labels, row, refused) for row in fired]),
        in_domain=tuple([DomainRows(bundle.property_ids[gate], proved, 1) for gate, proved in labels.items()]),
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


def _labels(bundle: ActiveBundle, inputs: Rows, row: RowDecision) -> dict[int, Label]:
    return {gate: LABELS[label_row(bundle.coverage, gate, inputs[row.row])] for gate in (*row.fired, *row.shadow_fired)}


def _row_event(bundle: ActiveBundle, labels: Mapping[int, Label], row: RowDecision, refused: bool) -> RowEvent:
    return RowEvent(
        row=row.row,
        outcome=RowOutcome.REFUSED if refused else RowOutcome(row.outcome),
        action=row.action,
        reason=row.reason,
        largest_change=row.largest_change,
        violations=tuple(
            [
                Violation(bundle.property_ids[gate], bundle.modes[gate], labels[gate])
                for gate in sorted((*row.fired, *row.shadow_fired))
            ]
        ),
    )


def _domain_rows(bundle: ActiveBundle, inputs: Rows, contained: npt.NDArray[np.bool_]) -> Iterator[DomainRows]:
    for gate, property_id in enumerate(bundle.property_ids):
        inside = contained[:, gate]
        if inside.any():
            counts = collections.Counter(label(bundle.coverage, gate, inputs[inside]).tolist())
            yield from (DomainRows(property_id, Label(proved), count) for proved, count in sorted(counts.items()))
