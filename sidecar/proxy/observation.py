"""From decisions to events: what was seen, with the coverage map's label on it. Nothing here decides anything."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label, label
from sidecar.gates.decide import Decisions, Outcome, RowDecision
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import DomainRows, Events, RowEvent, RowOutcome, Violation
from sidecar.tensors import Rows


def all_outside(count: int) -> Events:
    """The events of a request without a row in any domain."""
    return Events(((RowOutcome.OUTSIDE, count),))


def observe(bundle: ActiveBundle, inputs: Rows, contained: npt.NDArray[np.bool_], decisions: Decisions) -> Events:
    """The events of an answer that was judged.

    ``contained`` is bool (row, gate), False for gates that are off.
    """
    labels = {gate: label(bundle.coverage, gate, inputs) for gate in np.flatnonzero(contained.any(axis=0)).tolist()}
    refused = any(row.outcome is Outcome.REFUSED for row in decisions.rows)
    return Events(
        rows=_row_counts(contained, decisions, refused),
        fired=tuple(_row_event(bundle, row, labels, refused) for row in decisions.rows),
        in_domain=tuple(_domain_rows(bundle, contained, labels)),
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


def _row_event(
    bundle: ActiveBundle, row: RowDecision, labels: Mapping[int, npt.NDArray[np.uint8]], refused: bool
) -> RowEvent:
    return RowEvent(
        row=row.row,
        outcome=RowOutcome.REFUSED if refused else RowOutcome(row.outcome),
        action=row.action,
        reason=row.reason,
        largest_change=row.largest_change,
        violations=tuple(
            Violation(bundle.property_ids[gate], bundle.modes[gate], Label(labels[gate][row.row]))
            for gate in sorted((*row.fired, *row.shadow_fired))
        ),
    )


def _domain_rows(
    bundle: ActiveBundle, contained: npt.NDArray[np.bool_], labels: Mapping[int, npt.NDArray[np.uint8]]
) -> Iterator[DomainRows]:
    for gate, of_rows in labels.items():
        counts = np.bincount(of_rows[contained[:, gate]], minlength=len(Label)).tolist()
        for proved, count in zip(Label, counts, strict=True):
            if count:
                yield DomainRows(bundle.property_ids[gate], proved, count)
