"""Keeps the active bundles up to date with their sources: read, activate, let succeed, swap one reference, report.

A look runs in a thread of its own, never on the event loop; who judges requests or shows the state reads one
immutable value each. Whatever fails here leaves the active bundles as they are. The clock is read here, once a look.
"""

import dataclasses
import datetime
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, assert_never

from sidecar.bundle.keys import read_trust
from sidecar.config import BundleSource, HttpSource, OciSource, ServeSettings, Source
from sidecar.errors import BundleError, CommandError, InputError, Reason
from sidecar.proxy.active_bundle import ActiveBundle, Registry, activate, active_models, in_force
from sidecar.proxy.audit import record_mode
from sidecar.proxy.bundle_http import HttpReader
from sidecar.proxy.bundle_oci import OciReader
from sidecar.proxy.bundle_places import FileReader, Place, Reader, is_folder, is_there, places_of
from sidecar.proxy.last_good import LastGood, is_of_place, read_kept
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.succession import Failure, Guard, Offer, succeed
from sidecar.remote.credentials import Login, login_for

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationState:
    """What is active and what is not, at one moment.

    Args:
        guards: the active bundles by served model.
        failures: what is not active, since when.
        last_good_error: why the last good bundles could not be kept; None where they could.
        looked_at: when the sources were last looked at.
    """

    guards: Mapping[str, Guard]
    failures: Mapping[Failure, datetime.datetime]
    last_good_error: str | None
    looked_at: datetime.datetime | None


