"""Fetching a bundle over HTTP or HTTPS, conditionally by ETag. No credentials are sent."""

from http import HTTPStatus

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.errors import BundleError, Reason
from sidecar.remote.web import Ask, Deadline, RemoteError, exchange


class HttpReader:
    """Reads a URL again and again; see :class:`sidecar.proxy.bundle_places.Reader`.

    Args:
        url: http or https.
        timeout_seconds: for one fetch in all.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._etag: str | None = None

    def forget(self) -> None:
        """Ask unconditionally at the next call."""
        self._etag = None

    def read(self) -> bytes | None:
        """The content; None where the server says that it is what it was."""
        etag, self._etag = self._etag, None  # after a failure, content is given again
        ask = Ask(self._url, headers={} if etag is None else {"If-None-Match": etag})
        try:
            answer = exchange(ask, Deadline(self._timeout_seconds), MAX_BUNDLE_BYTES)
        except RemoteError as error:
            raise _unreadable(f"fetching it failed: {error}; see that the server is up and the URL right") from error
        if answer.status == HTTPStatus.NOT_MODIFIED and etag is not None:
            self._etag = etag
            return None
        if answer.status != HTTPStatus.OK:
            raise _unreadable(
                f"the server answers {answer.status} {answer.phrase}, expected 200; redirects are not followed"
            )
        self._etag = answer.headers.get("etag")
        return answer.body


def _unreadable(message: str) -> BundleError:
    return BundleError(Reason.BUNDLE_UNREADABLE, message)
