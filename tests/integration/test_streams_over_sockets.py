"""ModelStreamInfer between a client and an upstream, on real sockets."""

import asyncio
import json
import logging
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from sidecar.config import Outside, UpstreamWords
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.correlation import MAX_REQUESTS_IN_FLIGHT
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.serve import start_sidecar
from tests.conformance.guarded_model import request, response, values
from tests.integration.proxy_harness import http2_call, settings, sidecar
from tests.integration.stream_harness import ASK, FINAL, StreamUpstream, stream, streamed
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

FINE, TOO_HIGH = response([[0.5, 0, 0]]), response([[3, 2, 1]])
INSIDE = request([0.75, 0]).SerializeToString()
NAN = response([[float("nan"), 0, 0]])


def fine(own_id: str) -> bytes:
    return streamed(FINE, own_id=own_id, final=True)


def more(own_id: str) -> bytes:
    return streamed(FINE, own_id=own_id, final=False)


def too_high(own_id: str) -> bytes:
    return streamed(TOO_HIGH, own_id=own_id, final=False)


def unreadable(own_id: str) -> bytes:
    return streamed(NAN, own_id=own_id, final=False)


def empty_final(own_id: str) -> bytes:
    return streamed(own_id=own_id, final=True)


def asking(client_id="42", x=(0.75, 0), **parameters) -> pb.ModelInferRequest:
    message = request(x, id=client_id)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


@pytest.fixture
def upstream(loop):
    upstream = StreamUpstream()
    upstream.port = loop.run(upstream.start())
    upstream.answer([fine])
    yield upstream
    loop.run(upstream.server.stop(0))


@pytest.fixture
def words():
    """Which of the upstream's error texts clients get; tests say otherwise by parameter."""
    return UpstreamWords.CALLERS


@pytest.fixture
def running(loop, upstream, tmp_path, words):
    with sidecar(loop, settings(tmp_path, upstream.port, upstream_words=words)) as running:
        yield running


ALL_WORDS = pytest.mark.parametrize("words", [UpstreamWords.ALL])


@pytest.fixture
def client(running):
    with stream(running.listen_port) as client:
        yield client


def _counted(running, name: str, **labels: str) -> float | None:
    return running.metrics.value(f"{name}_total", model="guarded", **labels)


def _y(message: pb.ModelStreamInferResponse) -> list:
    return values(message.infer_response.SerializeToString(), "y").tolist()


class TestIds:
    def test_upstream_are_ours_and_distinct_and_the_clients_come_back(self, client, upstream):
        client.send(asking("same"), asking("same"), asking("other"))
        assert [message.infer_response.id for message in client.rest()] == ["same", "same", "other"]
        ids = {asked.id for asked in upstream.asked}
        assert len(ids) == 3
        assert not ids & {"same", "other"}

    def test_that_are_absent_stay_absent(self, client):
        client.send(asking(""))
        assert client.next().infer_response.id == ""

    def test_of_responses_out_of_order_are_matched(self, client, upstream):
        async def behave(context) -> None:
            requests = [each async for each in upstream.requests(context)]
            # By plan: the first lies in `ceiling`'s domain (y0 <= 1), the second in none.
            for each in reversed(requests):
                await context.write(streamed(TOO_HIGH, own_id=each.id, final=True))

        upstream.behaviour = behave
        client.send(asking("inside"), asking("outside", x=(20, 0)))
        got = {message.infer_response.id: _y(message) for message in client.rest()}
        assert got == {"inside": [[1, 2, 1]], "outside": [[3, 2, 1]]}

    @pytest.mark.parametrize("client_id", ["Jürg", "x" * 10_000, "\0"])
    def test_may_be_any_text(self, client, client_id):
        client.send(asking(client_id))
        assert client.next().infer_response.id == client_id