@dataclasses.dataclass(eq=False)
class _Watched:
    """A place as we know it.

    Args:
        reader: reads it.
        source: the name of the source that it belongs to.
        location: what is read.
        digest: SHA-256 of the content that was last read.
        judged: what became of that content, in the modes that the bundle itself names.
        to_keep: that content, until it is kept as the last good.
    """

    reader: Reader
    source: str
    location: str
    digest: bytes = b""
    judged: ActiveBundle | BundleError | None = None
    to_keep: bytes | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept:
    """A last good bundle at the start.

    Args:
        guard: as which it could go on.
        is_taken_out: whether its source has other files and not that one: then its model is to be unguarded, unless
            another file offers a bundle for it, which must not have a lower revision then.
    """

    guard: Guard
    is_taken_out: bool


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
        self._trust = read_trust(settings.trusted_keys, settings.accepts_unsigned)
        self._last_good = None if settings.state_folder is None else LastGood(settings.state_folder)
        self._watched: dict[str, _Watched] = {}
        self.state = ActivationState(MappingProxyType({}), MappingProxyType({}), None, None)

    def start(self) -> None:
        """Look for the first time, with the last good bundles to fall back on.

        Raises:
            InputError: a file that the settings name gives no bundle, and none was kept; two of them guard one model.
        """
        now = self._clock()
        kept = [each for source in self._settings.bundles for each in self._kept(source, now)]
        latest = {
            each.guard.bundle.model_name: each for each in sorted(kept, key=lambda each: each.guard.bundle.revision)
        }
        offered_only = frozenset(model for model, each in latest.items() if each.is_taken_out)
        self._look({model: each.guard for model, each in latest.items()}, offered_only)
        named = {source.name for source in self._settings.bundles if _is_file(source)}
        for failure in self.state.failures:
            if failure.place in named & set(self._registry.current.awaited):
                raise InputError(f"gate bundle {failure.place}: {failure.reason}: {failure.message}")

    def adopt(self, settings: ServeSettings) -> None:
        """Follow other settings: at once for what guards already, from the next look on for what does not, which is
        not waited for either.
        """
        self._settings = settings
        guards, _ = self._settled(self.state.guards)
        self._publish(guards)
        before, self.state = self.state, dataclasses.replace(self.state, guards=MappingProxyType(guards))
        self._report(before, self.state)

    def look(self, again: bool = False) -> bool:
        """Look at the sources, and activate what is new; ``again`` reads also what seems unchanged.

        Returns:
            Whether other bundles are active than before.
        """
        if again:
            for watched in self._watched.values():
                watched.reader.forget()
        before = self._registry.current
        self._look(self.state.guards)
        return self._registry.current is not before

    def _look(self, guards: Mapping[str, Guard], offered_only: Collection[str] = ()) -> None:
        """``offered_only``: the models whose guards count only where bundles for them are offered."""
        now = self._clock()
        offers, failures = self._read()
        gone = {*offered_only} - {offer.bundle.model_name for offer in offers}
        guards = {model: guard for model, guard in guards.items() if model not in gone}
        guards, unsettled = self._settled(guards)
        after = succeed(guards, offers, now, self._settings.allow_rollback)
        failures += after.failures
        failures += [failure for model, failure in unsettled.items() if after.guards[model] is guards[model]]
        failures += _gone(after.guards.values(), offers, failures)
        self._publish(after.guards)
        error = self._keep(after.guards.values())
        before, since = self.state, {failure: self.state.failures.get(failure, now) for failure in failures}
        self.state = ActivationState(MappingProxyType(dict(after.guards)), MappingProxyType(since), error, now)
        self._report(before, self.state)
        self._metrics.bundles_looked_at(len({failure.place for failure in failures}))

    # -- reading -------------------------------------------------------------------------------------------

    def _read(self) -> tuple[list[Offer], list[Failure]]:
        offers, failures, seen = list[Offer](), list[Failure](), set[str]()
        for source in self._settings.bundles:
            try:
                for place in places_of(source):
                    seen.add(place.name)
                    self._read_place(place, offers, failures)
            except BundleError as error:
                failures.append(Failure(source.name, error.reason, error.message))
        self._watched = {name: watched for name, watched in self._watched.items() if name in seen}
        return offers, failures

    def _read_place(self, place: Place, offers: list[Offer], failures: list[Failure]) -> None:
        if place.name not in self._watched or self._watched[place.name].location != place.location:
            self._watched[place.name] = _Watched(self._reader(place), place.source.name, place.location)
        found = self._examine(place, self._watched[place.name])
        try:
            if isinstance(found, BundleError):
                raise found
            offers.append(Offer(self._in_force(found, place.source), place.name, place.source.name))
        except BundleError as error:
            failures.append(Failure(place.name, error.reason, error.message))

    def _in_force(self, bundle: ActiveBundle, source: Source) -> ActiveBundle:
        """A bundle as the settings of this moment want it."""
        return in_force(bundle, source.mode or self._settings.mode, dict(source.modes), self._settings.outside)

    def _settled(self, guards: Mapping[str, Guard]) -> tuple[dict[str, Guard], dict[str, Failure]]:
        """What guards already, as the settings of this moment want it, whether or not its source still gives it; and
        by model why not. What comes from no source of theirs any more stays as it is.
        """
        sources = {source.name: source for source in self._settings.bundles}
        settled, failures = dict(guards), dict[str, Failure]()
        for model, guard in guards.items():
            source = sources.get(guard.source)
            try:
                bundle = guard.bundle if source is None else self._in_force(guard.bundle, source)
            except BundleError as error:
                failures[model] = Failure(guard.place, error.reason, error.message)
            else:
                settled[model] = guard if bundle is guard.bundle else dataclasses.replace(guard, bundle=bundle)
        return settled, failures

    def _reader(self, place: Place) -> Reader:
        source, timeout_seconds = place.source, self._settings.bundle_timeout_seconds
        match source:
            case HttpSource():
                return HttpReader(source.url, timeout_seconds)
            case OciSource():
                return OciReader(source.reference, lambda: self._login(source.reference.registry), timeout_seconds)
            case BundleSource():
                return FileReader(place.path or source.path)
            case _:
                assert_never(source)

    def _login(self, registry: str) -> Login | None:
        path = self._settings.registry_credentials
        return None if path is None else login_for(registry, path)

    def _examine(self, place: Place, watched: _Watched) -> ActiveBundle | BundleError:
        try:
            content = watched.reader.read()
        except BundleError as error:
            return error
        except Exception as error:  # a defect of ours must not keep us from the other places
            _LOGGER.exception("reading a bundle of %s failed", place.source.name)
            return BundleError(Reason.INTERNAL, f"reading it failed: {type(error).__name__}; the log has the trace")
        if content is not None and (digest := hashlib.sha256(content).digest()) != watched.digest:
            watched.judged = self._activate(content, place.source)
            watched.digest = digest
            accepted = isinstance(watched.judged, ActiveBundle)
            watched.to_keep = content if accepted and self._last_good is not None else None
        assert watched.judged is not None  # noqa: S101 (a reader gives content first)
        return watched.judged

    def _activate(self, content: bytes, source: Source) -> ActiveBundle | BundleError:
        try:
            return activate(content, source.model_name, trust=self._trust)
        except BundleError as error:
            return error
        except Exception as error:  # a defect of ours must not end the watching
            _LOGGER.exception("activating a bundle of %s failed", source.name)
            return BundleError(Reason.INTERNAL, f"activating it failed: {error!r}; the log has the trace")

    def _kept(self, source: Source, now: datetime.datetime) -> Iterator[_Kept]:
        """The last good bundles of a source."""
        if self._last_good is None:
            return
        try:
            places = [place.name for place in places_of(source) if is_there(place)]
        except BundleError:
            places = []
        for path in self._last_good.of_source(source.name):
            bundle = self._read_kept(path, source)
            if bundle is not None:
                taken_out = bool(places) and not any(is_of_place(path, place) for place in places)
                yield _Kept(Guard(bundle, source.name, source.name, now, is_last_good=True), taken_out)

    def _read_kept(self, path: Path, source: Source) -> ActiveBundle | None:
        try:
            content = read_kept(path)
        except OSError as error:
            _LOGGER.warning("a last good bundle of %s cannot be read: %s: %s", source.name, path, error)
            return None
        bundle = None if content is None else self._activate(content, source)
        if isinstance(bundle, BundleError):
            _LOGGER.warning("a last good bundle of %s is of no use: %s", source.name, bundle.message)
            return None
        return bundle

    # -- making it so --------------------------------------------------------------------------------------

    def _publish(self, guards: Mapping[str, Guard]) -> None:
        given = {guard.source for guard in guards.values()}
        names = [source.name for source in self._settings.bundles]
        awaited = tuple(name for name in names if name in self._awaitable and name not in given)
        models = active_models((guard.bundle for guard in guards.values()), self._settings.limit_rows)
        models = dataclasses.replace(models, awaited=awaited)
        before = self._registry.current
        if models == before:
            return
        for model, bundle in models.bundles.items():  # the series exist before the first request is counted
            self._announce(bundle, before.bundles.get(model))
        self._registry.current = models

    def _announce(self, bundle: ActiveBundle, replaced: ActiveBundle | None) -> None:
        if replaced is None or replaced.digest != bundle.digest:
            self._metrics.bundle_activated(bundle, replaced)
        if replaced is not bundle:
            self._metrics.bundle_in_force(bundle, replaced)

    def _keep(self, guards: Iterable[Guard]) -> str | None:
        """Keep what became active as the last good; a failure is told, and tried again at the next look."""
        told = None
        active = {(guard.place, guard.bundle.digest, guard.bundle.signed) for guard in guards if not guard.is_last_good}
        for place, watched in self._watched.items():
            bundle, content = watched.judged, watched.to_keep
            if content is None or self._last_good is None or not isinstance(bundle, ActiveBundle):
                continue
            if (place, bundle.digest, bundle.signed) in active:
                try:
                    self._last_good.keep(watched.source, place, bundle.model_name, content)
                    watched.to_keep = None
                except (CommandError, OSError) as error:
                    told = f"the last good bundle is not kept: {error}"
        return told

    def _report(self, before: ActivationState, after: ActivationState) -> None:
        """Log and count what is new: once for each change, not for each look."""
        for model, guard in after.guards.items():
            known = before.guards.get(model)
            if known is None or _standing(known) != _standing(guard):
                _log_active(guard)
            if known is not None:
                _report_modes(known.bundle, guard.bundle)
        for failure in after.failures.keys() - before.failures.keys():
            self._metrics.bundle_failed(failure.reason)
            _LOGGER.warning("bundle at %s is not active: %s: %s", failure.place, failure.reason, failure.message)
        places = {failure.place for failure in after.failures}
        for place in {failure.place for failure in before.failures} - places:
            _LOGGER.info("bundle at %s: what was reported is over", place)
        if after.last_good_error is not None and after.last_good_error != before.last_good_error:
            _LOGGER.warning("%s", after.last_good_error)


def _is_file(source: Source) -> bool:
    return isinstance(source, BundleSource) and not is_folder(source)


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
        )
        for guard in guards
        if guard.place not in failed and guard.bundle.model_name not in offered
    ]


def _standing(guard: Guard) -> tuple[object, ...]:
    """What is told of a guard when it is new."""
    return guard.bundle.digest, guard.bundle.signed, guard.is_last_good


def _report_modes(before: ActiveBundle, after: ActiveBundle) -> None:
    """Log and record the properties that are in another mode than before, and another rule for rows outside."""
    if before.outside is not after.outside:
        _LOGGER.info("rows outside for %s: %s -> %s", after.model_name, before.outside, after.outside)
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
