"""Streams and the limits on what is in flight: too much is said within the stream, and all is given back."""

import grpc
import pytest

from sidecar.config import TransportChoice
from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.guarded_model import request, response, values
from tests.integration.proxy_harness import settings, sidecar
from tests.integration.stream_harness import StreamUpstream, stream, streamed
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

FINE = response([[0.5, 0, 0]])


def asking(client_id: str, padding: int = 0) -> pb.ModelInferRequest:
    message = request((0.75, 0), id=client_id)
    if padding:
        message.parameters["padding"].string_param = "x" * padding
    return message


def final(own_id: str) -> bytes:
    return streamed(FINE, own_id=own_id, final=True)


def unmarked(own_id: str) -> bytes:
    return streamed(FINE, own_id=own_id)


@pytest.fixture
def upstream(loop):
    """It answers when no more requests come."""
    upstream = StreamUpstream()
    upstream.port = loop.run(upstream.start())

    async def behave(context) -> None:
        ids = [each.id async for each in upstream.requests(context)]
        for own_id in ids:
            await context.write(final(own_id))

    upstream.behaviour = behave
    yield upstream
    loop.run(upstream.server.stop(0))


def _in_flight(running) -> tuple[float, float]:
    return running.metrics.value("gate_calls_in_flight"), running.metrics.value("gate_held_bytes")


TOO_MANY_CALLS = {"limit_calls": 2}  # the stream itself is one
MEMORY_EXHAUSTED = {"limit_bytes": 1_500, "limit_held_bytes": 1_900}


def _refused_in_band(upstream, running, reason):
    with stream(running.listen_port) as client:
        client.send(asking("first", 1_000), asking("second", 1_000))
        refused = client.next()
        assert refused.error_message.startswith(f"{reason}: ")
        assert refused.infer_response.id == "second"
        calls, held = _in_flight(running)
        assert calls == 2
        assert 1_000 < held < 1_500
        (answer,) = client.rest()
        assert (answer.error_message, answer.infer_response.id) == ("", "first")
    wait_until(lambda: _in_flight(running) == (0, 0))
    assert len(upstream.asked) == 1
    assert running.metrics.value("gate_refusals_total", model="", reason=reason) == 1
    assert running.metrics.value("gate_requests_total", model="", outcome="refused") == 1


def test_a_request_too_many_is_refused_in_band_and_the_stream_goes_on(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port, **TOO_MANY_CALLS)) as running:
        _refused_in_band(upstream, running, "too_many_calls")


def test_a_request_too_large_for_what_may_be_held_is_refused(loop, upstream, tmp_path, transport):
    with sidecar(loop, settings(tmp_path, upstream.port, **MEMORY_EXHAUSTED)) as running:
        if transport is TransportChoice.PORTABLE:
            _refused_in_band(upstream, running, "memory_exhausted")
            return
        # It is not read to its end, so nobody knows its id: the stream ends.
        with stream(running.listen_port) as client:
            client.send(asking("first", 1_000), asking("second", 1_000))
            ended = client.error()
            assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(ended.trailing_metadata())["gate-reason"] == "memory_exhausted"
        wait_until(lambda: _in_flight(running) == (0, 0))
        assert running.metrics.value("gate_refusals_total", model="", reason="memory_exhausted") == 1


def test_a_refused_message_that_is_no_request_is_refused_without_an_id(loop, upstream, tmp_path):
    with (
        sidecar(loop, settings(tmp_path, upstream.port, limit_calls=1)) as running,
        stream(running.listen_port) as client,
    ):
        client.send(b"\xff")
        refused = client.next()
        assert refused.error_message.startswith("too_many_calls: ")
        assert refused.infer_response.id == ""


def test_a_stream_too_many_is_refused_as_a_call_is(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port, limit_calls=1)) as running:
        with stream(running.listen_port):
            wait_until(lambda: _in_flight(running) == (1, 0))
            with stream(running.listen_port) as other:
                ended = other.error()
                assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert dict(ended.trailing_metadata())["gate-reason"] == "too_many_calls"
        wait_until(lambda: _in_flight(running) == (0, 0))
        assert running.metrics.value("gate_refusals_total", model="", reason="too_many_calls") == 1


def test_a_response_that_is_too_much_is_dropped_in_band(loop, upstream, tmp_path):
    big = response([[0.5, 0, 0]])
    big.raw_output_contents[1] = bytes(8_000)
    upstream.answer([lambda own_id: streamed(big, own_id=own_id, final=True)], [final])
    limits = {"limit_bytes": 8_500, "limit_held_bytes": 8_500}
    with sidecar(loop, settings(tmp_path, upstream.port, **limits)) as running:
        with stream(running.listen_port) as client:
            client.send(asking("big", 1_000))
            refused = client.next()
            assert refused.error_message.startswith("memory_exhausted: ")
            assert refused.infer_response.id == "big"
            client.send(asking("small"))
            (answer,) = client.rest()
            assert values(answer.infer_response.SerializeToString(), "y").tolist() == [[0.5, 0, 0]]
        wait_until(lambda: _in_flight(running) == (0, 0))


def test_requests_that_nothing_says_the_end_of_are_no_calls_any_more(loop, upstream, tmp_path):
    upstream.answer([unmarked])
    with sidecar(loop, settings(tmp_path, upstream.port, limit_calls=2)) as running:
        with stream(running.listen_port) as client:
            held = 0
            for number in range(5):
                client.send(asking(str(number)))
                assert client.next().error_message == ""
                held += asking(str(number)).ByteSize()
                wait_until(lambda: _in_flight(running) == (1, held))  # noqa: B023 (at once)
        wait_until(lambda: _in_flight(running) == (0, 0))


def test_streams_that_the_client_gives_up_give_back_what_they_held(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port)) as running:
        with stream(running.listen_port) as client:
            client.send(asking("a"), asking("b"))
            wait_until(lambda: _in_flight(running)[0] == 3)
            client.call.cancel()
        wait_until(lambda: _in_flight(running) == (0, 0))
