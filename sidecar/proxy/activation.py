"""Keeps the active bundles up to date with their sources: read, activate, let succeed, swap one reference, report.

A look runs in a thread of its own, never on the event loop; who judges requests or shows the state reads one
immutable value each. Whatever fails here leaves the active bundles as they are. The clock is read here, once a look.
"""

import dataclasses
import datetime
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from sidecar.bundle.keys import read_trust
from sidecar.config import BundleSource, ModelPolicy, ServeSettings, Source
from sidecar.errors import BundleError, InputError, Reason
from sidecar.proxy.active_bundle import ActiveBundle, Registry, active_models, under
from sidecar.proxy.audit import record_mode
from sidecar.proxy.bundle_places import is_folder
from sidecar.proxy.last_good import LastGood
from sidecar.proxy.matching import Prober, not_probed, require_matches
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.offers import Offers
from sidecar.proxy.succession import Failure, Guard, Offer, may_guard_more, succeed

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationState:
    """What is active and what is not, at one moment.

    Args:
        guards: the active bundles by served model.
        failures: what is not active, since when.
        last_good_error: why the last good bundles could not be kept; None where they could.
        looked_at: when the sources were last looked at.
        unused_models: that settings name, and no active bundle guards.
    """

    guards: Mapping[str, Guard]
    failures: Mapping[Failure, datetime.datetime]
    last_good_error: str | None
    looked_at: datetime.datetime | None
    unused_models: tuple[str, ...] = ()


