"""The last good bundles on disk: for a start when their source is gone or bad, and so that revisions do not go down
over a restart.

Of each source, one file for each place and one for each model, named by digests of the three names, so that no name
from outside becomes a path. What is read here passes acceptance and self-test again: the folder is no source of trust.
"""

import dataclasses
import datetime
import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sidecar.bundle.files import read_regular, write_file_atomically
from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.config import Source
from sidecar.errors import BundleError, CommandError
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.bundle_places import is_there, places_of
from sidecar.proxy.offers import Offers
from sidecar.proxy.succession import Guard

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_DIGITS: Final = 32


@dataclasses.dataclass(frozen=True, eq=False)
class StandIn:
    """A last good bundle at the start.

    Args:
        guard: as which it could go on.
        is_taken_out: whether its source has other files and not that one: then its model is to be unguarded, unless
            another file offers a bundle for it, which must not have a lower revision then.
    """

    guard: Guard
    is_taken_out: bool

    @property
    def revision(self) -> int:
        """The bundle's."""
        return self.guard.bundle.revision


class LastGood:
    """The files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stand_ins(self, offers: Offers, now: datetime.datetime) -> list[StandIn]:
        """All that is kept of the sources and can be activated."""
        return [each for source in offers.settings.bundles for each in self._of_source(source, offers, now)]

    def keep_active(self, offers: Offers, guards: Iterable[Guard]) -> str | None:
        """Keep what guards, as its place gave it. A failure is told, and tried again the next time."""
        told = None
        active = {(guard.place, guard.bundle.digest, guard.bundle.signed) for guard in guards if not guard.is_last_good}
        for watched, bundle, content in offers.unkept():
            if (watched.place.name, bundle.digest, bundle.signed) in active:
                try:
                    self._keep(watched.place.source.name, watched.place.name, bundle.model_name, content)
                    watched.to_keep = None
                except (CommandError, OSError) as error:
                    told = f"the last good bundle is not kept: {error}"
        return told

    def _keep(self, source: str, place: str, model: str, content: bytes) -> None:
        """Keep the bundle of a place instead of the one before, and of the one for its model from another place."""
        kept = self._folder / _name(source, place, model)
        write_file_atomically(kept, content)
        for path in (*self._folder.glob(_name(source, place, "*")), *self._folder.glob(_name(source, "*", model))):
            if path != kept:
                path.unlink(missing_ok=True)

    def _of_source(self, source: Source, offers: Offers, now: datetime.datetime) -> Iterator[StandIn]:
        try:
            places = [_short(place.name) for place in places_of(source) if is_there(place)]
        except BundleError:
            places = []
        for path in sorted(self._folder.glob(_name(source.name, "*", "*"))):
            bundle = _read(path, source, offers)
            if bundle is not None:
                guard = Guard(bundle, source.name, source.name, now, is_last_good=True)
                yield StandIn(guard, is_taken_out=bool(places) and path.name.split("-")[1] not in places)


def _read(path: Path, source: Source, offers: Offers) -> ActiveBundle | None:
    try:
        content, _ = read_regular(path, MAX_BUNDLE_BYTES)
    except OSError as error:
        _LOGGER.warning("a last good bundle of %s cannot be read: %s: %s", source.name, path, error)
        return None
    bundle = offers.activate(content, source)
    if isinstance(bundle, BundleError):
        _LOGGER.warning("a last good bundle of %s is of no use: %s", source.name, bundle.message)
        return None
    return bundle


def _name(*names: str) -> str:
    """Of the file for a source, a place and a model, where ``*`` stands for any."""
    return "-".join("*" if name == "*" else _short(name) for name in names) + ".gates"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
