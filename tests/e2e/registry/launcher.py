"""A registry of the Distribution project, as Debian packages it, on loopback, for as long as a block runs."""

import base64
import contextlib
import dataclasses
import datetime
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.e2e.installing import ServerUnavailable, apt_options, installation_key, installed_once, run_installer
from tests.e2e.processes import EXEC_AND_DIE_WITH_PARENT

PACKAGE = "docker-registry"

NAME, PASSWORD = "gates", "s3cret:with colon"
HTPASSWD = "gates:$2b$05$abcdefghijklmnopqrstuuOb/B27OpVc3Bt3QXIepIr2DUn/DCZNi\n"
"""The name with bcrypt of the password."""

START_SECONDS = 20


def install(cache: Path) -> Path:
    """The registry's program.

    Raises:
        ServerUnavailable: the package cannot be had or unpacked here.
    """
    return installed_once(cache, installation_key([], PACKAGE), _fill) / "usr" / "bin" / "docker-registry"


def _fill(folder: Path) -> None:
    scratch = folder / "scratch"
    for each in (scratch / "archives" / "partial", scratch / "lists" / "partial"):
        each.mkdir(parents=True)
    apt = ["apt-get", "--quiet", *apt_options(scratch)]
    run_installer([*apt, "update"])
    run_installer([*apt, "download", PACKAGE], cwd=scratch)
    (package,) = scratch.glob("*.deb")
    run_installer(["dpkg-deb", "--extract", str(package), str(folder)])
    shutil.rmtree(scratch)


@dataclasses.dataclass
class Registry:
    """A registry that runs.

    Args:
        address: ``127.0.0.1:port``.
        blobs: where it keeps what it was given.
    """

    address: str
    blobs: Path

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        found = digest.removeprefix("sha256:")
        return self.blobs / found[:2] / found / "data"


@contextlib.contextmanager
def registry(program: Path, folder: Path, port: int = 0, **settings: object) -> Iterator[Registry]:
    """Run it in a folder, with what it stored there before; ``settings`` are sections of its own configuration."""
    folder.mkdir(exist_ok=True)
    made = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        **settings,
    }
    made["http"] = {"addr": f"127.0.0.1:{port}", "secret": "of no use elsewhere", **settings.get("http", {})}
    (folder / "config.yml").write_text(json.dumps(made))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", EXEC_AND_DIE_WITH_PARENT, program, "serve", folder / "config.yml"],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            blobs = folder / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"
            yield Registry(f"127.0.0.1:{_port(process, folder / 'log')}", blobs)
        finally:
            process.kill()


def _port(process: subprocess.Popen, log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening on [^ ]*:([0-9]+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise ServerUnavailable(f"{PACKAGE} does not start: {log.read_text()[-2000:]}")


class TokenServer:
    """Gives out tokens that a registry believes: to everybody, or to who has the name and the password only."""

    ISSUER = SERVICE = "gates-test"

    def __init__(self, folder: Path, private: bool) -> None:
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._certified()
        self._bundle = folder / "token.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self.asked: list[tuple[str, str | None]] = []
        self._private = private

    def settings(self) -> dict[str, object]:
        """For the registry's section ``auth``."""
        return {
            "token": {
                "realm": f"http://127.0.0.1:{self.port}/token",
                "service": self.SERVICE,
                "issuer": self.ISSUER,
                "rootcertbundle": str(self._bundle),
            }
        }

    def __enter__(self) -> "TokenServer":
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = server.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """What a client gets."""
        self.asked.append((path, authorization))
        known = f"Basic {base64.b64encode(f'{NAME}:{PASSWORD}'.encode()).decode()}"
        if self._private and authorization != known:
            return 401, b""
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        _, repository, actions = asked["scope"][0].split(":")
        return 200, json.dumps({"token": self._token(repository, actions.split(","))}).encode()

    def _token(self, repository: str, actions: list[str]) -> str:
        now = int(time.time())
        certificate = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "ES256", "x5c": [certificate]}
        claims = {
            "iss": self.ISSUER,
            "sub": NAME,
            "aud": self.SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": "1",
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        }
        signed = f"{_url64(json.dumps(head).encode())}.{_url64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _certified(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
