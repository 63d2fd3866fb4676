"""The upstream as we ask it ourselves, with the token that it wants. Clients' calls carry their clients' own."""

import json
import re
from pathlib import Path
from typing import Final

import grpc

from sidecar.errors import Reason
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.upstream import UnaryUpstream, UpstreamFailure, UpstreamOutcome
from sidecar.proxy.watched_file import WatchedFile

MAX_FILE_BYTES: Final = 64 * 1024
"""Of a file with a token; tokens are some hundred bytes."""

_TOKEN: Final = re.compile(r"[!-~]+")
"""What may stand in a header without being read as something else."""


class TokenFile:
    """A file with a bearer token, read again when it changes: TorchServe's own end after an hour.

    Args:
        path: the token and nothing else, or TorchServe's ``key_file.json``, of which it is the key for inference.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path, MAX_FILE_BYTES)
        self._metadata: Metadata = ()

    def metadata(self) -> Metadata:
        """What a call carries.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no token.
        """
        content = self._file.read()
        if content is not None:
            try:
                self._metadata = (("authorization", f"Bearer {_token(content)}"),)
            except ValueError:
                self._file.forget()
                raise
        return self._metadata


def _token(content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it is longer than {MAX_FILE_BYTES} bytes")
    text = content.decode().strip()
    found = _of_torchserve(text) if text.startswith("{") else text
    # The text is not repeated: it may be a secret all the same.
    if not isinstance(found, str) or _TOKEN.fullmatch(found) is None:
        raise ValueError("it is neither one token nor TorchServe's key_file.json with a key for inference")
    return found


def _of_torchserve(text: str) -> object:
    try:
        stated = json.loads(text)
    except RecursionError:
        return None
    inference = stated.get("inference")
    return inference.get("key") if isinstance(inference, dict) else None


class UpstreamWithToken:
    """For our own questions. A token that cannot be had is an upstream that cannot be asked."""

    def __init__(self, upstream: UnaryUpstream, token: TokenFile) -> None:
        self._upstream = upstream
        self._token = token

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout_seconds: float) -> UpstreamOutcome:
        """Ask, with the token."""
        try:
            ours = self._token.metadata()
        except (OSError, ValueError) as error:
            said = f"upstream_token cannot be read: {error}"
            return UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, said, answered=False)
        return await self._upstream.call(method, request, (*metadata, *ours), timeout_seconds)

    @property
    def losses(self) -> int:
        """See :class:`~sidecar.proxy.upstream.UnaryUpstream`."""
        return self._upstream.losses
