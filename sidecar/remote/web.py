"""One HTTP exchange over HTTP or HTTPS: of limited size, in limited time, with the host that the URL names.

No redirects are followed, no proxy of the environment is used, and nothing is sent that the caller did not give. The
server's certificate is checked against the system's authorities, or those in the file that OpenSSL's variable
``SSL_CERT_FILE`` names.
"""

import contextlib
import dataclasses
import http.client
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping

from sidecar.errors import Reason


class RemoteError(Exception):
    """There is no answer that can be used; the message says why, and repeats nothing that may be secret.

    Args:
        message: got, expected, what to do.
        reason: the stable code.
    """

    def __init__(self, message: str, reason: Reason = Reason.BUNDLE_UNREADABLE) -> None:
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Deadline:
    """A moment by which something has to be done.

    Args:
        seconds: how long it may take from now on.
    """

    seconds: float
    at: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", time.monotonic() + self.seconds)

    @property
    def left_seconds(self) -> float:
        """How much time there is yet; negative when it is over."""
        return self.at - time.monotonic()


@dataclasses.dataclass(frozen=True)
class Ask:
    """What to ask: ``url`` is http or https, ASCII, without credentials."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back; the names of ``headers`` are in lower case, several of one name are joined by commas."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes


def exchange(ask: Ask, deadline: Deadline, limit_bytes: int) -> Answer:
    """Ask, and read the answer: no more of its body than shows that it is larger than ``limit_bytes``.

    Raises:
        RemoteError: nobody answers, not by the deadline, not whole, or no HTTP.
    """
    try:
        return _exchange(ask, deadline, limit_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RemoteError(f"{error!r}{_hint(error, deadline)}") from error


def _hint(error: Exception, deadline: Deadline) -> str:
    if deadline.left_seconds <= 0:
        return f" (not done in {deadline.seconds:g} s)"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return " (no TLS is spoken there; where that is meant, write http:// or oci+http://)"
    return ""


def _exchange(ask: Ask, deadline: Deadline, limit_bytes: int) -> Answer:
    parts = urllib.parse.urlsplit(ask.url)
    if deadline.left_seconds <= 0:
        raise TimeoutError("no time is left")
    connection = _connection(parts)
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    with (
        socket.create_connection((connection.host, connection.port), deadline.left_seconds) as connected,
        _hanging_up(connected, deadline),
        contextlib.closing(connection),
    ):
        connection.sock = _secured(parts, connected)
        connection.request(ask.method, target, ask.body, dict(ask.headers))
        return _answer(connection.getresponse(), deadline, limit_bytes)


def _connection(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """Not connected; it knows the default port, and what to write into ``Host``."""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port)


def _secured(parts: urllib.parse.SplitResult, connected: socket.socket) -> socket.socket:
    if parts.scheme != "https":
        return connected
    return ssl.create_default_context().wrap_socket(connected, server_hostname=parts.hostname)


def _answer(response: http.client.HTTPResponse, deadline: Deadline, limit_bytes: int) -> Answer:
    announced = response.length
    body = response.read(limit_bytes + 1)
    if deadline.left_seconds <= 0:  # we have hung up: it may be a part
        raise TimeoutError("the body did not come in time")
    if announced is not None and len(body) < min(announced, limit_bytes + 1):
        raise ConnectionError(f"the connection ended after {len(body)} of {announced} bytes")
    names = {name.lower() for name in response.headers}
    headers = {name: ", ".join(response.headers.get_all(name, ())) for name in names}
    return Answer(response.status, response.reason, headers, body)


@contextlib.contextmanager
def _hanging_up(connected: socket.socket, deadline: Deadline) -> Iterator[None]:
    """Shut the connection down at the deadline: a socket's own timeout starts anew with every byte that drips in."""
    # A descriptor of its own: TLS takes the one that it is given away from the socket.
    with connected.dup() as handle:
        timer = threading.Timer(max(0.0, deadline.left_seconds), _shut, (handle,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        handle.shutdown(socket.SHUT_RDWR)
