"""What the request path reports about one request, as values. Metrics and audit records are made from these."""

import dataclasses
import enum
from typing import Final

from sidecar.bundle.coverage import Label
from sidecar.errors import Reason
from sidecar.gates.values import Action, Mode
from sidecar.proxy.active_bundle import ActiveBundle

MAX_TEXT_CHARACTERS: Final = 500
"""gRPC's limit for all metadata of a message is 8 KiB, and a character may take 12 bytes there."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """The client gets an error instead of an answer.

    Args:
        reason: the stable code.
        message: got, expected, where, what to do. The failure policy decides whether the client sees it.
        bundle: the bundle of the model that was asked for, where the request got that far.
    """

    reason: Reason
    message: str
    bundle: ActiveBundle | None = None

    @property
    def text(self) -> str:
        """The message, cut where it would be too long for trailers and logs: a client may choose what is in it."""
        return self.message if len(self.message) <= MAX_TEXT_CHARACTERS else f"{self.message[:MAX_TEXT_CHARACTERS]}..."


class RequestOutcome(enum.StrEnum):
    """What became of a request; a metric label."""

    OUTSIDE = "outside"  # no row in any domain: the upstream's bytes
    UNTOUCHED = "untouched"  # all rows satisfied their properties: the upstream's bytes
    CORRECTED = "corrected"
    UNJUDGED = "unjudged"  # only shadow properties watched, and could not read it: the upstream's bytes
    BYPASSED = "bypassed"  # nobody could judge, and the model's failure mode is open: the upstream's bytes
    UNGUARDED = "unguarded"  # no bundle guards the model, and such models pass: the upstream's bytes
    FALLBACK = "fallback"  # the upstream failed: the properties' fallbacks
    REFUSED = "refused"  # by a check of the request, or by a gate
    FAILED = "failed"  # the upstream's fault, or ours
    CANCELLED = "cancelled"  # the client gave up, or its deadline passed


class RowOutcome(enum.StrEnum):
    """What became of a row; a metric label."""

    OUTSIDE = "outside"
    UNTOUCHED = "untouched"
    CORRECTED = "corrected"
    UNJUDGED = "unjudged"
    BYPASSED = "bypassed"
    FALLBACK = "fallback"
    REFUSED = "refused"  # this row, or another one of its request


UNPROVED: Final = "unproved"
"""What is proved of answers of a model version that the bundle does not name."""

REGIONS: Final = (*(label.name.lower() for label in (Label.SILENT, Label.VIOLATING, Label.OPEN)), UNPROVED)
"""What may be proved where a row lies; a metric label."""


def _region(label: Label, is_proved: bool) -> str:
    return label.name.lower() if is_proved else UNPROVED


@dataclasses.dataclass(frozen=True)
class Violation:
    """A gate fired on a row, enforced or in shadow; ``is_proved``: the label speaks of the version that answered."""

    property_id: str
    mode: Mode
    label: Label
    is_proved: bool = True

    @property
    def region(self) -> str:
        """What is proved there, one of ``REGIONS``."""
        return _region(self.label, self.is_proved)

    @property
    def is_breach(self) -> bool:
        """The coverage map calls the place silent: the upstream computes another function than was verified."""
        return self.is_proved and self.label is Label.SILENT


@dataclasses.dataclass(frozen=True)
class RowEvent:
    """A row on which at least one gate fired.

    Args:
        row: its index in the batch.
        outcome: CORRECTED, REFUSED, or UNTOUCHED where only shadow gates fired.
        action: what was done; None where nothing was.
        reason: why it was refused; None where it was not.
        largest_change: over the row's output values; 0 where nothing changed.
        violations: at least one.
    """

    row: int
    outcome: RowOutcome
    action: Action | None
    reason: Reason | None
    largest_change: float
    violations: tuple[Violation, ...]


@dataclasses.dataclass(frozen=True)
class DomainRows:
    """How many rows lay in a property's domain, by what is proved there; ``is_proved`` as for :class:`Violation`."""

    property_id: str
    label: Label
    count: int
    is_proved: bool = True

    @property
    def region(self) -> str:
        """What is proved there, one of ``REGIONS``."""
        return _region(self.label, self.is_proved)


@dataclasses.dataclass(frozen=True)
class Events:
    """All that was seen in one answer.

    Args:
        rows: how many rows had which outcome.
        fired: in the order of rows.
        in_domain: for every property that is not off.
        unjudged: why the answer could not be judged, where only shadow properties watch it, and it went to the client.
        bypassed: why it could not be, where it went to the client because the failure mode is open.
        fell_back: what the upstream failed in, where the client got the properties' fallbacks.
        unproved_version: of the model that answered, where the bundle names versions and not this one.
    """

    rows: tuple[tuple[RowOutcome, int], ...]
    fired: tuple[RowEvent, ...] = ()
    in_domain: tuple[DomainRows, ...] = ()
    unjudged: Refusal | None = None
    bypassed: Refusal | None = None
    fell_back: Refusal | None = None
    unproved_version: str | None = None


def as_unproved(events: Events, version: str) -> Events:
    """The events of an answer of a version that the bundle does not name: what is proved is not proved of it."""
    fired = tuple(
        dataclasses.replace(
            row, violations=tuple(dataclasses.replace(each, is_proved=False) for each in row.violations)
        )
        for row in events.fired
    )
    in_domain = tuple(dataclasses.replace(rows, is_proved=False) for rows in events.in_domain)
    return dataclasses.replace(events, fired=fired, in_domain=in_domain, unproved_version=version)
