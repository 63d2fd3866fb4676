"""Fetching bundles from a small HTTP server on loopback."""

import contextlib
import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.errors import BundleError, Reason
from sidecar.proxy.bundle_http import HttpReader


class Shelf:
    """What the server gives, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"one", {"ETag": '"1"'}
        self.asked: list[tuple[str, str | None]] = []
        self.pause_seconds = 0.0
        self.announced: int | None = None


@pytest.fixture
def shelf():
    shelf = Shelf()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("If-None-Match")
            shelf.asked.append((self.path, asked))
            current = shelf.headers.get("ETag")
            matches = asked is not None and asked == current and shelf.status == 200
            self.send_response(304 if matches else shelf.status)
            for name, value in shelf.headers.items():
                self.send_header(name, value)
            body = b"" if matches else shelf.body
            self.send_header("Content-Length", str(len(body) if shelf.announced is None else shelf.announced))
            self.end_headers()
            with contextlib.suppress(OSError):
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(shelf.pause_seconds)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    shelf.server = server
    shelf.url = f"http://127.0.0.1:{server.server_address[1]}/bundles/b.gates?v=1"
    yield shelf
    server.shutdown()
    server.server_close()


def _refused(reader: HttpReader) -> str:
    with pytest.raises(BundleError) as failure:
        reader.read()
    assert failure.value.reason is Reason.BUNDLE_UNREADABLE
    return failure.value.message


def test_what_is_unchanged_is_not_fetched_again(shelf):
    reader = HttpReader(shelf.url, 5.0)
    assert [reader.read(), reader.read(), reader.read()] == [b"one", None, None]
    assert shelf.asked == [("/bundles/b.gates?v=1", None), *[("/bundles/b.gates?v=1", '"1"')] * 2]


def test_a_change_is_fetched(shelf):
    reader = HttpReader(shelf.url, 5.0)
    reader.read()
    shelf.body, shelf.headers = b"two", {"ETag": '"2"'}
    assert [reader.read(), reader.read()] == [b"two", None]


def test_forgetting_asks_unconditionally(shelf):
    reader = HttpReader(shelf.url, 5.0)
    reader.read()
    reader.forget()
    assert reader.read() == b"one"


def test_without_an_etag_it_is_fetched_each_time(shelf):
    shelf.headers = {}
    reader = HttpReader(shelf.url, 5.0)
    assert [reader.read(), reader.read()] == [b"one", b"one"]


@pytest.mark.parametrize("status", [404, 500, 301, 206, 304])
def test_any_other_answer_is_none(shelf, status: int):
    shelf.status, shelf.headers = status, {"Location": shelf.url}
    assert str(status) in _refused(HttpReader(shelf.url, 5.0))


def test_after_a_failure_content_is_given_again(shelf):
    reader = HttpReader(shelf.url, 5.0)
    reader.read()
    shelf.status = 503
    _refused(reader)
    shelf.status = 200
    assert reader.read() == b"one"


def test_a_body_that_is_cut_off_is_none(shelf):
    shelf.announced = 10
    assert "3 of 10 bytes" in _refused(HttpReader(shelf.url, 5.0))


def test_no_more_is_read_than_a_bundle_may_have(shelf, monkeypatch):
    monkeypatch.setattr("sidecar.proxy.bundle_http.MAX_BUNDLE_BYTES", 100)
    shelf.body = bytes(5000)
    content = HttpReader(shelf.url, 5.0).read()
    assert content is not None
    assert 100 < len(content) < 5000


def test_a_body_that_drips_is_given_up_on(shelf):
    shelf.body, shelf.pause_seconds = bytes(1000), 0.05
    began = time.monotonic()
    assert "in time" in _refused(HttpReader(shelf.url, 0.3))
    assert time.monotonic() - began < 2


def test_headers_that_drip_are_given_up_on():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/b"

        def drip():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        assert "not done in 0.3 s" in _refused(HttpReader(url, 0.3))
        assert time.monotonic() - began < 2


def test_a_tls_handshake_that_drips_is_given_up_on():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/b"

        def drip():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for byte in b"\x16\x03\x03\x20\x00" + bytes(1000):  # a handshake record that is never complete
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        assert "not done in 0.3 s" in _refused(HttpReader(url, 0.3))
        assert time.monotonic() - began < 2


def test_a_server_that_says_nothing_is_given_up_on():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "not done in 0.2 s" in _refused(HttpReader(f"http://127.0.0.1:{silent.getsockname()[1]}/b", 0.2))


def test_nobody_there_is_said():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert "ConnectionRefused" in _refused(HttpReader(f"http://127.0.0.1:{port}/b", 1.0))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bundles")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


def _with_tls(shelf, certificate) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    shelf.server.socket = context.wrap_socket(shelf.server.socket, server_side=True)
    return shelf.url.replace("http:", "https:")


def test_https_from_a_server_that_is_vouched_for(shelf, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    reader = HttpReader(_with_tls(shelf, certificate), 5.0)
    assert [reader.read(), reader.read()] == [b"one", None]


def test_https_from_a_server_that_nobody_vouches_for_is_refused(shelf, certificate, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert "CERTIFICATE_VERIFY_FAILED" in _refused(HttpReader(_with_tls(shelf, certificate), 5.0))
    assert shelf.asked == []


def test_what_speaks_no_tls_is_said_with_what_to_write(shelf):
    assert "write http:// or oci+http://" in _refused(HttpReader(shelf.url.replace("http:", "https:"), 5.0))


def test_what_speaks_no_http_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/b"

        def speak():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\0nonsense\r\n\r\n")

        threading.Thread(target=speak, daemon=True).start()
        assert "BadStatusLine" in _refused(HttpReader(url, 1.0))
