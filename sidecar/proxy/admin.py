"""The admin address: plain HTTP for Prometheus, Kubernetes and people. It reads and changes nothing.

/metrics   Prometheus text format
/livez     200 while the process answers
/readyz    200 when the sidecar may get traffic, else 503 and why not
/status    JSON: version, readiness, the active bundles and their modes
"""

import dataclasses
import http
import json
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeAlias

from sidecar.errors import OperationError
from sidecar.proxy.metrics import CONTENT_TYPE, Metrics
from sidecar.proxy.readiness import Readiness

REQUEST_TIMEOUT_SECONDS: Final = 10.0
"""How long a connection may take to state its request: idle ones must not pile up threads."""

MAX_CONNECTIONS: Final = 64
"""At once; each has a thread. One more is closed unanswered, so that the calls that we are here for find threads
and file descriptors left."""

CLOSING_POLL_SECONDS: Final = 0.1
"""How often the serving thread looks whether it is to stop."""


@dataclasses.dataclass(frozen=True)
class Page:
    """One answer."""

    status: http.HTTPStatus
    content_type: str
    body: bytes


Pages: TypeAlias = Mapping[str, Callable[[], Page]]
"""By path. Called in threads of their own."""


def admin_pages(metrics: Metrics, readiness: Readiness, status: Callable[[], dict[str, object]]) -> Pages:
    """The pages of a sidecar; ``status`` gives what /status says."""
    return {
        "/metrics": lambda: Page(http.HTTPStatus.OK, CONTENT_TYPE, metrics.exposition()),
        "/livez": lambda: _text(http.HTTPStatus.OK, "live"),
        "/readyz": lambda: _readiness(readiness),
        "/status": lambda: _json(status()),
    }


def _readiness(readiness: Readiness) -> Page:
    why = readiness.why
    if not why:
        return _text(http.HTTPStatus.OK, "ready")
    return _text(http.HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(f"not ready: {line}" for line in why))


def _json(document: dict[str, object]) -> Page:
    return Page(http.HTTPStatus.OK, "application/json", f"{json.dumps(document, indent=2)}\n".encode())


def _text(status: http.HTTPStatus, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())


_LOGGER: Final = logging.getLogger("sidecar.proxy")

_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]
_Address: TypeAlias = Any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2 * MAX_CONNECTIONS  # with less, a burst waits for TCP to try again

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, as the base class would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "sidecar", self.server_address[1]

    def process_request(self, request: _Request, client_address: _Address) -> None:
        """Serve a connection in a thread of its own, where one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._free.release()
            raise

    def process_request_thread(self, request: _Request, client_address: _Address) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, _: _Request, client_address: _Address) -> None:
        """Who hangs up early is no news; a defect of ours is."""
        if not isinstance(sys.exception(), ConnectionError):
            _LOGGER.exception("admin request of %s failed", client_address)


class AdminServer:
    """Serves pages from a thread until closed; ``port`` is the bound one."""

    def __init__(self, address: str, pages: Pages) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = _Server(host.strip("[]"), int(port), _handler(pages))
        except (OSError, ValueError, OverflowError) as error:
            raise OperationError(
                f"cannot listen on {address} for metrics and health: {error}; choose another address with --admin"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(CLOSING_POLL_SECONDS,), name="admin", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_SECONDS
        server_version = "sidecar"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0], _not_found)()
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Probes and scrapes are no news."""

    return Handler


def _not_found() -> Page:
    return _text(http.HTTPStatus.NOT_FOUND, "not found; there are /metrics, /livez, /readyz, /status")