class TestFidelity:
    def test_an_untouched_response_is_the_upstreams_bytes_but_for_the_id(self, client, upstream):
        unknown, inner_unknown = b"\xf2\x3f\x01!", b"\xf2\x3f\x02ab\xfb\x3f\x08\x01\xfc\x3f"

        def make(own_id: str) -> bytes:
            inner = FINE.SerializeToString()
            head = pb.ModelInferResponse(id="zz", model_name="first").SerializeToString()
            inner = head + inner_unknown + inner + pb.ModelInferResponse(id=own_id).SerializeToString()
            return unknown + b"\x12" + _varint(len(inner)) + inner

        upstream.answer([make])
        client.send(asking("42"))
        got = client.next_bytes()
        inner = inner_unknown + FINE.SerializeToString()
        assert got.startswith(unknown)
        assert inner_unknown in got
        message = pb.ModelStreamInferResponse.FromString(got).infer_response
        expected = pb.ModelInferResponse.FromString(inner)
        assert message.id == "42"
        assert message.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)

    def test_a_request_keeps_its_fields_unknown_ones_included(self, client, upstream):
        content = asking("1", sequence_id=7, sequence_start=True, sequence_end=False, note="x").SerializeToString()
        client.send(content + b"\xf2\x3f\x01!")
        client.next()
        asked = upstream.asked[0]
        assert b"\xf2\x3f\x01!" in asked.SerializeToString()
        assert asked.parameters["sequence_id"].int64_param == 7
        assert asked.parameters["sequence_start"].bool_param is True
        assert asked.parameters["sequence_end"].HasField("bool_param")
        assert asked.parameters["note"].string_param == "x"

    def test_a_sequence_id_may_be_a_string(self, client, upstream):
        client.send(asking("1", sequence_id="seven"))
        client.next()
        assert upstream.asked[0].parameters["sequence_id"].string_param == "seven"

    def test_outputs_asked_for_on_the_gates_behalf_are_taken_out_again(self, client, upstream):
        upstream.answer([too_high])
        message = asking("1")
        message.outputs.add(name="y")
        client.send(message)
        assert [output.name for output in client.next().infer_response.outputs] == ["y", "note"]
        assert [output.name for output in upstream.asked[0].outputs] == ["y", "z"]


class TestDecoupledModels:
    def test_every_response_of_a_request_is_judged(self, client, upstream, running):
        upstream.answer([more, too_high, unreadable, too_high, fine])
        client.send(asking("7"))
        got = client.rest()
        assert [message.infer_response.id for message in got] == ["7"] * 5
        assert [_y(got[n]) for n in (0, 1, 3, 4)] == [[[0.5, 0, 0]], [[1, 2, 1]], [[1, 2, 1]], [[0.5, 0, 0]]]
        assert got[2].error_message.startswith("output_not_finite: ")
        assert not got[2].infer_response.outputs
        assert got[2].infer_response.parameters[FINAL].bool_param is False
        assert _counted(running, "gate_rows", outcome="corrected") == 2
        assert _counted(running, "gate_requests", outcome="refused") == 1
        assert _counted(running, "gate_refusals", reason="output_not_finite") == 1

    def test_an_empty_final_response_goes_to_who_asked_for_it(self, client, upstream):
        upstream.answer([too_high, empty_final])
        client.send(asking("7", **{ASK: True}))
        got = client.rest()
        assert _y(got[0]) == [[1, 2, 1]]
        assert got[1].infer_response.parameters[FINAL].bool_param
        assert (got[1].infer_response.id, len(got)) == ("7", 2)

    @pytest.mark.parametrize("parameters", [{}, {ASK: False}, {ASK: "true"}])
    def test_an_empty_final_response_does_not_go_to_who_did_not(self, client, upstream, running, parameters):
        upstream.answer([more, empty_final])
        client.send(asking("7", **parameters))
        assert len(client.rest()) == 1
        assert upstream.asked[0].parameters[ASK].bool_param is True
        assert _counted(running, "gate_requests", outcome="untouched") == 1

    def test_a_final_response_with_contents_but_no_tensors_is_judged(self, client, upstream):
        def make(own_id: str) -> bytes:
            return streamed(pb.ModelInferResponse(raw_output_contents=[b"\0" * 12]), own_id=own_id, final=True)

        upstream.answer([make])
        client.send(asking("7"))
        assert client.next().error_message.startswith("upstream_output_")

    def test_a_response_without_tensors_that_is_not_final_is_judged(self, client, upstream):
        upstream.answer([lambda own_id: streamed(own_id=own_id, final=False)])
        client.send(asking("7"))
        assert client.next().error_message.startswith("upstream_output_missing: ")

    def test_a_server_that_never_says_which_response_is_the_last_is_served_for_ever(self, client, upstream):
        upstream.answer([lambda own_id: streamed(TOO_HIGH, own_id=own_id)] * 2)
        count = 2 * MAX_REQUESTS_IN_FLIGHT + 10
        client.send(*(asking(str(n)) for n in range(count)))
        got = client.rest()
        assert [message.infer_response.id for message in got] == [str(n) for n in range(count) for _ in (1, 2)]
        assert all(_y(message) == [[1, 2, 1]] for message in got)


