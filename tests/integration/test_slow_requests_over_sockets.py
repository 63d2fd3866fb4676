"""Requests that never end, on the portable transport: gRPC shows neither how much of them is here nor how large
they will be, so they give way. (The native transport counts every byte as it comes, and each request has its time.)
"""

import threading
import time

import grpc
import pytest

from sidecar.proxy import receipts
from sidecar.proxy.methods import HEALTH_CHECK, HEALTH_WATCH, MODEL_INFER, REFLECTION
from tests.conformance.guarded_model import request, response
from tests.integration.proxy_harness import call, settings, sidecar
from tests.waiting import wait_until

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()


@pytest.fixture
def upstream(held_upstream):
    held_upstream.fine = FINE
    return held_upstream


async def _set(event):
    event.set()


def _all_given_back(running):
    wait_until(lambda: running.metrics.value("gate_calls_in_flight") == 0)
    assert running.metrics.value("gate_held_bytes") == 0


def _refused(running, reason):
    return running.metrics.value("gate_refusals_total", model="", reason=reason)


@pytest.mark.parametrize("method", [MODEL_INFER, HEALTH_CHECK, HEALTH_WATCH, REFLECTION])
def test_requests_that_never_end_give_way_and_ordinary_ones_do_not_notice(
    loop, upstream, tmp_path, monkeypatch, method
):
    monkeypatch.setattr(receipts, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(receipts, "SWEEP_SECONDS", 0.05)
    loop.run(_set(upstream.release))
    release, ended = threading.Event(), []

    def hold(channel):
        def never():
            release.wait(10)
            yield from ()

        call_ = channel.stream_stream(method)(never(), timeout=10)
        ended.append((call_.code(), dict(call_.trailing_metadata()).get("gate-reason")))

    made = settings(tmp_path, upstream.port, limit_bytes=10_000, limit_held_bytes=20_000)
    with sidecar(loop, made) as running, grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        threads = [threading.Thread(target=hold, args=(channel,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(ended) == 3)
        assert set(ended) == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "memory_exhausted")}
        assert call(running.listen_port, MODEL_INFER, INSIDE).body == FINE
        time.sleep(0.5)
        assert len(ended) == 3  # two may take long
        assert _refused(running, "memory_exhausted") == 3
        release.set()
        for thread in threads:
            thread.join()
        _all_given_back(running)
