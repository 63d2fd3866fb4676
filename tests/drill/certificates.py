"""Certificates that end during the load, on either side, and are replaced as a rotation replaces them."""

import datetime
import threading
import time
from pathlib import Path

import grpc

from tests.integration.certificates import Authority, Files

LASTING = datetime.timedelta(seconds=7)
"""Long enough for the sidecar to start and for calm load before the end."""


class ShortLived:
    """A certificate with its key in files, that ends soon after it is made."""

    def __init__(self, folder: Path, name: str) -> None:
        self.authority = Authority()
        self.files = Files(folder, name, self.authority)
        self.files.write(*self.authority.pair(name, lasting=LASTING))
        self._name = name
        self._ends = time.time() + LASTING.total_seconds()

    def await_end(self) -> None:
        """Return when it has ended."""
        time.sleep(max(0.0, self._ends - time.time()))

    def rotate(self) -> None:
        """Put a fresh one in place."""
        self.files.write(*self.authority.pair(self._name))


def server_credentials_from(files: Files, client_authority: Authority) -> grpc.ServerCredentials:
    """For a server in front of the model server that demands certificates, and rereads its own with each connection."""
    lock, seen = threading.Lock(), [b""]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        with lock:
            certificate = files.certificate.read_bytes()
            if certificate == seen[0]:
                return None
            seen[0] = certificate
            return grpc.ssl_server_certificate_configuration(
                [(files.key.read_bytes(), certificate)], client_authority.pem
            )

    return grpc.dynamic_ssl_server_credentials(fetch(), fetch, require_client_authentication=True)
