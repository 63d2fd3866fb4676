"""TLS and mutual TLS on both sides, rotation included. Connections are real, authorities our own."""

import asyncio
import datetime
import socket
import ssl
import threading
import time

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.config import ListenTls, TransportChoice, UpstreamTls
from sidecar.errors import InputError
from sidecar.proxy import native_transport
from sidecar.proxy import upstream as upstream_module
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.native_transport import LOOK_SECONDS
from sidecar.proxy.serve import start_sidecar
from tests.conformance.guarded_model import request, response
from tests.integration.certificates import Authority, Files
from tests.integration.proxy_harness import SocketUpstream, settings, sidecar
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def upstream(socket_upstream):
    socket_upstream.answer(FINE)
    return socket_upstream


@pytest.fixture
def files(tmp_path, authority):
    return Files(tmp_path, "sidecar", authority)


def _infer(port, authority, pair=(None, None), timeout=5.0):
    certificate, key = pair
    credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        return channel.unary_unary(MODEL_INFER)(INSIDE, timeout=timeout)


def _served_certificate(port):
    """What a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(native_transport, "LOOK_SECONDS", 0.02)


def _failures(running):
    return running.metrics.value("gate_certificate_reload_failures_total", side="listen")


class TestTowardsClients:
    @pytest.fixture
    def running(self, loop, upstream, files, tmp_path):
        tls = ListenTls(files.certificate, files.key)
        with sidecar(loop, settings(tmp_path, upstream.port, listen_tls=tls)) as running:
            yield running

    def test_a_client_that_trusts_the_authority_is_answered(self, running, authority):
        assert _infer(running.listen_port, authority) == FINE

    def test_a_client_that_trusts_another_authority_is_not(self, running, upstream):
        with pytest.raises(grpc.RpcError) as failed:
            _infer(running.listen_port, Authority("another"))
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert upstream.asked == []

    def test_plaintext_is_not_spoken(self, running, upstream):
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5)
        assert upstream.asked == []

    def test_a_new_certificate_is_shown_without_a_restart(self, running, authority, files):
        first = _served_certificate(running.listen_port)
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with grpc.secure_channel(f"127.0.0.1:{running.listen_port}", credentials) as channel:
            assert channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5) == FINE
            files.write(*authority.pair(lasting=datetime.timedelta(hours=2)))
            wait_until(lambda: _served_certificate(running.listen_port) != first)
            assert channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5) == FINE  # the old connection goes on
        assert _infer(running.listen_port, authority) == FINE
        end = running.metrics.value("gate_certificate_expiry_timestamp_seconds", side="listen")
        assert end == pytest.approx(time.time() + 7200, abs=60)

    def test_half_a_rotation_changes_nothing_and_is_counted_once(self, running, authority, files):
        first = _served_certificate(running.listen_port)
        certificate, key = authority.pair()
        files.certificate.write_bytes(certificate)
        for _ in range(3):
            assert _served_certificate(running.listen_port) == first
        wait_until(lambda: running.metrics.value("gate_certificate_reload_failures_total", side="listen") == 1)
        files.key.write_bytes(key)
        wait_until(lambda: _served_certificate(running.listen_port) != first)
        assert running.metrics.value("gate_certificate_reload_failures_total", side="listen") == 1

    def test_files_that_are_away_for_a_while_change_nothing(self, running, authority, files):
        first = _served_certificate(running.listen_port)
        content = files.key.read_bytes()
        files.key.unlink()
        for _ in range(3):
            time.sleep(0.1)
            assert _served_certificate(running.listen_port) == first
        assert _infer(running.listen_port, authority) == FINE
        wait_until(lambda: _failures(running) == 1)
        files.key.write_bytes(content)
        time.sleep(2 * LOOK_SECONDS)  # one transport looks with each handshake, the other now and then
        assert _infer(running.listen_port, authority) == FINE
        files.key.unlink()
        wait_until(lambda: _infer(running.listen_port, authority) == FINE and _failures(running) == 2)


class TestMutualTowardsClients:
    @pytest.fixture
    def running(self, loop, upstream, files, tmp_path):
        tls = ListenTls(files.certificate, files.key, files.ca)
        with sidecar(loop, settings(tmp_path, upstream.port, listen_tls=tls)) as running:
            yield running

    def test_a_client_with_a_certificate_is_answered(self, running, authority):
        assert _infer(running.listen_port, authority, authority.pair("client")) == FINE

    @pytest.mark.parametrize("pair", [(None, None), Authority("another").pair()], ids=["none", "of another authority"])
    def test_a_client_without_one_of_ours_is_not(self, running, authority, upstream, pair):
        with pytest.raises(grpc.RpcError):
            _infer(running.listen_port, authority, pair)
        assert upstream.asked == []

    def test_an_expired_one_does_not_count(self, running, authority, upstream):
        with pytest.raises(grpc.RpcError):
            _infer(running.listen_port, authority, authority.pair(lasting=-datetime.timedelta(hours=1)))
        assert upstream.asked == []

    def test_another_authority_counts_once_it_is_in_the_file(self, running, authority, files):
        other = Authority("another")
        files.ca.write_bytes(authority.pem + other.pem)
        time.sleep(0.1)
        assert _infer(running.listen_port, authority, other.pair()) == FINE


class TestTowardsTheUpstream:
    @pytest.fixture(autouse=True)
    def _often(self, monkeypatch):
        monkeypatch.setattr(upstream_module, "CREDENTIALS_INTERVAL_SECONDS", 0.02)

    @pytest.fixture
    def secured(self, loop, authority):
        """An upstream that wants a certificate of the clients' authority; tests may put in others."""
        upstream = SocketUpstream()
        upstream.answer(FINE)
        upstream.clients = Authority("clients")
        certificate, key = authority.pair("model-server")
        credentials = grpc.ssl_server_credentials([(key, certificate)], upstream.clients.pem, True)

        async def start():
            upstream.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            upstream.server.add_generic_rpc_handlers((upstream,))
            upstream.port = upstream.server.add_secure_port("127.0.0.1:0", credentials)
            await upstream.server.start()

        loop.run(start())
        yield upstream
        loop.run(upstream.server.stop(0))

    def _call(self, running):
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
            return channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5)

    def _tls(self, files, **changes):
        return UpstreamTls(**{"ca": files.ca, "certificate": files.certificate, "key": files.key, **changes})

    def test_mutual(self, loop, secured, authority, tmp_path):
        files = Files(tmp_path, "client", secured.clients, peers=authority)
        with sidecar(loop, settings(tmp_path, secured.port, upstream_tls=self._tls(files))) as running:
            assert running.readiness.ready
            assert self._call(running) == FINE

    def test_long_messages_arrive_as_they_were_sent(self, loop, secured, authority, tmp_path):
        """On both sides: what is gathered on its way is more than TLS, and a socket, take at once."""
        rows = np.arange(60_000)
        requests = [request(np.c_[100 + rows, rows + number]).SerializeToString() for number in range(6)]
        answer = response(np.c_[rows, -rows, rows]).SerializeToString()
        secured.answer(answer)
        ours = Files(tmp_path, "sidecar", authority)
        tls = {
            "listen_tls": ListenTls(ours.certificate, ours.key),
            "upstream_tls": self._tls(Files(tmp_path, "client", secured.clients, peers=authority)),
        }
        with sidecar(loop, settings(tmp_path, secured.port, limit_rows=100_000, **tls)) as running:
            credentials = grpc.ssl_channel_credentials(authority.pem)
            with grpc.secure_channel(f"127.0.0.1:{running.listen_port}", credentials) as channel:
                calls = [channel.unary_unary(MODEL_INFER).future(each, timeout=30) for each in requests]
                assert all(call.result() == answer for call in calls)
        assert sorted(body for method, body, *_ in secured.asked if method == MODEL_INFER) == sorted(requests)

    def test_an_upstream_of_another_authority_is_not_asked(self, loop, secured, tmp_path):
        files = Files(tmp_path, "client", secured.clients, peers=Authority("another"))
        with sidecar(loop, settings(tmp_path, secured.port, upstream_tls=self._tls(files))) as running:
            assert not running.readiness.ready
            with pytest.raises(grpc.RpcError) as failed:
                self._call(running)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "certificate" not in failed.value.details().lower()
        assert secured.asked == []

    @pytest.mark.parametrize(("name", "ready"), [("model-server", True), ("elsewhere", False)])
    def test_the_certificates_name_is_checked(self, loop, secured, authority, tmp_path, name, ready):
        files = Files(tmp_path, "client", secured.clients, peers=authority)
        tls = self._tls(files, server_name=name)
        with sidecar(loop, settings(tmp_path, secured.port, upstream_tls=tls)) as running:
            assert running.readiness.ready is ready

    def test_a_certificate_that_is_put_right_is_used_without_a_restart(self, loop, secured, authority, tmp_path):
        files = Files(tmp_path, "client", Authority("another"), peers=authority)
        with sidecar(loop, settings(tmp_path, secured.port, upstream_tls=self._tls(files))) as running:
            assert not running.readiness.ready
            files.write(*secured.clients.pair())
            wait_until(lambda: running.readiness.ready)
            assert self._call(running) == FINE

    def test_rotation_under_load_ends_no_call(self, loop, secured, authority, tmp_path):
        async def behave(_, __):
            await asyncio.sleep(0.05)
            return FINE

        secured.behaviour = behave
        files = Files(tmp_path, "client", secured.clients, peers=authority)
        made = settings(tmp_path, secured.port, upstream_tls=self._tls(files), upstream_connections=2)
        with sidecar(loop, made) as running:
            enough, failures, answered = threading.Event(), [], []

            def client():
                with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
                    infer = channel.unary_unary(MODEL_INFER)
                    while not enough.is_set():
                        try:
                            answered.append(infer(INSIDE, timeout=5))
                        except grpc.RpcError as error:
                            failures.append(error)

            threads = [threading.Thread(target=client) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(10):
                files.write(*secured.clients.pair())
                time.sleep(0.1)
            enough.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert len(answered) > 20
        assert len(set(answered)) == 1


def _locked(key):
    form = serialization.PrivateFormat.PKCS8
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))