class TestErrorsWithinTheStream:
    @ALL_WORDS
    def test_of_the_upstream_pass_without_tensors_under_the_clients_id(self, client, upstream, running):
        upstream.answer([lambda own_id: streamed(NAN, own_id=own_id, final=True, error="no such thing")], [fine])
        client.send(asking("7"), asking("8"))
        got = client.rest()
        assert (got[0].error_message, got[0].infer_response.id) == ("no such thing", "7")
        assert not got[0].infer_response.outputs
        assert not got[0].infer_response.raw_output_contents
        assert got[0].infer_response.parameters[FINAL].bool_param
        assert _y(got[1]) == [[0.5, 0, 0]]
        assert _counted(running, "gate_refusals", reason="upstream_error") == 1
        assert _counted(running, "gate_requests", outcome="failed") == 1

    def test_a_refused_request_gets_one_with_its_id_and_the_stream_goes_on(self, client, upstream, running):
        client.send(asking("1", x=(np.nan, 0)), asking("2"))
        got = client.rest()
        assert (got[0].infer_response.id, got[0].error_message[:17]) == ("1", "input_not_finite:")
        assert (got[1].infer_response.id, _y(got[1])) == ("2", [[0.5, 0, 0]])
        assert len(upstream.asked) == 1
        assert _counted(running, "gate_requests", outcome="refused") == 1
        assert _counted(running, "gate_refusals", reason="input_not_finite") == 1

    def test_a_request_for_a_model_that_is_not_guarded_gets_one(self, client, upstream):
        client.send(request([0.75, 0], model_name="other"))
        assert client.rest()[0].error_message.startswith("model_not_guarded: ")
        assert upstream.opened == []

    def test_bytes_that_are_no_request_get_one(self, client):
        client.send(b"\xff\xff", asking("2"))
        got = client.rest()
        assert [message.error_message.partition(":")[0] for message in got] == ["malformed_request", ""]

    def test_a_request_outside_gets_one_where_that_is_refused(self, loop, upstream, tmp_path):
        configured = settings(tmp_path, upstream.port, outside=Outside.REFUSE)
        with sidecar(loop, configured) as running, stream(running.listen_port) as client:
            client.send(asking("3", x=(20, 0)))
            assert client.rest()[0].error_message.startswith("outside_domain: ")

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda _: streamed(NAN, own_id="no-such", final=True), id="unknown id"),
            pytest.param(lambda _: streamed(NAN, final=True), id="no id"),
            pytest.param(lambda _: streamed(error="secret"), id="error without id"),
            pytest.param(lambda own_id: streamed(NAN, own_id=own_id[:-1] + "2"), id="next id"),
        ],
    )
    def test_a_response_to_no_request_becomes_one(self, client, upstream, running, make):
        upstream.answer([make, fine])
        client.send(asking("7"))
        got = client.rest()
        assert got[0].error_message.startswith("upstream_uncorrelated: ")
        assert "secret" not in got[0].error_message
        assert got[0].infer_response == pb.ModelInferResponse()
        assert _y(got[1]) == [[0.5, 0, 0]]
        assert running.metrics.value("gate_refusals_total", model="", reason="upstream_uncorrelated") == 1

    def test_a_second_last_response_becomes_one(self, client, upstream):
        upstream.answer([fine, fine])
        client.send(asking("7"))
        got = client.rest()
        assert (_y(got[0]), got[0].error_message) == ([[0.5, 0, 0]], "")
        assert (got[1].error_message[:22], got[1].infer_response.id) == ("upstream_uncorrelated:", "")

    def test_bytes_that_are_no_response_end_the_stream(self, client, upstream, running):
        """Nobody knows whose answer it was: its request would wait for ever, and take a place in the stream."""
        upstream.answer([lambda _: b"\xff\xff", fine])
        client.send(asking("7"))
        end = client.error()
        assert end.code() is grpc.StatusCode.INTERNAL
        assert dict(end.trailing_metadata())["gate-reason"] == "upstream_malformed"
        assert _counted(running, "gate_requests", outcome="failed") == 1
        assert running.metrics.value("gate_calls_in_flight") == 0

    def test_of_the_upstream_say_nothing_of_it_and_the_record_says_all(self, client, upstream, caplog):
        upstream.answer([lambda own_id: streamed(NAN, own_id=own_id, final=True, error="no such path")], [fine])
        with caplog.at_level(logging.INFO, "sidecar.audit"):
            client.send(asking("7"), asking("8"))
            got = client.rest()
        assert got[0].error_message == "upstream_error: the model server could not answer"
        assert (got[0].infer_response.id, len(got[0].infer_response.outputs)) == ("7", 0)
        assert got[1].infer_response.id == "8"
        assert "no such path" in caplog.text

    @ALL_WORDS
    @pytest.mark.parametrize("ready", [True, False])
    def test_an_error_about_a_model_that_is_gone_is_unavailable(self, client, upstream, running, ready):
        """As Triton while it stops. Of a model that is there it is the upstream's to say."""
        upstream.ready = pb.ModelReadyResponse(ready=ready).SerializeToString()
        upstream.answer([lambda own: streamed(own_id=own, error="Request for unknown model", final=True)])
        client.send(asking("7"))
        (got,) = client.rest()
        assert got.infer_response.id == "7"
        if ready:
            assert got.error_message == "Request for unknown model"
        else:
            assert got.error_message.startswith("upstream_unavailable: ")
            assert "unknown model" not in got.error_message
        reason = "upstream_error" if ready else "upstream_unavailable"
        assert _counted(running, "gate_refusals", reason=reason) == 1


