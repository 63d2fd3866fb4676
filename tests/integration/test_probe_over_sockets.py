"""A compiled bundle, the embedded model server behind a sidecar, and other models put in its place."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.config import BundleSource, Probing, ServeSettings
from sidecar.model_server.server import RunningModelServer, start_model_server
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from sidecar.protocols.open_inference.client import encode_infer_request
from sidecar.protocols.open_inference.readiness import encode_model_ready_request
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from sidecar.proxy.upstream import GrpcUpstream, UpstreamReply
from sidecar.tensors import ModelSignature
from tests.integration.proxy_harness import call, http, sidecar
from tests.integration.small_models import NAME, OTHERS, PROPERTY, VERIFIED
from tests.integration.swapping import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The models' files, `b.gates` of the verified one, and `other.gates` of the fine-tuned one, a revision later."""
    folder = tmp_path_factory.mktemp("probe")
    for name, model in {"verified": VERIFIED, **OTHERS}.items():
        (folder / f"{name}.onnx").write_bytes(model.content())
    (folder / "p.vnnlib").write_text(PROPERTY)
    _compile(folder, "verified", "b.gates", 1)
    _compile(folder, "fine-tuned", "other.gates", 2)
    return folder


def _compile(folder: Path, model: str, output: str, revision: int) -> ModelSignature:
    read = read_model(folder / f"{model}.onnx")
    files = [read_properties(folder / "p.vnnlib", read.network.signature)]
    options = CompileOptions(NAME, revision, time_limit_seconds=None, max_regions=(4,))
    compiled = compile_bundle(with_batch_axis(read, files), files, options, lambda _: None)
    (folder / output).write_bytes(compiled.content)
    return compiled.bundle.manifest.signature


@pytest.fixture(scope="module")
def request_bytes(folder: Path) -> bytes:
    signature = read_model(folder / "verified.onnx").network.signature
    return encode_infer_request(NAME, np.full((1, 5), 0.5), signature)


class Server:
    """A model server that can be replaced by another one on the same port."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._running: RunningModelServer = start_model_server(folder / f"{model}.onnx", NAME, "127.0.0.1:0")
        self.port = self._running.port

    def replace(self, model: str) -> None:
        """At once: faster than anybody looks."""
        self.stop()
        self._running = start_model_server(self._folder / f"{model}.onnx", NAME, f"127.0.0.1:{self.port}")

    def stop(self) -> None:
        self._running.stop()


@contextlib.contextmanager
def serving(folder: Path, model: str) -> Iterator[Server]:
    server = Server(folder, model)
    try:
        yield server
    finally:
        server.stop()


def settings(bundle: Path, port: int, **changes) -> ServeSettings:
    fixed = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "drain_seconds": 2.0}
    chosen = {"probe": Probing.REQUIRED, "readiness_interval_seconds": 0.2, "bundle_poll_seconds": 0.05}
    return ServeSettings((BundleSource(bundle),), f"127.0.0.1:{port}", **{**fixed, **chosen, **changes})


def ready(admin_port: int) -> bool:
    return http(admin_port, "/readyz")[0] == 200


def probe_status(admin_port: int) -> dict:
    (model,) = json.loads(http(admin_port, "/status")[1])["models"]
    return model["probe"]


def test_the_verified_model_matches_and_is_served(loop, folder, request_bytes):
    with serving(folder, "verified") as server, sidecar(loop, settings(folder / "b.gates", server.port)) as running:
        wait_until(lambda: ready(running.admin_port))
        assert call(running.listen_port, MODEL_INFER, request_bytes).code is grpc.StatusCode.OK
        status = probe_status(running.admin_port)
        assert (status["policy"], status["result"], status["last_match"]) == ("required", "match", status["at"])
        assert status["rows"] > 10


@pytest.mark.parametrize("other", OTHERS)
def test_another_model_is_not_served(loop, folder, request_bytes, other):
    with serving(folder, other) as server, sidecar(loop, settings(folder / "b.gates", server.port)) as running:
        wait_until(lambda: probe_status(running.admin_port)["result"] == "mismatch")
        assert not ready(running.admin_port)
        refused = call(running.listen_port, MODEL_INFER, request_bytes)
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert refused.trailing["gate-reason"] == "upstream_unmatched"
        assert running.metrics.value("gate_probe_mismatch", model=NAME) == 1
        assert running.metrics.value("gate_refusals_total", model=NAME, reason="upstream_unmatched") == 1
        assert "output scores[" in probe_status(running.admin_port)["detail"]


def test_a_model_put_in_its_place_in_no_time_is_noticed_and_the_right_one_too(loop, folder, request_bytes):
    with serving(folder, "verified") as server, sidecar(loop, settings(folder / "b.gates", server.port)) as running:
        wait_until(lambda: ready(running.admin_port))
        server.replace("fine-tuned")
        wait_until(lambda: running.metrics.value("gate_probe_mismatch", model=NAME) == 1)
        assert not ready(running.admin_port)
        server.replace("verified")
        wait_until(lambda: ready(running.admin_port))
        assert call(running.listen_port, MODEL_INFER, request_bytes).code is grpc.StatusCode.OK


def test_a_lost_connection_is_counted_though_it_is_remade_at_once(loop, folder):
    async def connected(port: int) -> GrpcUpstream:
        return GrpcUpstream(f"127.0.0.1:{port}", 1 << 20, connections=2)

    request = encode_model_ready_request(NAME)
    with serving(folder, "verified") as server:
        upstream = loop.run(connected(server.port))
        loop.run(upstream.call(MODEL_READY, request, (), 5.0))
        assert upstream.losses == 0
        server.replace("verified")
        wait_until(lambda: upstream.losses == 1)
        wait_until(lambda: isinstance(loop.run(upstream.call(MODEL_READY, request, (), 5.0)), UpstreamReply))
        assert upstream.losses == 1
        loop.run(upstream.close())


def test_where_it_is_only_reported_another_model_is_served_guarded(loop, folder, request_bytes):
    with serving(folder, "fine-tuned") as server:
        made = settings(folder / "b.gates", server.port, probe=Probing.REPORT)
        with sidecar(loop, made) as running:
            wait_until(lambda: running.metrics.value("gate_probe_mismatch", model=NAME) == 1)
            assert ready(running.admin_port)
            assert call(running.listen_port, MODEL_INFER, request_bytes).code is grpc.StatusCode.OK


def test_a_bundle_for_another_model_waits_until_that_is_served(loop, folder, tmp_path):
    """A new model is rolled out, its bundle first."""
    path = tmp_path / "b.gates"
    path.write_bytes((folder / "b.gates").read_bytes())

    def revision(running) -> int:
        return running.registry.current.bundles[NAME].revision

    with serving(folder, "verified") as server, sidecar(loop, settings(path, server.port)) as running:
        wait_until(lambda: ready(running.admin_port))
        path.write_bytes((folder / "other.gates").read_bytes())
        wait_until(lambda: running.activation.state.failures)
        (failure,) = json.loads(http(running.admin_port, "/status")[1])["not_active"]
        assert failure["reason"] == "bundle_probe"
        assert revision(running) == 1
        assert ready(running.admin_port)
        server.replace("fine-tuned")
        wait_until(lambda: revision(running) == 2 and ready(running.admin_port))
        assert not running.activation.state.failures
