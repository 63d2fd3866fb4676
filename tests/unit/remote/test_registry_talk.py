"""Registries that do not do as they should, played by a small server."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from sidecar.config import OciSource, ServeSettings
from sidecar.errors import BundleError, Reason
from sidecar.proxy.activation import Activation
from sidecar.proxy.active_bundle import Registry, active_models
from sidecar.proxy.bundle_oci import OciReader
from sidecar.proxy.metrics import Metrics
from sidecar.remote import registry
from sidecar.remote.artefact import BUNDLE_TYPE, Layer, fetch_layer, find_layer, push
from sidecar.remote.credentials import Login
from sidecar.remote.reference import parse_reference
from sidecar.remote.registry import Repository
from sidecar.remote.web import Deadline, RemoteError
from tests.conformance.bundle_variants import variant

Play = Callable[["Asked"], tuple[int, dict[str, str], bytes]]
LOGIN = Login("me", "s3cret")


class Asked:
    """One request as the server saw it."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.method, self.path = handler.command, handler.path
        self.authorization = handler.headers.get("Authorization")
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


class Server:
    """Plays a registry."""

    def __init__(self, play: Play) -> None:
        server = self
        self.play, self.asked = play, list[Asked]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = Asked(self)
                server.asked.append(asked)
                status, headers, body = server.play(asked)
                self.send_response(status)
                for name, value in headers.items():
                    for each in value.split("\n"):
                        self.send_header(name, each)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"127.0.0.1:{self.http.server_address[1]}"

    def repository(self, suffix: str = ":v", login: Login | None = LOGIN) -> Repository:
        return Repository(parse_reference(f"oci+http://{self.address}/a{suffix}"), lambda: login)


@pytest.fixture
def serve() -> Iterator[Callable[[Play], Server]]:
    with contextlib.ExitStack() as stack:

        def start(play: Play) -> Server:
            server = Server(play)
            stack.callback(server.http.server_close)
            stack.callback(server.http.shutdown)
            return server

        yield start


def _find(repository: Repository) -> Layer:
    return find_layer(repository, Deadline(5.0))


def _complaint(run: Callable[[], object]) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        run()
    assert "s3cret" not in str(caught.value)
    return caught.value


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _manifest(**changes: object) -> bytes:
    layer = {"mediaType": BUNDLE_TYPE, "digest": _digest(b"bundle"), "size": 6} | changes.pop("layer", {})
    return json.dumps({"schemaVersion": 2, "layers": [layer], **changes}).encode()


def test_a_manifest_that_is_not_the_one_asked_for_is_refused(serve):
    server = serve(lambda _: (200, {}, _manifest()))
    assert _find(server.repository(f"@{_digest(_manifest())}")) == Layer(_digest(b"bundle"), 6)
    complaint = _complaint(lambda: _find(server.repository(f"@{_digest(b'')}")))
    assert complaint.reason is Reason.BUNDLE_DIGEST


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 60_000, "no JSON"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', "no JSON"),
        (b" " * 65537, "more than 65536 bytes"),
        (b'{"schemaVersion": 1}', "none of the kind"),
        (_manifest(mediaType="application/vnd.oci.image.index.v1+json"), "none of the kind"),
        (_manifest(layers={}), "no gate bundle"),
        (_manifest(layers=[1]), "no gate bundle"),
        (_manifest(layer={"mediaType": "text/plain"}), "no gate bundle"),
        (_manifest(layer={"digest": "md5:1"}), "the layer's digest"),
        (_manifest(layer={"digest": None}), "the layer's digest"),
        (_manifest(layer={"size": -1}), "the layer's size"),
        (_manifest(layer={"size": True}), "the layer's size"),
        (_manifest(layer={"size": "6"}), "the layer's size"),
        (_manifest(layer={"size": 2**60}), "a bundle at most"),
    ],
)
def test_a_manifest_that_is_none_of_a_bundle_is_refused(serve, body: bytes, words: str):
    assert words in str(_complaint(lambda: _find(serve(lambda _: (200, {}, body)).repository())))


