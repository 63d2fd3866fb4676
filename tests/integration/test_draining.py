"""SIGTERM to a sidecar in a process of its own, under load, with an upstream that takes its time."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar.proxy.methods import MODEL_INFER
from tests.conformance.guarded_model import bundle_bytes, request, response
from tests.integration.proxy_harness import Carried, SocketUpstream, http
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()
SERVING = health_pb2.HealthCheckResponse.SERVING
PROGRAM = """
import asyncio, logging, pathlib, sys
from sidecar.config import BundleSource, ServeSettings, TransportChoice
from sidecar.proxy.serve import serve
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')
bundles = (BundleSource(pathlib.Path(sys.argv[1])),)
where = (sys.argv[2], '127.0.0.1:0', '127.0.0.1:0')
asyncio.run(serve(ServeSettings(bundles, *where, drain_delay_seconds=float(sys.argv[3]), drain_seconds=10.0,
    transport=TransportChoice(sys.argv[4]))))
"""


@pytest.fixture
def upstream(loop):
    upstream = SocketUpstream()
    upstream.port = loop.run(upstream.start())

    async def slow(_, __):
        await asyncio.sleep(0.7)
        return FINE

    upstream.behaviour = slow
    yield upstream
    loop.run(upstream.server.stop(0))


@contextlib.contextmanager
def _process(upstream, folder, delay):
    """A sidecar, and its two ports."""
    (folder / "b.gates").write_bytes(bundle_bytes())
    told = [str(folder / "b.gates"), f"127.0.0.1:{upstream.port}", str(delay), Carried.by]
    arguments = [sys.executable, "-u", "-c", PROGRAM, *told]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            words = next(line for line in process.stdout if line.startswith("listening")).replace(",", "").split()
            yield process, int(words[3]), int(words[7])
        finally:
            process.kill()


class _Clients:
    """They send until the health watch says that they had better not, as a load balancer does for them."""

    def __init__(self, port, count):
        self.answered, self.failed = [], []
        self._elsewhere = threading.Event()
        targets = [self._watch, *[self._send] * count]
        self._threads = [threading.Thread(target=target, args=(f"127.0.0.1:{port}",)) for target in targets]
        for thread in self._threads:
            thread.start()

    def _watch(self, target):
        with grpc.insecure_channel(target) as channel, contextlib.suppress(grpc.RpcError):
            for message in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30):
                if message.status != SERVING:
                    break
        self._elsewhere.set()

    def _send(self, target):
        with grpc.insecure_channel(target) as channel:
            while not self._elsewhere.is_set():
                pending = [channel.unary_unary(MODEL_INFER).future(INSIDE, timeout=10) for _ in range(5)]
                for each in pending:
                    try:
                        self.answered.append(each.result())
                    except grpc.RpcError as error:
                        self.failed.append(error)

    def join(self):
        for thread in self._threads:
            thread.join(20)


def test_sigterm_under_load_drops_no_call(upstream, tmp_path):
    with _process(upstream, tmp_path, delay=0.5) as (process, port, _):
        clients = _Clients(port, count=8)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        clients.join()
    assert clients.failed == []
    assert len(clients.answered) >= 80
    assert set(clients.answered) == {FINE}


def test_not_ready_comes_first_and_calls_are_still_taken(upstream, tmp_path):
    with _process(upstream, tmp_path, delay=3) as (process, port, admin):
        process.send_signal(signal.SIGTERM)
        assert any(line.startswith("stopping") for line in process.stdout)
        assert http(admin, "/readyz")[0] == 503
        assert http(admin, "/livez")[0] == 200
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary(MODEL_INFER)(INSIDE, timeout=5) == FINE
        assert process.wait(15) == 0


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["a person", "twice"])
def test_the_wait_is_cut_short(upstream, tmp_path, signals):
    with _process(upstream, tmp_path, delay=60) as (process, _, __):
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        assert process.wait(10) == 0