class TestTheEnd:
    def test_without_any_request_is_ok_and_never_reaches_the_upstream(self, client, upstream):
        assert client.rest() == []
        assert upstream.opened == []
        assert client.call.code() is grpc.StatusCode.OK

    def test_half_close_reaches_the_upstream_and_what_is_in_flight_is_answered(self, client, upstream):
        async def behave(context) -> None:
            requests = [each async for each in upstream.requests(context)]
            await asyncio.sleep(0.1)
            for each in requests:
                await context.write(fine(each.id))

        upstream.behaviour = behave
        client.send(asking("1"), asking("2"))
        assert len(client.rest()) == 2
        assert upstream.half_closed.is_set()
        assert client.call.code() is grpc.StatusCode.OK

    @pytest.mark.parametrize("half_close", [True, False])
    def test_that_comes_early_is_unavailable(self, client, upstream, running, half_close):
        async def behave(context) -> None:
            await context.read()

        upstream.behaviour = behave
        client.send(asking("1"))
        if half_close:
            client.half_close()
        ended = client.error()
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(ended.trailing_metadata())["gate-reason"] == "upstream_unavailable"
        assert _counted(running, "gate_requests", outcome="failed") == 1

    def test_that_comes_in_the_middle_of_a_requests_responses_is_unavailable(self, client, upstream):
        async def behave(context) -> None:
            async for each in upstream.requests(context):
                await context.write(more(each.id))

        upstream.behaviour = behave
        client.send(asking("1"))
        assert client.next().infer_response.id == "1"
        client.half_close()
        assert client.error().code() is grpc.StatusCode.UNAVAILABLE

    @pytest.mark.parametrize("words", UpstreamWords)
    def test_in_an_error_of_the_upstreams_is_told_with_its_words_and_metadata_or_neither(self, client, upstream, words):
        async def behave(context) -> None:
            async for each in upstream.requests(context):
                await context.write(fine(each.id))
                break
            await context.abort(grpc.StatusCode.ABORTED, "busy", (("x-late", "1"), ("gate-outcome", "forged")))

        upstream.behaviour = behave
        client.send(asking("1"))
        assert client.next().infer_response.id == "1"
        ended = client.error()
        is_told = words is UpstreamWords.ALL
        assert ended.code() is grpc.StatusCode.ABORTED
        assert ended.details() == ("busy" if is_told else "the model server could not answer")
        trailing = dict(ended.trailing_metadata())
        assert (trailing.get("x-late"), trailing["gate-reason"]) == ("1" if is_told else None, "upstream_error")
        assert "gate-outcome" not in trailing

    def test_without_an_upstream_is_unavailable_and_shows_no_address(self, loop, upstream, client):
        loop.run(upstream.server.stop(0))
        client.send(asking("1"))
        ended = client.error()
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert "127.0.0.1" not in ended.details()

    def test_by_the_clients_giving_up_cancels_the_upstream(self, client, upstream, running):
        async def behave(context) -> None:
            await context.read()
            await asyncio.sleep(60)

        upstream.behaviour = behave
        client.send(asking("1"))
        wait_until(lambda: upstream.opened)
        time.sleep(0.05)
        client.call.cancel()
        assert upstream.cancelled.wait(5)
        wait_until(lambda: _counted(running, "gate_requests", outcome="cancelled") == 1)

    def test_by_the_clients_giving_up_among_many_responses_is_no_defect_of_ours(self, running, upstream, caplog):
        upstream.answer([more] * 500)
        for count in range(20):
            with stream(running.listen_port) as client:
                client.send(asking("1"), asking("2"))
                for _ in range(10 * count + 1):
                    client.next_bytes()
        wait_until(lambda: _counted(running, "gate_requests", outcome="cancelled") > 0)
        time.sleep(0.2)
        assert running.metrics.value("gate_refusals_total", model="", reason="internal") in (0, None)
        assert "failed" not in caplog.text

    def test_by_a_deadline_that_never_comes_is_no_failure(self, running):
        http2_call(running.listen_port, MODEL_STREAM_INFER.encode(), INSIDE, {b"grpc-timeout": b"99999999H"})
        assert _counted(running, "gate_requests", outcome="untouched") == 1

    def test_by_the_clients_deadline(self, running, upstream):
        async def behave(context) -> None:
            await context.read()
            await asyncio.sleep(60)

        upstream.behaviour = behave
        with stream(running.listen_port, timeout=0.3) as client:
            client.send(asking("1"))
            assert client.error().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0 < upstream.opened[0][1] < 0.4
        assert upstream.cancelled.wait(5)

    def test_by_an_upstream_that_is_silent_while_a_request_is_in_flight(self, loop, upstream, tmp_path):
        async def behave(context) -> None:
            await context.write(fine((await anext(upstream.requests(context))).id))
            await context.read()
            await asyncio.sleep(60)

        upstream.behaviour = behave
        configured = settings(tmp_path, upstream.port, upstream_timeout_seconds=0.2)
        with sidecar(loop, configured) as running, stream(running.listen_port, timeout=None) as client:
            client.send(asking("1"))
            client.next()
            time.sleep(0.4)  # nothing is in flight: silence is no failure
            client.send(asking("2"))
            ended = client.error()
            assert ended.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert ended.details().startswith("upstream_deadline: ")
            assert upstream.cancelled.wait(5)

    def test_by_a_message_over_the_limit(self, loop, upstream, tmp_path):
        configured = settings(tmp_path, upstream.port, limit_bytes=10_000)
        with sidecar(loop, configured) as running, stream(running.listen_port) as client:
            client.send(asking("1"))
            assert client.next().infer_response.id == "1"
            client.send(asking("2", note="x" * 20_000))
            assert client.error().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(upstream.asked) == 1

    def test_by_our_stopping_comes_after_what_is_in_flight(self, loop, upstream, tmp_path):
        async def behave(context) -> None:
            async for each in upstream.requests(context):
                await asyncio.sleep(0.3)
                await context.write(fine(each.id))

        upstream.behaviour = behave
        running = loop.run(start_sidecar(settings(tmp_path, upstream.port)))
        with stream(running.listen_port) as client, stream(running.listen_port) as idle:
            client.send(asking("1"))
            idle.send(b"\xff")
            idle.next()
            wait_until(lambda: upstream.asked)
            started = time.monotonic()
            loop.run(running.stop())
            assert time.monotonic() - started < 3
            assert client.next().infer_response.id == "1"
            for each in (client, idle):
                ended = each.error()
                assert ended.code() is grpc.StatusCode.UNAVAILABLE
                assert dict(ended.trailing_metadata())["gate-reason"] == "stopping"

    def test_leaves_the_sidecar_serving(self, running):
        for _ in range(3):
            with stream(running.listen_port) as client:
                client.send(asking("1"))
                client.next()
        with stream(running.listen_port) as client:
            client.send(asking("1"))
            assert len(client.rest()) == 1