@pytest.mark.parametrize("body", [b"", b"bundl", b"bundle!", b"bundlE", bytes(1000)])
def test_a_layer_that_is_not_what_the_manifest_says_is_refused(serve, body: bytes):
    repository, layer = serve(lambda _: (200, {}, body)).repository(), Layer(_digest(b"bundle"), 6)
    complaint = _complaint(lambda: fetch_layer(repository, layer, Deadline(5.0)))
    assert complaint.reason is Reason.BUNDLE_DIGEST


class TestLogin:
    def test_it_is_sent_only_where_it_is_asked_for_and_then_kept(self, serve):
        def play(asked: Asked):
            known = asked.authorization == LOGIN.basic
            return (200, {}, _manifest()) if known else (401, {"WWW-Authenticate": 'Basic realm="r"'}, b"")

        server = serve(play)
        repository = server.repository()
        for _ in range(2):
            _find(repository)
        assert [each.authorization for each in server.asked] == [None, LOGIN.basic, LOGIN.basic]

    @pytest.mark.parametrize("challenge", ["", "Negotiate", "Bearers realm=x", 'Digest realm="Basic "'])
    def test_of_an_unknown_kind_is_told(self, serve, challenge: str):
        server = serve(lambda _: (401, {"WWW-Authenticate": challenge}, b""))
        assert "a kind that is not known" in str(_complaint(lambda: _find(server.repository())))
        assert [each.authorization for each in server.asked] == [None]

    @pytest.mark.parametrize("status", [401, 403])
    def test_one_that_does_not_suffice_is_told(self, serve, status: int):
        server = serve(lambda asked: (status if asked.authorization else 401, {"WWW-Authenticate": "Basic x"}, b""))
        assert "the login does not suffice" in str(_complaint(lambda: _find(server.repository())))
        assert len(server.asked) == 2

    @pytest.mark.parametrize("separator", ["\n", ", "])
    def test_among_several_a_token_is_preferred(self, serve, separator: str):
        def play(asked: Asked):
            if asked.path.startswith("/token"):
                return 200, {}, b'{"access_token": "t1"}'
            wanted = f'Negotiate{separator}Bearer realm="http://{server.address}/token?x=1",service="s"{separator}'
            return (
                (200, {}, _manifest())
                if asked.authorization == "Bearer t1"
                else (401, {"WWW-Authenticate": f'{wanted}Basic realm="other"'}, b"")
            )

        server = serve(play)
        _find(server.repository())
        assert [each.path for each in server.asked][1] == "/token?x=1&service=s"
        assert [each.authorization for each in server.asked] == [None, LOGIN.basic, "Bearer t1"]

    @pytest.mark.parametrize(
        "realm", ["", "/token", "ftp://127.0.0.1/", "http://me:p@127.0.0.1/", "http://[", "http://example.org/t"]
    )
    def test_a_token_server_elsewhere_gets_no_login(self, serve, realm: str):
        server = serve(lambda _: (401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, b""))
        complaint = str(_complaint(lambda: _find(server.repository())))
        assert "no usable URL" in complaint or "unencrypted" in complaint
        assert [each.authorization for each in server.asked] == [None]

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (401, b"", "the token server answers 401"),
            (200, b"{}", "holds no token"),
            (200, b'{"token": 5}', "holds no token"),
            (200, b'{"token": "a\\r\\nX: y"}', "holds no token"),
            (200, b" " * 65537, "more than 65536 bytes"),
        ],
    )
    def test_a_token_that_is_none_is_told(self, serve, status: int, body: bytes, words: str):
        def play(asked: Asked):
            if asked.path.startswith("/token"):
                return status, {}, body
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{server.address}/token"'}, b""

        server = serve(play)
        assert words in str(_complaint(lambda: _find(server.repository())))

    def test_it_never_goes_out_unencrypted(self, serve, monkeypatch):
        server = serve(lambda _: (401, {"WWW-Authenticate": "Basic x"}, b""))
        monkeypatch.setattr(registry, "_is_loopback", lambda _: False)
        assert "unencrypted" in str(_complaint(lambda: _find(server.repository())))
        assert [each.authorization for each in server.asked] == [None]

    @pytest.mark.parametrize(
        ("host", "ours"),
        [("localhost", True), ("127.1.2.3", True), ("::1", True), ("10.0.0.1", False), ("127.example.org", False)],
    )
    def test_what_is_this_machine(self, host: str, ours: bool):
        assert registry._is_loopback(host) is ours


