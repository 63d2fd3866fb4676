"""Pulling a bundle from a registry: by digest once, by tag whenever the tag has moved."""

from collections.abc import Callable

from sidecar.errors import BundleError
from sidecar.remote.artefact import Layer, fetch_layer, find_layer
from sidecar.remote.credentials import Login
from sidecar.remote.reference import Reference
from sidecar.remote.registry import Repository
from sidecar.remote.web import Deadline, RemoteError


class OciReader:
    """Reads an artefact again and again; see :class:`sidecar.proxy.bundle_places.Reader`.

    Args:
        reference: with a digest, or a tag.
        login: gives who we are to the registry; None for nobody.
        timeout_seconds: for one pull in all.
    """

    def __init__(self, reference: Reference, login: Callable[[], Login | None], timeout_seconds: float) -> None:
        self._repository = Repository(reference, login)
        self._is_pinned = reference.digest is not None
        self._timeout_seconds = timeout_seconds
        self._given: Layer | None = None

    def forget(self) -> None:
        """See :class:`sidecar.proxy.bundle_places.Reader`."""
        self._given = None

    def read(self) -> bytes | None:
        """The content; None where it is what the last call gave."""
        given, self._given = self._given, None  # after a failure, content is given again
        if self._is_pinned and given is not None:
            self._given = given
            return None
        deadline = Deadline(self._timeout_seconds)
        try:
            layer = find_layer(self._repository, deadline)
            content = None if layer == given else fetch_layer(self._repository, layer, deadline)
        except RemoteError as error:
            named = self._repository.reference.digest or self._repository.reference.tag
            raise BundleError(error.reason, f"pulling {named} failed: {error}") from error
        self._given = layer
        return content