class TestMetadata:
    def test_passes_both_ways(self, running, upstream):
        async def behave(context) -> None:
            await context.send_initial_metadata((("x-early", "1"), ("gate-call-id", "forged")))
            async for each in upstream.requests(context):
                await context.write(fine(each.id))
            context.set_trailing_metadata((("x-late-bin", b"\xfe"), ("gate-call-id", "forged")))

        upstream.behaviour = behave
        sent = (("authorization", "Bearer abc"), ("x-trace-bin", b"\0\xff"), ("gate-mode", "off"))
        with stream(running.listen_port, metadata=sent) as client:
            client.send(asking("1"))
            client.rest()
            initial, trailing = dict(client.call.initial_metadata()), dict(client.call.trailing_metadata())
        got = upstream.opened[0][0]
        assert (got["authorization"], got["x-trace-bin"]) == ("Bearer abc", b"\0\xff")
        assert "gate-mode" not in got
        assert (initial["x-early"], trailing["x-late-bin"]) == ("1", b"\xfe")
        assert len(bytes.fromhex(initial["gate-call-id"])) == 16
        assert trailing["gate-call-id"] == initial["gate-call-id"]

    def test_that_grpc_does_not_allow_is_the_callers_fault(self, running, upstream):
        http2_call(running.listen_port, MODEL_STREAM_INFER.encode(), INSIDE, {b"x-user": "Jürg".encode()})
        refused = running.metrics.value("gate_refusals_total", model="", reason="malformed_request")
        assert (refused, upstream.asked) == (1, [])

    def test_compressed_requests_are_read(self, running):
        with stream(running.listen_port, compression=grpc.Compression.Gzip) as client:
            client.send(asking("1"))
            assert len(client.rest()) == 1

    def test_the_audit_record_numbers_the_messages_that_the_client_gets(self, client, upstream, caplog):
        caplog.set_level(logging.INFO, "sidecar.audit")
        upstream.answer([more, empty_final], [too_high, empty_final], [unreadable])
        client.send(asking("1"), asking("2"), asking("3"))
        client.next(), client.next(), client.next()
        call_id = dict(client.call.initial_metadata())["gate-call-id"]
        records = [json.loads(record.message) for record in caplog.records if record.name == "sidecar.audit"]
        decisions = [(record["decision"], record["outcome"]) for record in records]
        assert decisions == [(f"{call_id}/2", "corrected"), (f"{call_id}/3", "refused"), (f"{call_id}/3", "error")]


