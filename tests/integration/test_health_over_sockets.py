"""grpc.health.v1 as another maker's client sees it."""

import contextlib
import queue
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2 as theirs
from grpc_health.v1 import health_pb2_grpc

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy import health
from sidecar.proxy.methods import HEALTH_CHECK, HEALTH_WATCH, MODEL_READY
from sidecar.proxy.serve import start_sidecar
from tests.integration.proxy_harness import READY, call, settings, sidecar
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

SERVING, NOT_SERVING = theirs.HealthCheckResponse.SERVING, theirs.HealthCheckResponse.NOT_SERVING
UNKNOWN = theirs.HealthCheckResponse.SERVICE_UNKNOWN
LOADING = pb.ModelReadyResponse(ready=False).SerializeToString()


@pytest.fixture
def upstream(socket_upstream):
    return socket_upstream


@pytest.fixture
def running(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port)) as running:
        yield running


@contextlib.contextmanager
def _stub(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


def _check(port, service):
    with _stub(port) as stub:
        return stub.Check(theirs.HealthCheckRequest(service=service), timeout=5).status


class _Watch:
    """A watch, read in a thread."""

    def __init__(self, stub, service):
        self.call = stub.Watch(theirs.HealthCheckRequest(service=service), timeout=20)
        self._seen = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for message in self.call:
                self._seen.put(message.status)
        except grpc.RpcError as error:
            self._seen.put(error.code())

    def next(self):
        return self._seen.get(timeout=5)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "guarded"])
def test_check_says_serving_when_ready(running, service):
    assert _check(running.listen_port, service) == SERVING


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "guarded"])
def test_check_says_not_serving_while_the_model_is_loaded(loop, upstream, tmp_path, service):
    upstream.answers[MODEL_READY] = LOADING
    with sidecar(loop, settings(tmp_path, upstream.port)) as running:
        assert _check(running.listen_port, service) == NOT_SERVING


def test_check_does_not_know_what_no_bundle_guards(running, upstream):
    with pytest.raises(grpc.RpcError) as failed:
        _check(running.listen_port, "other")
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert upstream.asked == []


@pytest.mark.parametrize("method", [HEALTH_CHECK, HEALTH_WATCH])
def test_a_request_that_is_none_is_malformed_and_counted(running, method):
    with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        ended = channel.unary_stream(method)(b"\xff", timeout=5)
        assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert running.metrics.value("gate_refusals_total", model="", reason="malformed_request") == 1


def test_watch_tells_each_change_once(running, upstream):
    with _stub(running.listen_port) as stub:
        watch = _Watch(stub, "guarded")
        assert watch.next() == SERVING
        upstream.answers[MODEL_READY] = LOADING
        assert watch.next() == NOT_SERVING
        upstream.answers[MODEL_READY] = READY
        assert watch.next() == SERVING
        watch.call.cancel()


def test_watch_of_an_unknown_service_stays_open(running):
    with _stub(running.listen_port) as stub:
        watch = _Watch(stub, "other")
        assert watch.next() == UNKNOWN
        assert watch.call.is_active()
        watch.call.cancel()


def test_watchers_are_told_of_the_end_and_do_not_hold_it_up(loop, upstream, tmp_path):
    running = loop.run(start_sidecar(settings(tmp_path, upstream.port, drain_seconds=30.0)))
    with _stub(running.listen_port) as stub:
        watch = _Watch(stub, "")
        assert watch.next() == SERVING
        loop.run(running.stop(), timeout_seconds=5)
        assert watch.next() in (NOT_SERVING, grpc.StatusCode.UNAVAILABLE)


def test_too_many_watchers_are_refused(running, monkeypatch):
    monkeypatch.setattr(health, "MAX_WATCHERS", 1)
    with _stub(running.listen_port) as stub:
        watch = _Watch(stub, "")
        assert watch.next() == SERVING
        assert _Watch(stub, "").next() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watch.call.cancel()
    assert running.metrics.value("gate_refusals_total", model="", reason="too_many_calls") == 1
    assert call(running.listen_port, HEALTH_CHECK, b"").code is grpc.StatusCode.OK
