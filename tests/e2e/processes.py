"""Server processes: started on ports that nobody listens on, watched until they are ready, ended for certain."""

import contextlib
import dataclasses
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e.installing import ServerUnavailable

START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20
START_ATTEMPTS = 5

SIGNS_OF_A_TAKEN_PORT = ("already in use", "failed to start", "Failed to bind")

EXEC_AND_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A test run that is killed outright leaves no server behind (1 is PR_SET_PDEATHSIG; exec keeps it)."""


class ServerFailed(Exception):
    """A server was installed and started, and did not become ready; the message carries the end of its log."""


@dataclasses.dataclass(frozen=True)
class RunningServer:
    """A server that is ready; ``grpc_address`` is ``127.0.0.1:port``, ``pid`` is its process group's, too."""

    grpc_address: str
    log_path: Path
    start_seconds: float
    pid: int


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a kind of server is started on given ports, and how one look tells whether it is ready.

    Args:
        command: from the ports, the gRPC port first; its first word is a path.
        environment: variables on top of our own.
        folder: where it runs.
        signs_of_another_machine: in the log of a server that cannot run here at all.
    """

    server: str
    command: Callable[[Sequence[int]], Sequence[str]]
    is_ready: Callable[[Sequence[int]], bool]
    log_path: Path
    folder: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    signs_of_another_machine: tuple[str, ...] = ()


@contextlib.contextmanager
def running_server(launch: Launch, offer_ports: Callable[[], Sequence[int]]) -> Iterator[RunningServer]:
    """A ready server, stopped when the block is left, whatever happens in it.

    Args:
        offer_ports: asked again for each attempt, since somebody may take a port between a look and a bind.

    Raises:
        ServerUnavailable: the server does not run on this machine.
        ServerFailed: it ran and did not become ready.
    """
    began = time.monotonic()
    process, port = _start(launch, offer_ports)
    try:
        yield RunningServer(f"127.0.0.1:{port}", launch.log_path, time.monotonic() - began, process.pid)
    finally:
        _stop(process)


def _start(launch: Launch, offer_ports: Callable[[], Sequence[int]]) -> tuple["subprocess.Popen[bytes]", int]:
    for _ in range(START_ATTEMPTS):
        ports = offer_ports()
        process = _spawn(launch, ports)
        try:
            if _becomes_ready(process, launch, ports):
                return process, ports[0]
        except BaseException:
            _stop(process)
            raise
        _stop(process)
        log = readable_log(launch.log_path)
        if any(sign in log for sign in launch.signs_of_another_machine):
            raise ServerUnavailable(f"{launch.server} does not run on this machine: {log[-2000:]}")
        if not any(sign.lower() in log.lower() for sign in SIGNS_OF_A_TAKEN_PORT):
            break
    raise ServerFailed(f"{launch.server} did not become ready; the end of {launch.log_path}:\n{log[-6000:]}")


def _spawn(launch: Launch, ports: Sequence[int]) -> "subprocess.Popen[bytes]":
    with launch.log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", EXEC_AND_DIE_WITH_PARENT, *launch.command(ports)],
            cwd=launch.folder,
            env=os.environ | launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _becomes_ready(process: "subprocess.Popen[bytes]", launch: Launch, ports: Sequence[int]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if launch.is_ready(ports):
            return True
        time.sleep(0.05)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Politely, then with force, and whatever the server started in its process group with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def readable_log(log_path: Path) -> str:
    """A log without the padding and the rules of tables."""
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(re.sub(r" {2,}", "  ", line) for line in lines if not line.startswith("+-"))


def http_body(port: int, path: str, headers: Mapping[str, str] | None = None) -> bytes | None:
    """What a GET on 127.0.0.1 answers, if it answers with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.read() if response.status == http.client.OK else None
    return None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, at least until somebody takes them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is nobody else's while the block lasts.

    gRPC servers in Python share a port without a word (SO_REUSEPORT): a port that two of them were offered would
    give answers of the wrong one. A socket that is bound and does not listen keeps the kernel from offering it again.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind(("127.0.0.1", 0))
        yield reservation.getsockname()[1]