class TestBackPressure:
    def test_no_more_requests_are_read_than_may_be_in_flight(self, client, upstream):
        go = asyncio.Event()

        async def behave(context) -> None:
            waiting = []

            async def read() -> None:
                async for each in upstream.requests(context):
                    waiting.insert(len(waiting), each.id)

            reading = asyncio.create_task(read())
            await go.wait()
            while not reading.done() or waiting:
                await asyncio.sleep(0)
                if waiting:
                    await context.write(fine(waiting.pop(0)))

        upstream.behaviour = behave
        count = 2 * MAX_REQUESTS_IN_FLIGHT
        client.send(*(asking(str(n)) for n in range(count)))
        wait_until(lambda: len(upstream.asked) == MAX_REQUESTS_IN_FLIGHT)
        time.sleep(0.2)
        assert len(upstream.asked) == MAX_REQUESTS_IN_FLIGHT
        upstream.server._loop.call_soon_threadsafe(go.set)
        assert [message.infer_response.id for message in client.rest()] == [str(n) for n in range(count)]


class TestTritonClient:
    def test_streams(self, running, upstream):
        upstream.answer([more, too_high, empty_final], [unreadable, empty_final])
        tensor = triton.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[0.75, 0]], np.float32))
        results = []
        with triton.InferenceServerClient(f"127.0.0.1:{running.listen_port}") as client:
            client.start_stream(lambda result, error: results.append((result, error)))
            for request_id in ("1", "2"):
                client.async_stream_infer("guarded", [tensor], request_id=request_id, enable_empty_final_response=True)
            wait_until(lambda: len(results) == 5)
            client.stop_stream()
        np.testing.assert_array_equal(results[1][0].as_numpy("y"), [[1, 2, 1]])
        assert results[2][0].get_response().parameters[FINAL].bool_param
        assert "output_not_finite" in str(results[3][1])


def _varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
