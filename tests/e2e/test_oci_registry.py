"""Bundles from a real registry: pushed, pulled by digest, and never taken for what they are not."""

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.bundle.keys import create_key_files, read_private_key_file
from sidecar.bundle.signature import sign
from sidecar.cli import main
from sidecar.config import BundleSource, OciSource, ServeSettings
from sidecar.errors import Reason
from sidecar.proxy.activation import Activation
from sidecar.proxy.active_bundle import Registry as ActiveRegistry
from sidecar.proxy.active_bundle import active_models
from sidecar.proxy.bundle_oci import OciReader
from sidecar.proxy.metrics import Metrics
from sidecar.remote.artefact import BUNDLE_TYPE, MANIFEST_TYPE
from sidecar.remote.reference import parse_reference
from tests.conformance.bundle_variants import variant
from tests.e2e.installing import installed_or_not_run
from tests.e2e.registry.launcher import HTPASSWD, NAME, PACKAGE, PASSWORD, Registry, TokenServer, install, registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def program() -> Path:
    return installed_or_not_run(PACKAGE, install)


@pytest.fixture(scope="module")
def plain(program: Path, tmp_path_factory) -> Iterator[Registry]:
    with registry(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "b.gates"
    path.write_bytes(variant(1))
    return path


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Pushed:
    """`sidecar push`, and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, bundle: Path, reference: str, *more: object) -> str:
        status, out, err = self.try_to(bundle, reference, *more)
        assert (status, err) == (0, "")
        return out.strip()

    def try_to(self, bundle: Path, reference: str, *more: object) -> tuple[int, str, str]:
        status = main(["push", str(bundle), reference, *map(str, more)])
        return status, *self._capsys.readouterr()


@pytest.fixture
def push(capsys) -> Pushed:
    return Pushed(capsys)


class Watched:
    """An activation over sources, as the sidecar has it."""

    def __init__(self, *references: str, **settings: object) -> None:
        self.registry, self.metrics = ActiveRegistry(active_models([])), Metrics()
        sources = tuple(OciSource(reference) for reference in references)
        self.settings = ServeSettings(sources, "127.0.0.1:1", bundle_timeout_seconds=5.0, **settings)
        self.activation = Activation(self.settings, self.registry, self.metrics)
        self.activation.start()

    @property
    def revisions(self) -> dict[str, int]:
        return {name: bundle.revision for name, bundle in self.registry.current.bundles.items()}

    @property
    def failing(self) -> list[str]:
        return [each.reason for each in self.activation.state.failures]

    @property
    def messages(self) -> str:
        return " ".join(each.message for each in self.activation.state.failures)


def _call(address: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(address, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def _put_blob(address: str, repository: str, content: bytes) -> None:
    _, _, headers = _call(address, "POST", f"/v2/{repository}/blobs/uploads/")
    place = headers["location"].removeprefix(f"http://{address}")
    joint = "&" if "?" in place else "?"
    status, _, _ = _call(address, "PUT", f"{place}{joint}digest={_digest(content)}", content)
    assert status == 201


def _put_manifest(address: str, repository: str, document: object, media_type: str = MANIFEST_TYPE) -> str:
    body = json.dumps(document).encode()
    status, answer, _ = _call(
        address, "PUT", f"/v2/{repository}/manifests/{_digest(body)}", body, Content_Type=media_type
    )
    assert status == 201, answer
    return f"oci+http://{address}/{repository}@{_digest(body)}"


def _artefact(content: bytes, **changes: object) -> dict[str, object]:
    """A manifest as `oras push` writes it: its own artefact type, an empty config."""
    layer = {"mediaType": BUNDLE_TYPE, "digest": _digest(content), "size": len(content)}
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": _digest(b"{}"), "size": 2},
        "layers": [layer | {"annotations": {"org.opencontainers.image.title": "b.gates"}}],
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
        **changes,
    }


class TestPushAndPull:
    def test_what_is_pushed_is_pulled_by_its_digest(self, plain: Registry, push: Pushed, bundle: Path):
        reference = push(bundle, f"oci+http://{plain.address}/team/gates")
        assert reference.startswith(f"oci+http://{plain.address}/team/gates@sha256:")
        watched = Watched(reference)
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [])
        assert watched.registry.current.awaited == ()

    def test_the_same_bundle_has_the_same_digest_and_a_tag_names_it_too(
        self, plain: Registry, push: Pushed, bundle: Path
    ):
        first = push(bundle, f"oci+http://{plain.address}/again")
        second = push(bundle, f"oci+http://{plain.address}/again:v3")
        assert second.removeprefix(f"oci+http://{plain.address}/again:v3") == first.removeprefix(
            f"oci+http://{plain.address}/again"
        )
        _, body, _ = _call(plain.address, "GET", "/v2/again/manifests/v3", Accept=MANIFEST_TYPE)
        assert first.endswith(_digest(body))
        document = json.loads(body)
        assert document["artifactType"] == document["layers"][0]["mediaType"] == BUNDLE_TYPE
        assert document["layers"][0]["digest"] == _digest(bundle.read_bytes())
        assert Watched(second).revisions == {"guarded": 3}

    def test_what_oras_pushes_is_pulled(self, plain: Registry):
        content = variant(1)
        for blob in (b"{}", content):
            _put_blob(plain.address, "oras", blob)
        assert Watched(_put_manifest(plain.address, "oras", _artefact(content))).revisions == {"guarded": 3}

    def test_by_digest_it_is_pulled_once_and_again_when_asked(self, plain: Registry, push: Pushed, bundle: Path):
        reference = parse_reference(push(bundle, f"oci+http://{plain.address}/once"))
        reader = OciReader(reference, lambda: None, 5.0)
        assert [reader.read(), reader.read()] == [bundle.read_bytes(), None]
        reader.forget()
        assert reader.read() == bundle.read_bytes()

    def test_another_digest_in_the_settings_is_the_next_bundle(self, plain: Registry, push: Pushed, bundle: Path):
        first = push(bundle, f"oci+http://{plain.address}/next")
        bundle.write_bytes(variant(2, 4))
        second = push(bundle, f"oci+http://{plain.address}/next")
        watched = Watched(first)
        missing = f"{second[:-64]}{'0' * 64}"
        for reference, revision, failing in ((missing, 3, [Reason.BUNDLE_UNREADABLE]), (second, 4, [])):
            watched.activation.adopt(ServeSettings((OciSource(reference),), "127.0.0.1:1", bundle_timeout_seconds=5.0))
            watched.activation.look()
            assert (watched.revisions, watched.failing) == ({"guarded": revision}, failing)
            assert watched.registry.current.awaited == ()

    def test_the_last_good_one_stands_in_where_the_registry_is_gone(
        self, program: Path, push: Pushed, bundle: Path, tmp_path: Path
    ):
        state = tmp_path / "state"
        state.mkdir()
        with registry(program, tmp_path / "registry") as running:
            reference = push(bundle, f"oci+http://{running.address}/gates")
            assert Watched(reference, state_folder=state).revisions == {"guarded": 3}
        watched = Watched(f"{reference[:-64]}{'0' * 64}", state_folder=state)
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [Reason.BUNDLE_UNREADABLE])

    def test_a_registry_that_comes_back_is_used_without_help(
        self, program: Path, push: Pushed, bundle: Path, tmp_path: Path
    ):
        with registry(program, tmp_path / "registry") as running:
            reference = push(bundle, f"oci+http://{running.address}/gates")
        watched = Watched(reference)
        assert (watched.revisions, watched.failing) == ({}, [Reason.BUNDLE_UNREADABLE])
        assert "ConnectionRefused" in watched.messages
        with registry(program, tmp_path / "registry", int(running.address.rpartition(":")[2])):
            assert watched.activation.look()
        assert (watched.revisions, watched.failing) == ({"guarded": 3}, [])
        assert not watched.activation.look()
        assert watched.failing == []

    def test_a_tag_is_followed_where_bundles_must_be_signed(
        self, plain: Registry, push: Pushed, bundle: Path, tmp_path: Path
    ):
        public, _ = create_key_files(tmp_path / "ops")
        key = read_private_key_file(tmp_path / "ops")
        tag = f"oci+http://{plain.address}/followed:stable"
        bundle.write_bytes(sign(variant(1), key))
        push(bundle, tag)
        watched = Watched(tag, trusted_keys=(public,))
        assert watched.revisions == {"guarded": 3}
        for content, revision, failing in (
            (variant(2, 4), 3, [Reason.BUNDLE_UNSIGNED]),
            (sign(variant(2, 4), key), 4, []),
            (sign(variant(1, 3), key), 4, [Reason.BUNDLE_ROLLBACK]),
        ):
            bundle.write_bytes(content)
            push(bundle, tag)
            watched.activation.look()
            assert (watched.revisions, watched.failing) == ({"guarded": revision}, failing)

    def test_over_tls_from_a_registry_that_is_vouched_for(
        self, program: Path, push: Pushed, bundle: Path, tmp_path: Path, monkeypatch
    ):
        from tests.integration.certificates import Authority

        authority = Authority()
        certificate, key = authority.pair()
        for name, content in (("ca.pem", authority.pem), ("cert.pem", certificate), ("key.pem", key)):
            (tmp_path / name).write_bytes(content)
        tls = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
        with registry(program, tmp_path / "registry", http={"tls": tls}) as running:
            target = f"oci://localhost:{running.address.rpartition(':')[2]}/gates"
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            status, _, err = push.try_to(bundle, target)
            assert status == 3
            assert "CERTIFICATE_VERIFY_FAILED" in err
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            assert Watched(push(bundle, target)).revisions == {"guarded": 3}


class TestWhatIsRefused:
    @pytest.fixture
    def watched(self, plain: Registry, push: Pushed, bundle: Path) -> Watched:
        """Guards by an artefact that is as it should be."""
        return Watched(push(bundle, f"oci+http://{plain.address}/refused"))

    def _next(self, watched: Watched, reference: str) -> list[str]:
        before = watched.registry.current
        watched.activation.adopt(ServeSettings((OciSource(reference),), "127.0.0.1:1", bundle_timeout_seconds=5.0))
        watched.activation.look()
        assert watched.registry.current.bundles == before.bundles
        return watched.failing

    def test_a_digest_that_is_not_there(self, plain: Registry, watched: Watched):
        missing = f"oci+http://{plain.address}/refused@sha256:{'0' * 64}"
        assert self._next(watched, missing) == [Reason.BUNDLE_UNREADABLE]
        assert "404" in watched.messages

    def test_the_digest_of_something_else(self, plain: Registry, watched: Watched, bundle: Path):
        """The layer's instead of the manifest's: a slip that is easily made."""
        layer = f"oci+http://{plain.address}/refused@{_digest(bundle.read_bytes())}"
        assert self._next(watched, layer) == [Reason.BUNDLE_UNREADABLE]

    def test_layers_of_other_types_or_more_than_one(self, plain: Registry, watched: Watched):
        content = variant(2, 4)
        for blob in (b"{}", content):
            _put_blob(plain.address, "refused", blob)
        good = _artefact(content)["layers"][0]
        other = good | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
        for layers in ([other], [good, good], [good, other], []):
            reference = _put_manifest(plain.address, "refused", _artefact(content, layers=layers))
            assert self._next(watched, reference) == [Reason.BUNDLE_UNREADABLE]
            assert f"expected one layer of the type {BUNDLE_TYPE}" in watched.messages

    def test_a_layer_larger_than_a_bundle_is_not_even_fetched(self, plain: Registry, watched: Watched, monkeypatch):
        content = variant(2, 4)
        for blob in (b"{}", content):
            _put_blob(plain.address, "refused", blob)
        reference = _put_manifest(plain.address, "refused", _artefact(content))
        monkeypatch.setattr("sidecar.remote.artefact.MAX_BUNDLE_BYTES", len(content) - 1)
        monkeypatch.setattr("sidecar.proxy.bundle_oci.fetch_layer", lambda *_: pytest.fail("fetched"))
        assert self._next(watched, reference) == [Reason.BUNDLE_TOO_LARGE]

    @pytest.mark.parametrize("spoil", ["cut off", "changed", "grown", "gone"])
    def test_a_layer_that_was_damaged_in_the_registry(
        self, program: Path, tmp_path: Path, push: Pushed, bundle: Path, watched: Watched, spoil: str
    ):
        bundle.write_bytes(variant(2, 4))
        with registry(program, tmp_path / "registry") as running:
            reference = push(bundle, f"oci+http://{running.address}/gates")
            stored = running.blob(_digest(bundle.read_bytes()))
            content = stored.read_bytes()
            if spoil == "gone":
                stored.unlink()
            else:
                changed = content[:-1] + bytes([content[-1] ^ 1])
                stored.write_bytes({"cut off": content[:-100], "changed": changed, "grown": content + b"x"}[spoil])
            reason = self._next(watched, reference)[0]
            assert reason == (Reason.BUNDLE_UNREADABLE if spoil == "gone" else Reason.BUNDLE_DIGEST)
            if spoil != "gone":
                stored.write_bytes(content)
                watched.activation.look()
                assert (watched.revisions, watched.failing) == ({"guarded": 4}, [])

    def test_a_manifest_that_was_changed_in_the_registry(
        self, program: Path, tmp_path: Path, push: Pushed, bundle: Path, watched: Watched
    ):
        with registry(program, tmp_path / "registry") as running:
            reference = push(bundle, f"oci+http://{running.address}/gates")
            stored = running.blob(reference.rpartition("@")[2])
            stored.write_bytes(stored.read_bytes().replace(b'"size":2,', b'"size":2 ,'))
            assert self._next(watched, reference)[0] in (Reason.BUNDLE_DIGEST, Reason.BUNDLE_UNREADABLE)

    def test_what_is_no_bundle_is_not_pushed(self, plain: Registry, push: Pushed, bundle: Path):
        bundle.write_bytes(b"nonsense")
        status, out, err = push.try_to(bundle, f"oci+http://{plain.address}/none")
        assert (status, out) == (2, "")
        assert "bundle_magic" in err


class TestLogin:
    @pytest.fixture
    def credentials(self, tmp_path: Path) -> Path:
        return tmp_path / "config.json"

    def _write(self, path: Path, address: str, password: str = PASSWORD) -> None:
        auth = base64.b64encode(f"{NAME}:{password}".encode()).decode()
        path.write_text(json.dumps({"auths": {address: {"auth": auth}}}))

    def test_basic(self, program: Path, tmp_path: Path, push: Pushed, bundle: Path, credentials: Path):
        (tmp_path / "htpasswd").write_text(HTPASSWD)
        auth = {"htpasswd": {"realm": "gates", "path": str(tmp_path / "htpasswd")}}
        with registry(program, tmp_path / "registry", auth=auth) as running:
            target = f"oci+http://{running.address}/gates"
            status, _, err = push.try_to(bundle, target)
            assert status == 3
            assert "wants a login" in err
            self._write(credentials, running.address, "wrong")
            status, _, err = push.try_to(bundle, target, "--credentials", credentials)
            assert status == 3
            assert "the login does not suffice" in err
            self._write(credentials, running.address)
            reference = push(bundle, target, "--credentials", credentials)
            anonymous = Watched(reference)
            assert (anonymous.failing, "wants a login" in anonymous.messages) == ([Reason.BUNDLE_UNREADABLE], True)
            self._write(credentials, running.address, "wrong")
            watched = Watched(reference, registry_credentials=credentials)
            assert "401" in watched.messages
            assert "wrong" not in watched.messages
            self._write(credentials, running.address)
            watched.activation.look()
            assert (watched.revisions, watched.failing) == ({"guarded": 3}, [])

    @pytest.mark.parametrize("private", [False, True])
    def test_tokens(self, program: Path, tmp_path: Path, push: Pushed, bundle: Path, credentials: Path, private: bool):
        with (
            TokenServer(tmp_path / "tokens", private) as tokens,
            registry(program, tmp_path / "registry", auth=tokens.settings()) as running,
        ):
            self._write(credentials, running.address)
            more = ("--credentials", credentials) if private else ()
            reference = push(bundle, f"oci+http://{running.address}/team/gates", *more)
            scopes = [f"scope=repository%3Ateam%2Fgates%3A{actions}" for actions in ("pull%2Cpush", "push%2Cpull")]
            assert any(scope in tokens.asked[-1][0] for scope in scopes), "the registry asks for both, in any order"
            tokens.asked.clear()
            watched = Watched(reference, registry_credentials=credentials if private else None)
            assert (watched.revisions, watched.failing) == ({"guarded": 3}, [])
            ((path, authorization),) = tokens.asked
            assert path.startswith("/token?service=gates-test&scope=repository%3Ateam%2Fgates%3Apull")
            assert (authorization is not None) == private
            anonymous = Watched(reference)
            assert anonymous.failing == ([Reason.BUNDLE_UNREADABLE] if private else [])


@contextlib.contextmanager
def _front(registry_address: str, blobs: str) -> Iterator[str]:
    """A registry that keeps its blobs elsewhere, as those of cloud providers do."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/blobs/" in self.path:
                self.send_response(307)
                self.send_header("Location", f"{blobs}{self.path}" if "{" not in blobs else blobs.format(self.path))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, body, _ = _call(registry_address, "GET", self.path, Accept=MANIFEST_TYPE)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class TestBlobsElsewhere:
    def test_a_redirect_is_followed(self, plain: Registry, push: Pushed, bundle: Path):
        reference = push(bundle, f"oci+http://{plain.address}/redirected")
        with _front(plain.address, f"http://{plain.address}") as front:
            assert Watched(reference.replace(plain.address, front)).revisions == {"guarded": 3}

    @pytest.mark.parametrize("target", ["ftp://127.0.0.1:1{}", "http://me:pass@127.0.0.1:1{}", "{}", "http://[{}"])
    def test_a_redirect_to_nowhere_or_in_circles_is_none(
        self, plain: Registry, push: Pushed, bundle: Path, target: str
    ):
        reference = push(bundle, f"oci+http://{plain.address}/redirected")
        with _front(plain.address, target) as front:
            assert Watched(reference.replace(plain.address, front)).failing == [Reason.BUNDLE_UNREADABLE]


def test_serve_takes_a_reference_from_flag_file_and_environment(plain: Registry, push: Pushed, bundle: Path):
    reference = push(bundle, f"oci+http://{plain.address}/served")
    for arguments, environment in (
        (["--bundle", reference], {}),
        (["--bundle", f"named={reference}"], {}),
        ([], {"GATE_BUNDLES": reference}),
    ):
        command = [sys.executable, "-m", "sidecar.cli", "serve", *arguments, "--upstream", "127.0.0.1:1"]
        with subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        ) as process:
            try:
                line = next(line for line in process.stderr if " active for " in line)
                assert f"active for {'named' if 'named' in str(arguments) else 'guarded'}" in line
                assert f"oci+http://{plain.address}/served" in line
            finally:
                process.kill()


def test_a_pull_has_one_deadline_and_holds_up_no_other_source(plain: Registry, bundle: Path):
    missing = OciSource(f"oci+http://{plain.address}/refused@sha256:{'0' * 64}")
    settings = ServeSettings((missing, BundleSource(bundle)), "127.0.0.1:1", bundle_timeout_seconds=0.000001)
    held = ActiveRegistry(active_models([]))
    activation = Activation(settings, held, Metrics())
    activation.start()
    assert list(held.current.bundles) == ["guarded"]
    assert "not done in 1e-06 s" in next(iter(activation.state.failures)).message