class Activation:
    """The bundles of one sidecar. All methods but ``state`` belong to one thread at a time.

    Args:
        settings: of them, :meth:`adopt` may change the bundles' sources, modes and everything that a bundle is put
            in force with; the others hold to the end.
        registry: where the active bundles are put.
        metrics: to count in.
        clock: the time, UTC.

    Raises:
        InputError: a file of a trusted key cannot be read, or holds none.
    """

    def __init__(
        self,
        settings: ServeSettings,
        registry: Registry,
        metrics: Metrics,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._awaitable: frozenset[str] = frozenset(source.name for source in settings.bundles)
        self._registry = registry
        self._metrics = metrics
        self._offers = Offers(settings, read_trust(settings.trusted_keys, settings.accepts_unsigned))
        self._last_good = None if settings.state_folder is None else LastGood(settings.state_folder)
        self.state = ActivationState(MappingProxyType({}), MappingProxyType({}), None, None)

    def start(self) -> None:
        """Look for the first time, with the last good bundles to fall back on.

        Raises:
            InputError: a file that the settings name gives no bundle, and none was kept; two of them guard one model.
        """
        kept = [] if self._last_good is None else self._last_good.stand_ins(self._offers, self._clock())
        latest = {each.guard.bundle.model_name: each for each in sorted(kept, key=lambda each: each.revision)}
        offered_only = frozenset(model for model, each in latest.items() if each.is_taken_out)
        self._look({model: each.guard for model, each in latest.items()}, not_probed, offered_only)
        named = {source.name for source in self._settings.bundles if _is_file(source)}
        for failure in self.state.failures:
            if failure.place in named & set(self._registry.current.awaited):
                raise InputError(f"gate bundle {failure.place}: {failure.reason}: {failure.message}")

    def adopt(self, settings: ServeSettings) -> None:
        """Follow other settings: at once for what guards already, from the next look on for what does not, which is
        not waited for either.
        """
        self._settings = self._offers.settings = settings
        guards, _ = self._settled(self.state.guards)
        self._publish(guards, may_guard_more(self.state.failures, guards))
        before = self.state
        self.state = dataclasses.replace(
            before, guards=MappingProxyType(guards), unused_models=_unused_models(settings, guards)
        )
        self._report(before, self.state)

    def look(self, again: bool = False, probe: Prober = not_probed) -> bool:
        """Look at the sources, and activate what is new; ``again`` reads also what seems unchanged.

        Returns:
            Whether other bundles are active than before.
        """
        if again:
            self._offers.forget()
        before = self._registry.current
        self._look(self.state.guards, probe)
        after = self._registry.current
        return (after.bundles, after.awaited) != (before.bundles, before.awaited)

    def _look(self, guards: Mapping[str, Guard], probe: Prober, offered_only: Collection[str] = ()) -> None:
        """``offered_only``: the models whose guards count only where bundles for them are offered."""
        now = self._clock()
        offers, failures = self._offers.look()
        gone = {*offered_only} - {offer.bundle.model_name for offer in offers}
        guards = {model: guard for model, guard in guards.items() if model not in gone}
        guards, unsettled = self._settled(guards)
        after = succeed(guards, offers, now, self._settings.allow_rollback)
        after = require_matches(guards, after, probe)
        failures += after.failures
        failures += [failure for model, failure in unsettled.items() if after.guards[model] is guards[model]]
        failures += _gone(after.guards.values(), offers, failures)
        self._publish(after.guards, may_guard_more(failures, after.guards))
        error = None if self._last_good is None else self._last_good.keep_active(self._offers, after.guards.values())
        before, since = self.state, {failure: self.state.failures.get(failure, now) for failure in failures}
        unused = _unused_models(self._settings, after.guards)
        self.state = ActivationState(MappingProxyType(dict(after.guards)), MappingProxyType(since), error, now, unused)
        self._report(before, self.state)
        self._metrics.in_force.bundles_looked_at(len({failure.place for failure in failures}))

    def _settled(self, guards: Mapping[str, Guard]) -> tuple[dict[str, Guard], dict[str, Failure]]:
        """What guards already, as the settings of this moment want it, whether or not its source still gives it; and
        by model why not. What comes from no source of theirs any more stays in its modes.
        """
        sources = {source.name: source for source in self._settings.bundles}
        settled, failures = dict(guards), dict[str, Failure]()
        for model, guard in guards.items():
            source, bundle = sources.get(guard.source), guard.bundle
            try:
                bundle = under(bundle, self._settings.policy(model))
                bundle = bundle if source is None else self._offers.in_force(bundle, source)
            except BundleError as error:
                failures[model] = Failure(guard.place, error.reason, error.message, model)
            if bundle is not guard.bundle:
                settled[model] = dataclasses.replace(guard, bundle=bundle)
        return settled, failures

    def _publish(self, guards: Mapping[str, Guard], failing: tuple[str, ...]) -> None:
        given = {guard.source for guard in guards.values()}
        names = [source.name for source in self._settings.bundles]
        before = self._registry.current
        models = dataclasses.replace(
            active_models((guard.bundle for guard in guards.values()), self._settings.limit_rows),
            awaited=tuple(name for name in names if name in self._awaitable and name not in given),
            failing=failing,
            unguarded=self._settings.unguarded_models,
            open_models=self._settings.open_models,
            matched=before.matched,
        )
        if models == before:
            return
        for model, bundle in models.bundles.items():  # the series exist before the first request is counted
            self._announce(bundle, before.bundles.get(model))
        self._registry.activate(models)

    def _announce(self, bundle: ActiveBundle, replaced: ActiveBundle | None) -> None:
        if replaced is None or replaced.digest != bundle.digest:
            self._metrics.bundle_activated(bundle, replaced)
        if replaced is not bundle:
            self._metrics.bundle_in_force(bundle, replaced)

    def _report(self, before: ActivationState, after: ActivationState) -> None:
        """Log and count what is new: once for each change, not for each look."""
        for model, guard in after.guards.items():
            known = before.guards.get(model)
            if known is None or _standing(known) != _standing(guard):
                _log_active(guard)
            if known is not None:
                _report_modes(known.bundle, guard.bundle)
        for failure in after.failures.keys() - before.failures.keys():
            self._metrics.in_force.bundle_failed(failure.reason)
            _LOGGER.warning("bundle at %s is not active: %s: %s", failure.place, failure.reason, failure.message)
        places = {failure.place for failure in after.failures}
        for place in {failure.place for failure in before.failures} - places:
            _LOGGER.info("bundle at %s: what was reported is over", place)
        self._metrics.last_good_failing(after.last_good_error is not None)
        if after.last_good_error is not None and after.last_good_error != before.last_good_error:
            _LOGGER.warning("%s", after.last_good_error)


def _is_file(source: Source) -> bool:
    return isinstance(source, BundleSource) and not is_folder(source)


def _unused_models(settings: ServeSettings, guards: Mapping[str, Guard]) -> tuple[str, ...]:
    return tuple(model.name for model in settings.models if model.name not in guards)


def _gone(guards: Iterable[Guard], offers: Iterable[Offer], failures: Iterable[Failure]) -> list[Failure]:
    """Guards for whose models no bundle is offered any more, and nothing says why."""
    offered = {offer.bundle.model_name for offer in offers}
    failed = {failure.place for failure in failures}
    return [
        Failure(
            guard.place,
            Reason.BUNDLE_UNREADABLE,
            f"no bundle for model {guard.bundle.model_name!r} is there; the last one stays active; put one there, "
            "or restart the sidecar to leave the model unguarded",
            guard.bundle.model_name,
        )
        for guard in guards
        if guard.place not in failed and guard.bundle.model_name not in offered
    ]


def _standing(guard: Guard) -> tuple[object, ...]:
    """What is told of a guard when it is new."""
    return guard.bundle.digest, guard.bundle.signed, guard.is_last_good


def _report_modes(before: ActiveBundle, after: ActiveBundle) -> None:
    """Log the parts of the policy that differ from before; log and record the properties that are in another mode."""
    for part in dataclasses.fields(ModelPolicy):
        old, new = getattr(before.policy, part.name), getattr(after.policy, part.name)
        if old != new:
            _LOGGER.info("%s for %s: %s -> %s", part.name, after.model_name, old, new)
    known = dict(zip(before.property_ids, before.modes, strict=True))
    for name, mode in zip(after.property_ids, after.modes, strict=True):
        if known.get(name, mode) is not mode:
            _LOGGER.info("mode of property %s of %s: %s -> %s", name, after.model_name, known[name], mode)
            record_mode(after, name, known[name], mode)


def _log_active(guard: Guard) -> None:
    bundle = guard.bundle
    words = "the last good one, kept for " if guard.is_last_good else ""
    where = f"{words}{guard.place}"
    _LOGGER.info(
        "bundle %s revision %d active for %s (%s)", bundle.digest[:12], bundle.revision, bundle.model_name, where
    )