class TestRedirects:
    LAYER = Layer(_digest(b"bundle"), 6)

    def _fetch(self, server: Server) -> bytes:
        return fetch_layer(server.repository(), self.LAYER, Deadline(5.0))

    def test_our_login_stays_here(self, serve):
        elsewhere = serve(lambda _: (200, {}, b"bundle"))

        def play(asked: Asked):
            if asked.authorization is None:
                return 401, {"WWW-Authenticate": "Basic x"}, b""
            return 307, {"Location": f"http://{elsewhere.address}/there"}, b""

        assert self._fetch(serve(play)) == b"bundle"
        assert [(each.path, each.authorization) for each in elsewhere.asked] == [("/there", None)]

    def test_some_are_followed_and_not_more(self, serve):
        def play(asked: Asked):
            steps = asked.path.count("/again")
            return (302, {"Location": f"{asked.path}/again"}, b"") if steps < limit else (200, {}, b"bundle")

        limit = registry.MAX_REDIRECTS
        assert self._fetch(serve(play)) == b"bundle"
        limit += 1
        assert "302" in str(_complaint(lambda: self._fetch(serve(play))))

    def test_what_is_kept_elsewhere_and_is_not_there_is_told(self, serve):
        server = serve(lambda asked: (404, {}, b"") if "gone" in asked.path else (307, {"Location": "/gone"}, b""))
        assert "404" in str(_complaint(lambda: self._fetch(server)))

    def test_from_tls_to_none_is_not_followed(self, serve, monkeypatch):
        server = serve(lambda _: (307, {"Location": f"http://{server.address}/there"}, b""))
        monkeypatch.setattr(registry, "exchange", _without_tls(registry.exchange))
        repository = Repository(parse_reference(f"oci://{server.address}/a:v"), lambda: None)
        assert "from TLS to plain HTTP" in str(_complaint(lambda: fetch_layer(repository, self.LAYER, Deadline(5.0))))

    def test_of_a_manifest_are_not_followed(self, serve):
        server = serve(lambda _: (307, {"Location": "/there"}, b""))
        assert "answers GET with 307" in str(_complaint(lambda: _find(server.repository())))


def _without_tls(exchange):
    def plain(ask, *more):
        return exchange(type(ask)(ask.url.replace("https:", "http:"), ask.method, ask.headers, ask.body), *more)

    return plain


class TestPush:
    def _play(self, location: str) -> Play:
        def play(asked: Asked):
            if asked.method == "HEAD":
                return 404, {}, b""
            return (202, {"Location": location}, b"") if asked.method == "POST" else (201, {}, b"")

        return play

    def test_what_is_there_already_is_not_sent_again(self, serve):
        server = serve(lambda asked: (200 if asked.method == "HEAD" else 201, {}, b""))
        digest = push(server.repository(), b"bundle", Deadline(5.0))
        assert [(each.method, each.path) for each in server.asked[2:]] == [("PUT", "/v2/a/manifests/v")]
        assert digest == _digest(server.asked[-1].body)

    @pytest.mark.parametrize("location", ["/up?state=1", "up"])
    def test_a_place_to_send_to_may_be_relative(self, serve, location: str):
        server = serve(self._play(location))
        push(server.repository(""), b"bundle", Deadline(5.0))
        sent = {each.path: each.body for each in server.asked if each.method == "PUT"}
        assert sorted(sent.values())[0] == b"bundle"
        assert any(path.endswith(f"/manifests/{_digest(body)}") for path, body in sent.items())

    @pytest.mark.parametrize("location", ["http://127.0.0.1:1/up", "https://example.org/up", "http://[", "ftp://x/"])
    def test_a_place_to_send_to_elsewhere_is_refused(self, serve, location: str):
        server = serve(self._play(location))
        complaint = str(_complaint(lambda: push(server.repository(), b"bundle", Deadline(5.0))))
        assert "another host" in complaint or "no usable URL" in complaint

    def test_a_registry_that_does_not_take_it_is_told(self, serve):
        server = serve(lambda _: (405, {}, b""))
        assert "answers HEAD with 405" in str(_complaint(lambda: push(server.repository(), b"b", Deadline(5.0))))


