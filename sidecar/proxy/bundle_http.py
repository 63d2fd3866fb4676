"""Fetching a bundle over HTTP or HTTPS: conditionally by ETag, of limited size, in limited time.

No redirects are followed, no proxy of the environment is used and no credentials are sent: what is asked is the
host that the setting names. The server's certificate is checked against the system's authorities, or those in the
file that OpenSSL's variable ``SSL_CERT_FILE`` names.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.errors import BundleError, Reason


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
        deadline = time.monotonic() + self._timeout_seconds
        connection = self._connection()
        try:
            connection.connect()
            with _hanging_up(connection.sock, deadline):
                return self._fetch(connection, etag, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = f" (not done in {self._timeout_seconds:g} s)" if time.monotonic() > deadline else ""
            raise _unreadable(
                f"fetching it failed: {error!r}{late}; see that the server is up and the URL right"
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)

    def _fetch(self, connection: http.client.HTTPConnection, etag: str | None, deadline: float) -> bytes | None:
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
        announced = answer.length
        # No more than shows that it is too large for a bundle.
        content = answer.read(MAX_BUNDLE_BYTES + 1)
        if time.monotonic() > deadline:  # we have hung up: it may be a part
            raise TimeoutError("the body did not come in time")
        if announced is not None and len(content) < min(announced, MAX_BUNDLE_BYTES + 1):
            raise ConnectionError(f"the connection ended after {len(content)} of {announced} bytes")
        self._etag = answer.headers.get("ETag")
        return content


@contextlib.contextmanager
def _hanging_up(connected: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the connection down at the deadline: a socket's own timeout starts anew with every byte that drips in."""
    # Not the method of a TLS socket, which would take its state away from the thread that reads.
    timer = threading.Timer(
        max(0.0, deadline - time.monotonic()), socket.socket.shutdown, (connected, socket.SHUT_RDWR)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unreadable(message: str) -> BundleError:
    return BundleError(Reason.BUNDLE_UNREADABLE, message)
