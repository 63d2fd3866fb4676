"""Fetching a bundle over HTTP or HTTPS: conditionally by ETag, of limited size, in limited time.

No redirects are followed, no proxy of the environment is used and no credentials are sent: what is asked is the
host that the setting names. The server's certificate is checked against the system's authorities.
"""

import http.client
import ssl
import time
import urllib.parse
from http import HTTPStatus
from typing import Final

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.errors import BundleError, Reason

_CHUNK_BYTES: Final = 64 * 1024


class HttpReader:
    """Reads a URL again and again; see :class:`sidecar.proxy.bundle_places.Reader`.

    Args:
        url: http or https.
        timeout_seconds: for one fetch in all.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._parts = urllib.parse.urlsplit(url)
        self._timeout_seconds = timeout_seconds
        self._etag: str | None = None

    def forget(self) -> None:
        """Ask unconditionally at the next call."""
        self._etag = None

    def read(self) -> bytes | None:
        """The content; None where the server says that it is what it was."""
        etag, self._etag = self._etag, None  # after a failure, content is given again
        connection = self._connection()
        try:
            return self._fetch(connection, etag)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreadable(f"fetching it failed: {error!r}; see that the server is up and the URL right") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)

    def _fetch(self, connection: http.client.HTTPConnection, etag: str | None) -> bytes | None:
        deadline = time.monotonic() + self._timeout_seconds
        target = urllib.parse.urlunsplit(("", "", self._parts.path or "/", self._parts.query, ""))
        connection.request("GET", target, headers={} if etag is None else {"If-None-Match": etag})
        answer = connection.getresponse()
        if answer.status == HTTPStatus.NOT_MODIFIED and etag is not None:
            self._etag = etag
            return None
        if answer.status != HTTPStatus.OK:
            raise _unreadable(
                f"the server answers {answer.status} {answer.reason}, expected 200; redirects are not followed"
            )
        content = _read_limited(answer, deadline)
        self._etag = answer.headers.get("ETag")
        return content


def _read_limited(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body, of which no more is read than shows that it is too large for a bundle."""
    announced = answer.length
    content = bytearray()
    while len(content) <= MAX_BUNDLE_BYTES:
        chunk = answer.read1(_CHUNK_BYTES)
        if not chunk:
            break
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the body did not come in time")
    if announced is not None and len(content) < min(announced, MAX_BUNDLE_BYTES + 1):
        raise _unreadable(f"the connection ended after {len(content)} of {announced} bytes; it will be tried again")
    return bytes(content)


def _unreadable(message: str) -> BundleError:
    return BundleError(Reason.BUNDLE_UNREADABLE, message)
