"""What the sources offer: each place read where it may have changed, each content accepted and tried once.

One bad place, or a defect of ours while it is read, keeps us from no other. What is offered is as the settings of the
moment want it; which of it guards is :mod:`sidecar.proxy.succession`'s to say.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from typing import Final, assert_never

from sidecar.bundle.signature import Trust
from sidecar.config import BundleSource, HttpSource, OciSource, ServeSettings, Source
from sidecar.errors import BundleError, Reason
from sidecar.proxy.active_bundle import ActiveBundle, activate, in_force
from sidecar.proxy.bundle_http import HttpReader
from sidecar.proxy.bundle_oci import OciReader
from sidecar.proxy.bundle_places import FileReader, Place, Reader, places_of
from sidecar.proxy.succession import Failure, Offer
from sidecar.remote.credentials import Login, login_for

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(eq=False)
class Watched:
    """A place as we know it.

    Args:
        place: as it was last seen.
        reader: reads it.
        digest: SHA-256 of the content that was last read.
        judged: what became of that content, in the modes that the bundle itself names.
        to_keep: that content, where it can be activated, until it is kept as the last good.
    """

    place: Place
    reader: Reader
    digest: bytes = b""
    judged: ActiveBundle | BundleError | None = None
    to_keep: bytes | None = None


class Offers:
    """The places of all sources. Belongs to one thread at a time.

    Args:
        settings: may be replaced at any time.
        trust: whose bundles are accepted.
    """

    def __init__(self, settings: ServeSettings, trust: Trust) -> None:
        self.settings = settings
        self._trust = trust
        self._watched: dict[str, Watched] = {}

    def forget(self) -> None:
        """Take no place for unchanged at the next look."""
        for watched in self._watched.values():
            watched.reader.forget()

    def look(self) -> tuple[list[Offer], list[Failure]]:
        """What is offered at this moment, and why the rest is not."""
        offers, failures, seen = list[Offer](), list[Failure](), dict[str, Watched]()
        for source in self.settings.bundles:
            try:
                for place in places_of(source):
                    seen[place.name] = self._known(place)
                    self._offer(seen[place.name], offers, failures)
            except BundleError as error:
                failures.append(Failure(source.name, error.reason, error.message, source.model_name))
        self._watched = seen
        return offers, failures

    def unkept(self) -> Iterator[tuple[Watched, ActiveBundle, bytes]]:
        """Bundles that could be kept as the last good and are not yet."""
        for watched in self._watched.values():
            if isinstance(watched.judged, ActiveBundle) and watched.to_keep is not None:
                yield watched, watched.judged, watched.to_keep

    def in_force(self, bundle: ActiveBundle, source: Source) -> ActiveBundle:
        """A bundle as the settings want it. Raises BundleError: they name a property that it does not have."""
        policy = self.settings.policy(bundle.model_name)
        return in_force(bundle, source.mode or self.settings.mode, dict(source.modes), policy)

    def activate(self, content: bytes, source: Source) -> ActiveBundle | BundleError:
        """Accept, prepare and try a bundle, in the modes that it names itself."""
        try:
            return activate(content, source.model_name, trust=self._trust)
        except BundleError as error:
            return error
        except Exception as error:
            _LOGGER.exception("activating a bundle of %s failed", source.name)
            return BundleError(Reason.INTERNAL, f"activating it failed: {error!r}; the log has the trace")

    def _known(self, place: Place) -> Watched:
        """The place as it was known, unless something else is to be read there now."""
        known = self._watched.get(place.name)
        if known is None or known.place.location != place.location:
            return Watched(place, self._reader(place))
        known.place = place
        return known

    def _offer(self, watched: Watched, offers: list[Offer], failures: list[Failure]) -> None:
        place, found = watched.place, self._examine(watched)
        try:
            if isinstance(found, BundleError):
                raise found
            offers.append(Offer(self.in_force(found, place.source), place.name, place.source.name))
        except BundleError as error:
            model_name = found.model_name if isinstance(found, ActiveBundle) else place.source.model_name
            failures.append(Failure(place.name, error.reason, error.message, model_name))

    def _examine(self, watched: Watched) -> ActiveBundle | BundleError:
        try:
            content = watched.reader.read()
        except BundleError as error:
            return error
        except Exception as error:
            _LOGGER.exception("reading a bundle of %s failed", watched.place.source.name)
            return BundleError(Reason.INTERNAL, f"reading it failed: {type(error).__name__}; the log has the trace")
        if content is not None and (digest := hashlib.sha256(content).digest()) != watched.digest:
            watched.judged = self.activate(content, watched.place.source)
            watched.digest = digest
            keeps = self.settings.state_folder is not None and isinstance(watched.judged, ActiveBundle)
            watched.to_keep = content if keeps else None
        assert watched.judged is not None  # noqa: S101 (a reader gives content first)
        return watched.judged

    def _reader(self, place: Place) -> Reader:
        source, timeout_seconds = place.source, self.settings.bundle_timeout_seconds
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
        path = self.settings.registry_credentials
        return None if path is None else login_for(registry, path)
