"""Names and passwords for registries, from a file as `docker login` writes it and Kubernetes keeps it in secrets of
type ``kubernetes.io/dockerconfigjson``. Programs that such a file may name to ask are not run.
"""

import base64
import binascii
import dataclasses
import json
from pathlib import Path
from typing import Final

from sidecar.bundle.files import read_regular
from sidecar.remote.web import RemoteError

MAX_FILE_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class Login:
    """Who we are to one registry. The password stays out of every message."""

    name: str
    password: str = dataclasses.field(repr=False)

    @property
    def basic(self) -> str:
        """As a header says it."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


def login_for(registry: str, path: Path) -> Login | None:
    """Who we are to a registry (``host[:port]``); None where the file says nothing of it.

    Raises:
        RemoteError: the file cannot be read or understood.
    """
    try:
        content, _ = read_regular(path, MAX_FILE_BYTES)
        entries = json.loads(content).get("auths", {}) if len(content) <= MAX_FILE_BYTES else None
        entry = {_host(name): entry for name, entry in entries.items()}.get(registry)  # type: ignore[union-attr]
        return None if entry is None else _login(entry)
    except OSError as error:
        raise RemoteError(
            f"cannot read the credentials {path}: {error.strerror}; give a file of `docker login`"
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        # Nothing of what was found is repeated: it may be a secret.
        raise RemoteError(
            f'the credentials {path} are not understood: expected {{"auths": {{"{registry}": {{"auth": ...}}}}}} '
            "with the base64 of NAME:PASSWORD, as `docker login` writes it without a credential store"
        ) from None


def _host(name: str) -> str:
    """Older programs write URLs."""
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _login(entry: dict[str, str]) -> Login:
    if "username" in entry and "password" in entry:
        return Login(entry["username"], entry["password"])
    name, separator, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    if not separator:
        raise binascii.Error("no colon")
    return Login(name, password)
