"""Unix domain sockets to listen on: ``unix:/path``.

gRPC would take a path away from whoever listens there, and would leave who may connect to the umask. Here a socket
that a process answers on is in use, as a port would be; one that nobody answers on is left over, and removed.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidecar.errors import OperationError

SCHEME: Final = "unix:"

_UMASK: Final = 0o117
"""Owner and group may connect, nobody else; the group is the folder's where that has the setgid bit."""


@contextlib.contextmanager
def place_for_socket(listen: str) -> Iterator[None]:
    """While a socket is bound at ``unix:/path``; other addresses need nothing.

    Raises:
        OperationError: another process listens there, or the path is taken by something else.
    """
    if not listen.startswith(SCHEME):
        yield
        return
    _make_free(Path(listen.removeprefix(SCHEME)))
    before = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def _make_free(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperationError(f"cannot listen on {SCHEME}{path}: {error.strerror}; choose another --listen") from error
    if not stat.S_ISSOCK(kind):
        raise OperationError(f"cannot listen on {SCHEME}{path}: there is a file or folder; choose another --listen")
    if _answers(path):
        raise OperationError(f"cannot listen on {SCHEME}{path}: another process listens there; choose another --listen")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a process listens on a socket. One that we may not ask counts as listening."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
