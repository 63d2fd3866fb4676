"""Which bundles guard after a look at what is offered: the whole rule, as a pure function.

A model that is guarded stays guarded, whatever happens to the place that its bundle came from or to that one's
signature. A bundle takes over where it is the only one offered for its model, its signature has not ended, and its
revision is not lower than the active one's.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence

from sidecar.bundle.expiry import moment_text
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
        if _has_ended(offer.bundle, now):
            failures.append(_ended(offer.place, offer.bundle))
        else:
            by_model.setdefault(offer.bundle.model_name, []).append(offer)
    for model, rivals in by_model.items():
        active = guards.get(model)
        if len(rivals) > 1:
            failures += _conflict(model, rivals, active)
        elif active is not None and not allow_rollback and rivals[0].bundle.revision < active.bundle.revision:
            failures.append(_rollback(rivals[0], active))
        else:
            after[model] = _successor(rivals[0], active, now)
    failures += [_ended(guard.place, guard.bundle) for guard in after.values() if _has_ended(guard.bundle, now)]
    return Succession(after, tuple(failures))


def _successor(offer: Offer, active: Guard | None, now: datetime.datetime) -> Guard:
    if active is None or active.bundle.digest != offer.bundle.digest:
        return Guard(offer.bundle, offer.place, offer.source, now)
    same = _terms(active.bundle) == _terms(offer.bundle)
    if same and active.place == offer.place and not active.is_last_good:
        return active
    bundle = active.bundle if same else offer.bundle
    return dataclasses.replace(active, bundle=bundle, place=offer.place, source=offer.source, is_last_good=False)


def _terms(bundle: ActiveBundle) -> tuple[object, ...]:
    """What may differ where the digest does not."""
    return bundle.modes, bundle.policy, bundle.signed


def _has_ended(bundle: ActiveBundle, now: datetime.datetime) -> bool:
    return bundle.signed is not None and bundle.signed.has_ended(now)


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


def _ended(place: str, bundle: ActiveBundle) -> Failure:
    end = "" if bundle.signed is None or bundle.signed.end is None else moment_text(bundle.signed.end)
    return Failure(
        place,
        Reason.BUNDLE_EXPIRED,
        f"its signature ended at {end}; where it guards model {bundle.model_name!r} already it goes on doing so, and "
        "it is activated nowhere else; sign it again with `sidecar sign --expires`",
        bundle.model_name,
    )


def _rollback(offer: Offer, active: Guard) -> Failure:
    return Failure(
        offer.place,
        Reason.BUNDLE_ROLLBACK,
        f"its revision {offer.bundle.revision} is lower than the active one's, {active.bundle.revision}, for model "
        f"{offer.bundle.model_name!r}; compile it with a higher --revision, or allow rollback",
        offer.bundle.model_name,
    )


def may_guard_more(failures: Iterable[Failure], guards: Mapping[str, Guard]) -> tuple[str, ...]:
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
