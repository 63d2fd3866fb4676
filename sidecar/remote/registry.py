"""Talking to a registry: requests to one repository, logged in where it asks for that.

Every request is asked as it is first; an answer 401 says what is wanted: Basic, or a Bearer token from a server that
it names. A name, password or token goes out over TLS, or to this machine, only. Source: OCI Distribution
Specification 1.1; RFC 9110 section 11 (challenges); the Distribution project's token authentication.
"""

import dataclasses
import ipaddress
import json
import re
import urllib.parse
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from sidecar.remote.credentials import Login
from sidecar.remote.reference import Reference
from sidecar.remote.web import Answer, Ask, Deadline, RemoteError, exchange

MAX_TOKEN_BYTES: Final = 1 << 16
MAX_REDIRECTS: Final = 3

_CHALLENGES: Final = {
    kind: re.compile(rf"(?:^|,)\s*{kind}\s+(.*)", re.IGNORECASE | re.DOTALL) for kind in ("bearer", "basic")
}
_PARAMETER: Final = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_REDIRECTS: Final = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)


class Repository:
    """One repository, for one conversation after the other.

    Args:
        reference: an artefact in it.
        login: gives who we are; None for nobody. Asked whenever the registry wants to know.
    """

    def __init__(self, reference: Reference, login: Callable[[], Login | None]) -> None:
        self.reference: Final = reference
        self._login = login
        self._authorization: str | None = None

    def ask(self, ask: Ask, deadline: Deadline, limit_bytes: int, expected: Sequence[int]) -> Answer:
        """One request; ``ask.url`` is in the repository.

        Raises:
            RemoteError: no answer, or another status than those expected.
        """
        answer = exchange(self._authorized(ask), deadline, limit_bytes)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._authorization = self._authorize(answer.headers.get("www-authenticate", ""), deadline)
            answer = exchange(self._authorized(ask), deadline, limit_bytes)
        if answer.status not in expected:
            raise RemoteError(_refused(ask, answer))
        return answer

    def fetch(self, path: str, deadline: Deadline, limit_bytes: int) -> bytes:
        """A body that the registry may keep elsewhere: redirects are followed, without our credentials."""
        url = f"{self.reference.base}{path}"
        answer = self.ask(Ask(url), deadline, limit_bytes, (HTTPStatus.OK, *_REDIRECTS))
        for _ in range(MAX_REDIRECTS):
            if answer.status == HTTPStatus.OK:
                return answer.body
            url = self._elsewhere(url, answer)
            answer = exchange(Ask(url), deadline, limit_bytes)
        if answer.status != HTTPStatus.OK:
            raise RemoteError(f"it is kept elsewhere, and there the answer is {answer.status} {answer.phrase}")
        return answer.body

    def _elsewhere(self, url: str, answer: Answer) -> str:
        if answer.status not in _REDIRECTS:
            raise RemoteError(f"it is kept elsewhere, and there the answer is {answer.status} {answer.phrase}")
        target = resolved(url, answer.headers.get("location", ""), "the place to which the registry redirects")
        if target.startswith("http:") and self.reference.web_scheme == "https":
            raise RemoteError("the registry redirects from TLS to plain HTTP, which is not followed")
        return target

    def _authorized(self, ask: Ask) -> Ask:
        if self._authorization is None:
            return ask
        _check_private(ask.url)
        return dataclasses.replace(ask, headers={**ask.headers, "Authorization": self._authorization})

    def _authorize(self, challenge: str, deadline: Deadline) -> str:
        bearer = _CHALLENGES["bearer"].search(challenge)
        if bearer is None and _CHALLENGES["basic"].search(challenge) is None:
            raise RemoteError("the registry wants a login of a kind that is not known here; known are Basic and Bearer")
        login = self._login()
        if bearer is not None:
            return self._token(dict(reversed(_PARAMETER.findall(bearer[1]))), login, deadline)
        if login is None:
            raise RemoteError(f"{self.reference.registry} wants a login; give its name and password as credentials")
        return login.basic

    def _token(self, parameters: dict[str, str], login: Login | None, deadline: Deadline) -> str:
        realm = parameters.get("realm", "")
        _check_url(realm, "the token server that the registry names")
        _check_private(realm)
        asked = [(name, parameters[name]) for name in ("service", "scope") if name in parameters]
        url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(asked)}"
        headers = {} if login is None else {"Authorization": login.basic}
        answer = exchange(Ask(url, headers=headers), deadline, MAX_TOKEN_BYTES)
        if answer.status != HTTPStatus.OK:
            raise RemoteError(f"the token server answers {answer.status} {answer.phrase}; see the credentials")
        found = json_object(answer.body, MAX_TOKEN_BYTES, "the token server's answer")
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RemoteError("the token server's answer holds no token")
        return f"Bearer {token}"


def json_object(body: bytes, limit_bytes: int, what: str) -> dict[str, object]:
    """A JSON object. Raises RemoteError: too large, none, or with a name twice."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name stands twice in an object")
        return dict(pairs)

    if len(body) > limit_bytes:
        raise RemoteError(f"{what} has more than {limit_bytes} bytes, which is the limit")
    try:
        found = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"{what} is no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise RemoteError(f"{what} is no JSON object")
    return found


def resolved(base: str, target: str, what: str) -> str:
    """Where a server's answer sends us. Raises RemoteError: to nowhere that can be asked."""
    try:
        url = urllib.parse.urljoin(base, target)
    except ValueError:
        url = ""
    _check_url(url, what)
    return url


def _check_url(url: str, what: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise RemoteError(f"{what} has no usable URL: expected http or https, ASCII, without credentials")


def _check_private(url: str) -> None:
    """Raises RemoteError where others could listen."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise RemoteError("a login would go out unencrypted, which is not done except to this machine; use TLS")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(ask: Ask, answer: Answer) -> str:
    words = f"the registry answers {ask.method} with {answer.status} {answer.phrase}"
    match answer.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return f"{words}: the login does not suffice; see the credentials"
        case HTTPStatus.NOT_FOUND:
            return f"{words}: there is no such thing, or it takes a login to see it"
        case _:
            return words
