"""Which bundles guard after a look at what is offered: the whole rule, as a pure function.

A model that is guarded stays guarded, whatever happens to the place that its bundle came from. A bundle takes
over where it is the only one offered for its model, and its revision is not lower than the active one's.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from sidecar.errors import Reason
from sidecar.proxy.active_bundle import ActiveBundle


@dataclasses.dataclass(frozen=True, eq=False)
class Offer:
    """An acceptable bundle, where it was found, and the setting that the place belongs to."""

    bundle: ActiveBundle
    place: str
    source: str


@dataclasses.dataclass(frozen=True, eq=False)
class Guard:
    """A bundle that judges requests.

    Args:
        bundle: itself.
        place: where it was found.
        source: the setting that the place belongs to.
        since: when it became active.
        is_last_good: whether it is the copy kept from before, for want of what the source should give.
    """

    bundle: ActiveBundle
    place: str
    source: str
    since: datetime.datetime
    is_last_good: bool = False


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why what stands at a place is not active; ``model_name`` is the model that it would guard, where known."""

    place: str
    reason: Reason
    message: str
    model_name: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Succession:
    """The guards by served model, and what was not taken."""

    guards: Mapping[str, Guard]
    failures: tuple[Failure, ...]


def succeed(
    guards: Mapping[str, Guard], offers: Sequence[Offer], now: datetime.datetime, allow_rollback: bool
) -> Succession:
    """The guards after these offers; a guard whose bundle is offered unchanged is the same value as before."""
    after, failures = dict(guards), list[Failure]()
    by_model: dict[str, list[Offer]] = {}
    for offer in offers:
        by_model.setdefault(offer.bundle.model_name, []).append(offer)
    for model, rivals in by_model.items():
        active = guards.get(model)
        if len(rivals) > 1:
            failures += _conflict(model, rivals, active)
        elif active is not None and not allow_rollback and rivals[0].bundle.revision < active.bundle.revision:
            failures.append(_rollback(rivals[0], active))
        else:
            after[model] = _successor(rivals[0], active, now)
    return Succession(after, tuple(failures))


def _successor(offer: Offer, active: Guard | None, now: datetime.datetime) -> Guard:
    if active is None or (active.bundle.digest, active.bundle.modes) != (offer.bundle.digest, offer.bundle.modes):
        return Guard(offer.bundle, offer.place, offer.source, now)
    if active.place == offer.place and not active.is_last_good:
        return active
    return dataclasses.replace(active, place=offer.place, source=offer.source, is_last_good=False)


def _conflict(model: str, rivals: Sequence[Offer], active: Guard | None) -> list[Failure]:
    """The one that is active already is no failure, as long as it is offered as it is."""
    places = ", ".join(f"{rival.place} ({rival.bundle.digest[:12]})" for rival in rivals)
    message = (
        f"{len(rivals)} bundles guard model {model!r}: {places}; take away all but one, compile their properties into "
        "one bundle, or name the models with --bundle NAME=FILE"
    )
    return [
        Failure(rival.place, Reason.BUNDLE_CONFLICT, message, model)
        for rival in rivals
        if active is None or (active.place, active.bundle.digest) != (rival.place, rival.bundle.digest)
    ]


def _rollback(offer: Offer, active: Guard) -> Failure:
    return Failure(
        offer.place,
        Reason.BUNDLE_ROLLBACK,
        f"its revision {offer.bundle.revision} is lower than the active one's, {active.bundle.revision}, for model "
        f"{offer.bundle.model_name!r}; compile it with a higher --revision, or allow rollback",
        offer.bundle.model_name,
    )


def may_guard_more(failures: Sequence[Failure], guards: Mapping[str, Guard]) -> tuple[str, ...]:
    """The places whose bundle is not active, and may be for a model that no bundle guards.

    What cannot be read at all, where a guard comes from, counts as no new bundle.
    """
    known = {name for guard in guards.values() for name in (guard.place, guard.source)}
    return tuple(
        failure.place
        for failure in failures
        if failure.model_name not in guards
        and not (failure.reason is Reason.BUNDLE_UNREADABLE and failure.place in known)
    )
