"""Keeps the active bundles up to date with their sources: read, activate, let succeed, swap one reference, report.

A look runs in a thread of its own, never on the event loop; who judges requests or shows the state reads one
immutable value each. Whatever fails here leaves the active bundles as they are.
"""

import dataclasses
import datetime
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from sidecar.bundle.keys import read_trust
from sidecar.config import BundleSource, HttpSource, ServeSettings
from sidecar.errors import BundleError, InputError, OperationError, Reason
from sidecar.proxy.active_bundle import ActiveBundle, Registry, activate, active_models
from sidecar.proxy.bundle_http import HttpReader
from sidecar.proxy.bundle_places import FileReader, Place, Reader, is_folder, places_of, source_name
from sidecar.proxy.last_good import LastGood, read_kept
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.succession import Failure, Guard, Offer, succeed

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_Source: TypeAlias = BundleSource | HttpSource


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
        digest: SHA-256 of the content that was last read.
        judged: what became of that content.
        to_keep: that content, until it is kept as the last good.
    """

    reader: Reader
    digest: bytes = b""
    judged: ActiveBundle | BundleError | None = None
    to_keep: bytes | None = None


class Activation:
    """The bundles of one sidecar. All methods but ``state`` belong to one thread at a time.

    Raises:
        InputError: a file of a trusted key cannot be read, or holds none.
    """

    def __init__(self, settings: ServeSettings, registry: Registry, metrics: Metrics) -> None:
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._trust = read_trust(settings.trusted_keys, settings.accepts_unsigned)
        self._last_good = None if settings.state_folder is None else LastGood(settings.state_folder)
        self._watched: dict[Place, _Watched] = {}
        self.state = ActivationState(MappingProxyType({}), MappingProxyType({}), None, None)

    def start(self) -> None:
        """Look for the first time, with the last good bundles to fall back on.

        Raises:
            InputError: a file that the settings name gives no bundle, and none was kept; two of them guard one model.
        """
        kept = [bundle for source in self._settings.bundles for bundle in self._kept(source)]
        self._look({guard.bundle.model_name: guard for guard in sorted(kept, key=lambda each: each.bundle.revision)})
        named = {source_name(source) for source in self._settings.bundles if _is_file(source)}
        for failure in self.state.failures:
            if failure.place in named & set(self._registry.current.awaited):
                raise InputError(f"gate bundle {failure.place}: {failure.reason}: {failure.message}")

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

    def _look(self, guards: Mapping[str, Guard]) -> None:
        now = datetime.datetime.now(datetime.UTC)
        offers, failures = self._read()
        after = succeed(guards, offers, now, self._settings.allow_rollback)
        failures += after.failures
        failures += _gone(after.guards.values(), offers, failures)
        self._publish(after.guards)
        error = self._keep(after.guards.values())
        before, since = self.state, {failure: self.state.failures.get(failure, now) for failure in failures}
        self.state = ActivationState(MappingProxyType(dict(after.guards)), MappingProxyType(since), error, now)
        self._report(before, self.state)

    # -- reading -------------------------------------------------------------------------------------------

    def _read(self) -> tuple[list[Offer], list[Failure]]:
        offers, failures, seen = list[Offer](), list[Failure](), set[Place]()
        for source in self._settings.bundles:
            try:
                for place in places_of(source):
                    seen.add(place)
                    self._read_place(place, offers, failures)
            except BundleError as error:
                failures.append(Failure(source_name(source), error.reason, error.message))
        self._watched = {place: watched for place, watched in self._watched.items() if place in seen}
        return offers, failures

    def _read_place(self, place: Place, offers: list[Offer], failures: list[Failure]) -> None:
        if place not in self._watched:
            self._watched[place] = _Watched(self._reader(place))
        found = self._examine(place, self._watched[place])
        if isinstance(found, BundleError):
            failures.append(Failure(place.name, found.reason, found.message))
        else:
            offers.append(Offer(found, place.name, source_name(place.source)))

    def _reader(self, place: Place) -> Reader:
        if isinstance(place.source, HttpSource):
            return HttpReader(place.source.url, self._settings.bundle_timeout_seconds)
        return FileReader(place.path or place.source.path)

    def _examine(self, place: Place, watched: _Watched) -> ActiveBundle | BundleError:
        try:
            content = watched.reader.read()
        except BundleError as error:
            return error
        if content is not None and (digest := hashlib.sha256(content).digest()) != watched.digest:
            watched.judged = self._activate(content, place.source)
            watched.digest = digest
            accepted = isinstance(watched.judged, ActiveBundle)
            watched.to_keep = content if accepted and self._last_good is not None else None
        assert watched.judged is not None  # noqa: S101 (a reader gives content first)
        return watched.judged

    def _activate(self, content: bytes, source: _Source) -> ActiveBundle | BundleError:
        try:
            mode, policy = source.mode or self._settings.mode, self._settings.policy
            return activate(
                content, source.model_name, mode, policy=policy, modes=dict(source.modes), trust=self._trust
            )
        except BundleError as error:
            return error
        except Exception as error:  # a defect of ours must not end the watching
            _LOGGER.exception("activating a bundle of %s failed", source_name(source))
            return BundleError(Reason.INTERNAL, f"activating it failed: {error!r}; the log has the trace")

    def _kept(self, source: _Source) -> Iterator[Guard]:
        """The last good bundles of a source: of the files that it has, or of all that it had where it has none."""
        if self._last_good is None:
            return
        name, kept = source_name(source), self._last_good
        try:
            places = [place for place in places_of(source) if place.path is not None and place.path.exists()]
        except BundleError:
            places = []
        paths = [kept.of_place(name, place.name) for place in places] or kept.of_source(name)
        now = datetime.datetime.now(datetime.UTC)
        try:
            for content in read_kept(paths):
                bundle = self._activate(content, source)
                if isinstance(bundle, BundleError):
                    _LOGGER.warning("a last good bundle of %s is of no use: %s", name, bundle.message)
                else:
                    yield Guard(bundle, name, name, now, is_last_good=True)
        except OSError as error:
            _LOGGER.warning("the last good bundles of %s cannot be read: %s", name, error)

    # -- making it so --------------------------------------------------------------------------------------

    def _publish(self, guards: Mapping[str, Guard]) -> None:
        before = {model: guard.bundle for model, guard in self.state.guards.items()}
        after = {model: guard.bundle for model, guard in guards.items()}
        given = {guard.source for guard in guards.values()}
        awaited = tuple(name for name in map(source_name, self._settings.bundles) if name not in given)
        if after == before and awaited == self._registry.current.awaited:
            return
        for model, bundle in after.items():
            if bundle is not before.get(model):  # its series exist before its first request is counted
                self._metrics.bundle_activated(bundle, before.get(model))
        models = active_models(after.values(), self._settings.limit_rows)
        self._registry.current = dataclasses.replace(models, awaited=awaited)

    def _keep(self, guards: Iterable[Guard]) -> str | None:
        """Keep what became active as the last good; a failure is tried again at the next look."""
        if self._last_good is None:
            return None
        active = {(guard.source, guard.place, guard.bundle.digest) for guard in guards if not guard.is_last_good}
        for place, watched in self._watched.items():
            if watched.to_keep is None or not isinstance(watched.judged, ActiveBundle):
                continue
            source = source_name(place.source)
            if (source, place.name, watched.judged.digest) in active:
                try:
                    self._last_good.keep(source, place.name, watched.to_keep)
                except OperationError as error:
                    return f"the last good bundle is not kept: {error}"
                watched.to_keep = None
        return None

    def _report(self, before: ActivationState, after: ActivationState) -> None:
        """Log and count what is new: once for each change, not for each look."""
        for model, guard in after.guards.items():
            known = before.guards.get(model)
            if known is None or known.bundle is not guard.bundle or known.is_last_good != guard.is_last_good:
                _log_active(guard)
        for failure in after.failures.keys() - before.failures.keys():
            self._metrics.bundle_failed(failure.reason)
            _LOGGER.warning("bundle at %s is not active: %s: %s", failure.place, failure.reason, failure.message)
        places = {failure.place for failure in after.failures}
        for place in {failure.place for failure in before.failures} - places:
            _LOGGER.info("bundle at %s: what was reported is over", place)
        self._metrics.bundles_failing(len(places))
        self._metrics.last_good_failing(after.last_good_error is not None)
        if after.last_good_error is not None and after.last_good_error != before.last_good_error:
            _LOGGER.warning("%s", after.last_good_error)


def _is_file(source: _Source) -> bool:
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


def _log_active(guard: Guard) -> None:
    bundle = guard.bundle
    words = "the last good one, kept for " if guard.is_last_good else ""
    where = f"{words}{guard.place}"
    _LOGGER.info(
        "bundle %s revision %d active for %s (%s)", bundle.digest[:12], bundle.revision, bundle.model_name, where
    )
