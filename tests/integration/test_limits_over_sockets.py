"""Limits on what is in flight: who comes too much is told so, at once, and all is given back afterwards."""

import contextlib
import json
import logging

import grpc
import pytest

from sidecar.proxy.methods import MODEL_INFER, SERVICE
from tests.conformance.guarded_model import request, response
from tests.integration.proxy_harness import call, settings, sidecar
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()
LIVE = SERVICE + "ServerLive"


@pytest.fixture
def upstream(held_upstream):
    held_upstream.fine = FINE
    held_upstream.answers[LIVE] = b""
    return held_upstream


@contextlib.contextmanager
def _in_flight(loop, upstream, running, message, count):
    """Some calls that wait for the upstream, each over a connection of its own; all are answered in the end."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{running.listen_port}", own)) for _ in range(count)
        ]
        pending = [channel.unary_unary(MODEL_INFER).future(message, timeout=10) for channel in channels]
        wait_until(lambda: len(upstream.asked) >= count)
        yield
        loop.run(_set(upstream.release))
        assert [each.result() for each in pending] == [FINE] * count


def _padded(size):
    """With an unknown field."""
    rest = size - len(INSIDE) - 4
    return INSIDE + b"\xf2\x3f" + bytes([rest & 0x7F | 0x80, rest >> 7]) + bytes(rest)


async def _set(event):
    event.set()


def _all_given_back(running):
    wait_until(lambda: running.metrics.value("gate_calls_in_flight") == 0)
    assert running.metrics.value("gate_held_bytes") == 0


def _refused(running, reason):
    return running.metrics.value("gate_refusals_total", model="", reason=reason)


def test_one_call_too_many_is_told_so_and_the_others_are_answered(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port, limit_calls=2)) as running:
        with _in_flight(loop, upstream, running, INSIDE, 2):
            assert running.metrics.value("gate_calls_in_flight") == 2
            reply = call(running.listen_port, MODEL_INFER, INSIDE)
            assert (reply.code, reply.trailing["gate-reason"]) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too_many_calls",
            )
            assert call(running.listen_port, LIVE, b"").trailing["gate-reason"] == "too_many_calls"
        _all_given_back(running)
        assert call(running.listen_port, MODEL_INFER, INSIDE).body == FINE
        assert _refused(running, "too_many_calls") == 2
        assert running.metrics.value("gate_requests_total", model="", outcome="refused") == 1
    assert len([method for method, *_ in upstream.asked if method == MODEL_INFER]) == 3


def test_what_is_refused_for_a_limit_has_an_audit_record_on_either_transport(loop, upstream, tmp_path, caplog):
    caplog.set_level(logging.INFO, "sidecar.audit")
    with sidecar(loop, settings(tmp_path, upstream.port, limit_calls=2, limit_bytes=2_000)) as running:
        large = call(running.listen_port, MODEL_INFER, _padded(3_000))
        with _in_flight(loop, upstream, running, INSIDE, 2):
            one_too_many = call(running.listen_port, MODEL_INFER, INSIDE)
        wait_until(lambda: len(_records(caplog)) == 2)
        assert running.metrics.value("gate_native_events_total", event="unrecorded_refusals") in (0, None)
    by_reason = {record["reason"]: record for record in _records(caplog)}
    assert by_reason.keys() == {"message_too_large", "too_many_calls"}
    record = by_reason["too_many_calls"]
    assert record["decision"] == one_too_many.trailing["gate-decision"]
    assert (record["model"], record["revision"], record["outcome"]) == (None, None, "error")
    assert record["message"] == one_too_many.details.partition(": ")[2]
    assert large.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def _records(caplog):
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "sidecar.audit"]


def test_bytes_of_requests_count_together(loop, upstream, tmp_path):
    message = _padded(1_000)
    limits = {"limit_bytes": 1_500, "limit_held_bytes": 1_900}
    with sidecar(loop, settings(tmp_path, upstream.port, **limits)) as running:
        with _in_flight(loop, upstream, running, message, 1):
            assert 1_000 <= running.metrics.value("gate_held_bytes") <= 1_010  # native: with gRPC's prefix
            reply = call(running.listen_port, MODEL_INFER, message)
            assert (reply.code, reply.trailing["gate-reason"]) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "memory_exhausted",
            )
            assert len(upstream.asked) == 1
        _all_given_back(running)
        assert _refused(running, "memory_exhausted") == 1


@pytest.mark.parametrize("method", [MODEL_INFER, LIVE])
def test_bytes_of_answers_count_too(loop, upstream, tmp_path, method):
    """A large answer meets a budget that its request still fitted: it is dropped, and the client learns why."""
    big = response([[0.5, 0, 0]])
    big.raw_output_contents[1] = bytes(8_000)
    upstream.answer(big.SerializeToString())
    upstream.answers[LIVE] = bytes(8_000)
    made = settings(tmp_path, upstream.port, limit_bytes=8_200, limit_held_bytes=8_200)
    with sidecar(loop, made) as running:
        reply = call(running.listen_port, method, _padded(500))
        assert (reply.body, reply.code) == (None, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert reply.trailing["gate-reason"] == "memory_exhausted"
        _all_given_back(running)


def test_calls_that_the_client_gives_up_give_back_what_they_held(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port)) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
            pending = [channel.unary_unary(MODEL_INFER).future(INSIDE, timeout=10) for _ in range(5)]
            wait_until(lambda: running.metrics.value("gate_calls_in_flight") == 5)
            for each in pending:
                each.cancel()
        _all_given_back(running)