def test_without_time_nothing_is_asked(serve):
    server = serve(lambda _: (200, {}, b""))
    assert "no time is left" in str(_complaint(lambda: find_layer(server.repository(), Deadline(0.0))))
    assert server.asked == []


class TestReader:
    """What a source in the settings reads, again and again."""

    def _play(self, shelf: dict[str, bytes]) -> Play:
        def play(asked: Asked):
            return (200, {}, shelf[asked.path]) if asked.path in shelf else (404, {}, b"")

        return play

    def _reader(self, server: Server, suffix: str) -> OciReader:
        return OciReader(server.repository(suffix).reference, lambda: None, 5.0)

    def test_by_digest_nothing_is_asked_again(self, serve):
        named = _digest(_manifest())
        server = serve(
            self._play({f"/v2/a/manifests/{named}": _manifest(), f"/v2/a/blobs/{_digest(b'bundle')}": b"bundle"})
        )
        reader = self._reader(server, f":v@{named}")
        assert [reader.read(), reader.read()] == [b"bundle", None]
        assert len(server.asked) == 2
        reader.forget()
        assert reader.read() == b"bundle"

    def test_by_tag_only_a_manifest_is_asked_for_until_the_tag_moves(self, serve):
        shelf = {"/v2/a/manifests/v": _manifest(), f"/v2/a/blobs/{_digest(b'bundle')}": b"bundle"}
        server = serve(self._play(shelf))
        reader = self._reader(server, ":v")
        assert [reader.read(), reader.read()] == [b"bundle", None]
        assert len(server.asked) == 3
        shelf["/v2/a/manifests/v"] = _manifest(layer={"digest": _digest(b"newer"), "size": 5})
        with pytest.raises(BundleError, match=r"pulling v failed: .*404"):
            reader.read()
        shelf[f"/v2/a/blobs/{_digest(b'newer')}"] = b"newer"
        assert [reader.read(), reader.read()] == [b"newer", None]

    def test_after_a_failure_content_is_given_again(self, serve):
        shelf = {"/v2/a/manifests/v": _manifest(), f"/v2/a/blobs/{_digest(b'bundle')}": b"bundle"}
        server = serve(self._play(shelf))
        reader = self._reader(server, ":v")
        reader.read()
        kept = shelf.pop("/v2/a/manifests/v")
        with pytest.raises(BundleError) as caught:
            reader.read()
        assert caught.value.reason is Reason.BUNDLE_UNREADABLE
        shelf["/v2/a/manifests/v"] = kept
        assert reader.read() == b"bundle"

    def test_the_sidecar_logs_in_with_the_credentials_of_the_settings(self, serve, tmp_path):
        content = variant(1)
        manifest = _manifest(layer={"digest": _digest(content), "size": len(content)})
        shelf = {f"/v2/a/manifests/{_digest(manifest)}": manifest, f"/v2/a/blobs/{_digest(content)}": content}

        def play(asked: Asked):
            known = asked.authorization == LOGIN.basic
            return (200, {}, shelf[asked.path]) if known else (401, {"WWW-Authenticate": "Basic r"}, b"")

        server, held = serve(play), Registry(active_models([]))
        credentials = tmp_path / "config.json"
        credentials.write_text(json.dumps({"auths": {server.address: {"username": "me", "password": "s3cret"}}}))
        source = OciSource(f"oci+http://{server.address}/a@{_digest(manifest)}")
        for given, models in ((None, []), (credentials, ["guarded"])):
            made = ServeSettings((source,), "u:1", registry_credentials=given)
            Activation(made, held, Metrics()).start()
            assert list(held.current.bundles) == models