class TestFilesThatCannotBeUsed:
    def _start(self, loop, tmp_path, **changes):
        loop.run(start_sidecar(settings(tmp_path, 1, **changes)))

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda files: files.key.unlink(), r"cannot read TLS file .*sidecar\.key for listen"),
            (lambda files: files.certificate.write_text("nonsense"), r"sidecar\.crt does not hold PEM certificates"),
            (lambda files: files.key.write_text("nonsense"), r"sidecar\.key does not hold an unencrypted PEM key"),
            (lambda files: files.ca.write_text(""), r"sidecar\.ca does not hold PEM certificates"),
            (
                lambda files: files.write(*Authority().pair(key=ec.generate_private_key(ec.BrainpoolP256R1()))),
                "ECDSA on P-",
            ),
            (
                lambda files: files.key.write_bytes(_locked(files.key.read_bytes())),
                r"sidecar\.key does not hold an unenc",
            ),
            (lambda files: files.key.write_bytes(Authority().pair()[1]), r"is not the key of the first certificate"),
        ],
        ids=[
            "a missing key",
            "no certificate",
            "no key",
            "no authority",
            "a kind of key that gRPC cannot use",
            "a locked key",
            "another key",
        ],
    )
    def test_are_one_clear_start_error(self, loop, files, tmp_path, spoil, message):
        spoil(files)
        with pytest.raises(InputError, match=message):
            self._start(loop, tmp_path, listen_tls=ListenTls(files.certificate, files.key, files.ca))
        if "listen" not in message:
            with pytest.raises(InputError, match=message):
                self._start(loop, tmp_path, upstream_tls=UpstreamTls(files.ca, files.certificate, files.key))

    def test_an_expired_certificate_is_told(self, loop, files, authority, tmp_path, caplog):
        files.write(*authority.pair(lasting=-datetime.timedelta(hours=1)))
        tls = ListenTls(files.certificate, files.key)
        with sidecar(loop, settings(tmp_path, 1, listen_tls=tls)) as running:
            end = running.metrics.value("gate_certificate_expiry_timestamp_seconds", side="listen")
        assert end < time.time()
        assert "expired at" in caplog.text

    def test_half_a_pair_is_told(self, files):
        with pytest.raises(ValueError, match="both or neither"):
            UpstreamTls(certificate=files.certificate)


@pytest.mark.parametrize("versions", [(ssl.TLSVersion.TLSv1_2,) * 2, (ssl.TLSVersion.TLSv1_3,) * 2])
def test_a_session_is_not_resumed_natively_so_that_certificates_are_looked_at(
    loop, upstream, tmp_path, authority, files, versions, transport
):
    """What gRPC's own library does is for it to say."""
    tls = ListenTls(files.certificate, files.key)
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.check_hostname, (context.minimum_version, context.maximum_version) = False, versions
    context.set_alpn_protocols(["h2"])
    session = None
    with sidecar(loop, settings(tmp_path, upstream.port, listen_tls=tls)) as running:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", running.listen_port), timeout=5) as plain:
                connection = context.wrap_socket(plain, session=session)
                connection.recv(64)  # what the server says first; session tickets come before it
                session, is_resumed = connection.session, connection.session_reused
                connection.close()
    if transport is TransportChoice.NATIVE:
        assert not is_resumed
