"""The sidecar between a client and an upstream, on real sockets."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from http import HTTPStatus
from socketserver import ThreadingMixIn

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sidecar.config import BundleSource, Outside, TransportChoice
from sidecar.errors import InputError, OperationError
from sidecar.gates.values import Mode
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.admin import MAX_CONNECTIONS, AdminServer, Page
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import (
    DENIED,
    MODEL_INFER,
    MODEL_READY,
    RULES,
    SERVER_READY,
    SERVICE,
    STREAM_PREDICTIONS,
    Rule,
)
from sidecar.proxy.serve import start_sidecar
from tests.conformance.guarded_model import bundle_bytes, request, response, typed_response, values
from tests.integration.proxy_harness import (
    READY,
    Carried,
    SocketUpstream,
    call,
    http,
    http2_call,
    settings,
    sidecar,
)
from tests.transports import BOTH_TRANSPORTS
from tests.waiting import wait_until

pytestmark = BOTH_TRANSPORTS

INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()
TOO_HIGH = response([[3, 2, 1]]).SerializeToString()


@pytest.fixture
def upstream(socket_upstream):
    socket_upstream.answer(FINE)
    return socket_upstream


@pytest.fixture
def running(loop, upstream, tmp_path):
    with sidecar(loop, settings(tmp_path, upstream.port)) as running:
        yield running


def _live(running) -> bool:
    try:
        return http(running.admin_port, "/livez")[0] == 200
    except OSError:
        return False


def _infer(running, message: bytes = INSIDE, **arguments):
    return call(running.listen_port, MODEL_INFER, message, **arguments)


class TestTritonClient:
    @pytest.fixture
    def client(self, running):
        with triton.InferenceServerClient(f"127.0.0.1:{running.listen_port}") as client:
            yield client

    def _inputs(self, rows):
        rows = np.array(rows, np.float32)
        tensor = triton.InferInput("x", rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        return [tensor]

    def test_sees_a_corrected_answer(self, client, upstream):
        upstream.answer(TOO_HIGH)
        result = client.infer("guarded", self._inputs([[0.75, 0]]))
        np.testing.assert_array_equal(result.as_numpy("y"), [[1, 2, 1]])

    def test_sees_an_untouched_answer(self, client):
        result = client.infer("guarded", self._inputs([[0.75, 0]]), request_id="7")
        np.testing.assert_array_equal(result.as_numpy("y"), [[0.5, 0, 0]])
        np.testing.assert_array_equal(result.as_numpy("z"), [[0]])

    def test_gets_only_the_outputs_it_asked_for(self, client, upstream):
        upstream.answer(TOO_HIGH)
        result = client.infer("guarded", self._inputs([[0.75, 0]]), outputs=[triton.InferRequestedOutput("y")])
        np.testing.assert_array_equal(result.as_numpy("y"), [[1, 2, 1]])
        assert [output.name for output in result.get_response().outputs] == ["y", "note"]

    def test_sees_a_refusal(self, client, upstream):
        with pytest.raises(InferenceServerException, match="input_not_finite"):
            client.infer("guarded", self._inputs([[np.nan, 0]]))
        assert upstream.asked == []

    def test_may_not_ask_for_classification(self, client):
        outputs = [triton.InferRequestedOutput("y", class_count=2)]
        with pytest.raises(InferenceServerException, match="classification"):
            client.infer("guarded", self._inputs([[0.75, 0]]), outputs=outputs)

    def test_may_compress_with_gzip(self, client, upstream):
        upstream.answer(TOO_HIGH)
        result = client.infer("guarded", self._inputs([[0.75, 0]]), compression_algorithm="gzip")
        np.testing.assert_array_equal(result.as_numpy("y"), [[1, 2, 1]])

    def test_readiness_and_metadata_calls(self, client, upstream):
        upstream.answers[SERVICE + "ServerLive"] = pb.ServerLiveResponse(live=True).SerializeToString()
        upstream.answers[SERVICE + "ModelMetadata"] = pb.ModelMetadataResponse(name="guarded").SerializeToString()
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("guarded")
        assert client.get_model_metadata("guarded").name == "guarded"

    def test_may_not_load_or_unload_a_model(self, client, upstream):
        with pytest.raises(InferenceServerException, match="method_denied"):
            client.load_model("guarded")
        with pytest.raises(InferenceServerException, match="method_denied"):
            client.unload_model("guarded")
        assert upstream.asked == []

    def test_may_not_register_shared_memory(self, client, upstream):
        with pytest.raises(InferenceServerException, match="method_denied"):
            client.register_system_shared_memory("region", "/region", 64)
        assert upstream.asked == []


class TestMetadata:
    def test_of_the_client_reaches_the_upstream(self, running, upstream):
        sent = (("authorization", "Bearer abc"), ("x-tenant", "blue"), ("x-trace-bin", b"\0\xff"))
        _infer(running, metadata=sent)
        got = upstream.asked[0][2]
        assert {key: got[key] for key, _ in sent} == dict(sent)

    def test_named_like_ours_does_not_reach_the_upstream(self, running, upstream):
        reply = _infer(running, metadata=(("gate-mode", "off"), ("gate-call-id", "mine")))
        assert not [key for key in upstream.asked[0][2] if key.startswith("gate-")]
        assert reply.initial["gate-call-id"] != "mine"

    def test_of_the_upstream_reaches_the_client(self, running, upstream):
        async def behave(_, context):
            await context.send_initial_metadata((("x-early", "1"), ("gate-outcome", "forged")))
            context.set_trailing_metadata((("ce-id", "abc"), ("x-late-bin", b"\xfe"), ("gate-decision", "forged")))
            return FINE

        upstream.behaviour = behave
        reply = _infer(running)
        assert reply.initial["x-early"] == "1"
        assert (reply.trailing["ce-id"], reply.trailing["x-late-bin"]) == ("abc", b"\xfe")
        assert "gate-outcome" not in reply.initial
        assert reply.trailing["gate-decision"] != "forged"

    def test_of_more_than_8_kib_passes_both_ways(self, running, upstream):
        async def behave(_, context):
            context.set_trailing_metadata((("x-late", "b" * 20_000),))
            return FINE

        upstream.behaviour = behave
        reply = _infer(running, metadata=(("x-early", "a" * 20_000),), options=(("grpc.max_metadata_size", 64_000),))
        assert reply.trailing["x-late"] == "b" * 20_000
        assert upstream.asked[0][2]["x-early"] == "a" * 20_000

    def test_that_grpc_does_not_allow_is_the_callers_fault(self, running, upstream):
        http2_call(running.listen_port, MODEL_INFER.encode(), INSIDE, {b"x-user": "Jürg".encode()})
        refused = running.metrics.value("gate_refusals_total", model="guarded", reason="malformed_request")
        assert (refused, upstream.asked) == (1, [])
        assert running.metrics.value("gate_requests_total", model="guarded", outcome="refused") == 1

    def test_carries_the_decision_id(self, running):
        reply = _infer(running)
        call_id = reply.initial["gate-call-id"]
        assert len(bytes.fromhex(call_id)) == 16
        assert reply.trailing["gate-call-id"] == call_id
        assert reply.trailing["gate-decision"] == f"{call_id}/1"

    def test_carries_the_decision_id_of_a_refusal(self, running):
        reply = _infer(running, b"\xff")
        call_id = reply.initial["gate-call-id"]
        assert (reply.trailing["gate-call-id"], reply.trailing["gate-decision"]) == (call_id, f"{call_id}/1")


class TestBytes:
    def test_unknown_fields_pass_both_ways_in_other_methods(self, running, upstream):
        method = SERVICE + "ModelConfig"
        upstream.answers[method] = b"\xf2\x3f\x01!"
        reply = call(running.listen_port, method, b"\xf2\x3f\x01?")
        assert (reply.body, upstream.asked[0][1]) == (b"\xf2\x3f\x01!", b"\xf2\x3f\x01?")

    def test_untriggered_response_is_byte_identical(self, running, upstream):
        answer = FINE + b"\xf2\x3f\x01!"
        upstream.answer(answer)
        assert _infer(running).body == answer
        assert upstream.asked[0][1] == INSIDE

    @pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
    def test_compressed_requests_are_read(self, running, upstream, compression):
        upstream.answer(TOO_HIGH)
        reply = _infer(running, request(np.full((64, 2), 0.75)).SerializeToString(), compression=compression)
        assert reply.code is grpc.StatusCode.INTERNAL  # one row was answered, 64 were sent
        assert _infer(running, compression=compression).trailing["gate-outcome"] == "corrected"

    @pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
    def test_compressed_answers_are_read(self, running, upstream, compression):
        async def behave(_, context):
            context.set_compression(compression)
            return typed_response([[3, 2, 1]]).SerializeToString()

        upstream.behaviour = behave
        np.testing.assert_array_equal(values(_infer(running).body, "y"), [[1, 2, 1]])

    def test_a_message_of_more_than_4_mib_passes(self, running, upstream):
        big = pb.ModelInferRequest.FromString(INSIDE)
        big.inputs.add(name="picture", datatype="UINT8", shape=[5_000_000])
        big.raw_input_contents.append(bytes(5_000_000))
        answer = response([[0.5, 0, 0]])
        answer.raw_output_contents[1] = bytes(5_000_000)
        upstream.answer(answer.SerializeToString())
        assert _infer(running, big.SerializeToString()).body == answer.SerializeToString()

    def test_a_message_over_the_limit_is_refused_and_counted(self, loop, upstream, tmp_path):
        with sidecar(loop, settings(tmp_path, upstream.port, limit_bytes=10_000)) as running:
            reply = _infer(running, bytes(20_000))
            assert reply.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            wait_until(lambda: running.metrics.value("gate_refusals_total", model="", reason="message_too_large") == 1)
        assert upstream.asked == []

    def test_an_answer_over_the_limit_is_no_answer(self, loop, upstream, tmp_path):
        upstream.answer(bytes(20_000))
        with sidecar(loop, settings(tmp_path, upstream.port, limit_bytes=10_000)) as running:
            reply = _infer(running)
        assert (reply.body, reply.code) == (None, grpc.StatusCode.RESOURCE_EXHAUSTED)

    @pytest.mark.parametrize("method", [MODEL_INFER, STREAM_PREDICTIONS])
    def test_a_call_without_a_message_is_malformed(self, running, method):
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
            ended = channel.stream_stream(method)(iter(()), timeout=5)
            assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT
        wait_until(lambda: running.metrics.value("gate_refusals_total", model="", reason="malformed_request") == 1)
        assert running.metrics.value("gate_requests_total", model="", outcome="refused") == 1


class TestDeadlines:
    def test_for_ever_is_not_over_at_once(self, running):
        http2_call(running.listen_port, MODEL_INFER.encode(), INSIDE, {b"grpc-timeout": b"99999999H"})
        assert running.metrics.value("gate_requests_total", model="guarded", outcome="untouched") == 1

    def test_of_the_client_reaches_the_upstream(self, running, upstream):
        _infer(running, timeout=3.0)
        assert 1.0 < upstream.asked[0][3] <= 3.1  # gRPC rounds up what it sends

    def test_a_default_stands_in(self, loop, upstream, tmp_path):
        with sidecar(loop, settings(tmp_path, upstream.port, upstream_timeout_seconds=7.0)) as running:
            _infer(running, timeout=None)
        assert 5.0 < upstream.asked[0][3] <= 7.1

    def test_a_slow_upstream_is_given_up_on(self, loop, upstream, tmp_path):
        async def behave(_, __):
            await asyncio.sleep(30)

        upstream.behaviour = behave
        with sidecar(loop, settings(tmp_path, upstream.port, upstream_timeout_seconds=0.1)) as running:
            reply = _infer(running, timeout=None)
        assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reply.trailing["gate-reason"] == "upstream_deadline"
        assert upstream.cancelled.wait(5)

    def test_cancelling_reaches_the_upstream(self, running, upstream):
        async def behave(_, __):
            await asyncio.sleep(30)

        upstream.behaviour = behave
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
            pending = channel.unary_unary(MODEL_INFER).future(INSIDE)
            assert upstream.entered.wait(5)
            wait_until(lambda: upstream.asked)
            pending.cancel()
            assert upstream.cancelled.wait(5)
        wait_until(lambda: running.metrics.value("gate_requests_total", model="guarded", outcome="cancelled") == 1)


class TestBadUpstream:
    def test_that_is_down(self, loop, tmp_path):
        with sidecar(loop, settings(tmp_path, 1)) as running:
            reply = _infer(running)
            assert http(running.admin_port, "/readyz")[0] == 503
            assert http(running.admin_port, "/livez")[0] == 200
            ready = call(running.listen_port, SERVER_READY, b"").body
        assert reply.code is grpc.StatusCode.UNAVAILABLE
        assert reply.trailing["gate-reason"] == "upstream_unavailable"
        assert "127.0.0.1" not in reply.details
        assert not pb.ServerReadyResponse.FromString(ready).ready

    def test_whose_error_passes_with_code_details_and_trailers(self, running, upstream):
        async def behave(_, context):
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "unknown version 9", (("x-why", "gone"), ("grpc-status-details-bin", b"d"))
            )

        upstream.behaviour = behave
        reply = _infer(running)
        assert (reply.code, reply.details) == (grpc.StatusCode.NOT_FOUND, "unknown version 9")
        assert reply.trailing["grpc-status-details-bin"] == b"d"
        assert (reply.trailing["x-why"], reply.trailing["gate-reason"]) == ("gone", "upstream_error")

    @pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED])
    def test_that_no_longer_finds_a_guarded_model_is_unavailable(self, running, upstream, code):
        """As Triton while it stops: the calls that find it out come before the next question about readiness."""

        async def behave(_, context):
            upstream.answers[MODEL_READY] = pb.ModelReadyResponse(ready=False).SerializeToString()
            await context.abort(code, "Request for unknown model: 'guarded'")

        upstream.behaviour = behave
        for _ in range(2):
            reply = _infer(running)
            assert (reply.code, reply.trailing["gate-reason"]) == (
                grpc.StatusCode.UNAVAILABLE,
                "upstream_unavailable",
            )
            assert "unknown model" not in reply.details
        assert not running.readiness.ready

    def test_that_says_itself_that_it_is_unavailable(self, running, upstream):
        async def behave(_, context):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

        upstream.behaviour = behave
        reply = _infer(running)
        assert reply.code is grpc.StatusCode.UNAVAILABLE
        assert "draining" not in reply.details

    def test_whose_error_in_another_method_passes_and_is_counted(self, running):
        reply = call(running.listen_port, SERVICE + "ModelStatistics", b"")
        assert (reply.code, reply.details) == (grpc.StatusCode.UNIMPLEMENTED, "no such method here")
        assert running.metrics.value("gate_refusals_total", model="", reason="upstream_error") == 1

    @pytest.mark.parametrize(
        ("method", "message"),
        [
            (MODEL_INFER, INSIDE),
            (MODEL_INFER, request([1.5, 0]).SerializeToString()),
            (SERVICE + "ServerLive", b""),
        ],
        ids=["inside", "outside", "another-method"],
    )
    def test_that_ends_well_without_an_answer(self, loop, tmp_path, method, message):
        class Silent(grpc.GenericRpcHandler):
            def service(self, _):
                async def end(_request, context):
                    await context.read()

                return grpc.stream_stream_rpc_method_handler(end)

        async def start():
            server = grpc.aio.server(handlers=[Silent()], options=[("grpc.so_reuseport", 0)])
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = loop.run(start())
        with sidecar(loop, settings(tmp_path, port)) as running:
            reply = call(running.listen_port, method, message)
        loop.run(server.stop(0))
        assert (reply.body, reply.code) == (None, grpc.StatusCode.INTERNAL)
        assert reply.trailing["gate-reason"] == "upstream_malformed"

    def test_that_comes_back_is_used_again(self, loop, upstream, running):
        loop.run(upstream.server.stop(0))
        assert _infer(running).code is grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: not running.readiness.ready)
        again = SocketUpstream()
        again.answer(FINE)

        async def restart():
            again.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            again.server.add_generic_rpc_handlers((again,))
            again.server.add_insecure_port(f"127.0.0.1:{upstream.port}")
            await again.server.start()

        loop.run(restart())
        wait_until(lambda: running.readiness.ready, 10)
        assert _infer(running).body == FINE
        loop.run(again.server.stop(0))


class TestConnections:
    def test_several_carry_calls_at_once(self, loop, upstream, tmp_path):
        peers, all_here = set(), asyncio.Event()

        async def behave(_, context):
            peers.add(context.peer())
            if len(peers) == 3:
                all_here.set()
            await all_here.wait()
            return FINE

        upstream.behaviour = behave
        with (
            sidecar(loop, settings(tmp_path, upstream.port, upstream_connections=3)) as running,
            grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel,
        ):
            pending = [channel.unary_unary(MODEL_INFER).future(INSIDE, timeout=10) for _ in range(3)]
            assert [each.result() for each in pending] == [FINE] * 3


class TestMethods:
    @pytest.mark.parametrize("method", [method for method, rule in RULES.items() if rule in DENIED])
    def test_that_could_change_the_model_are_denied_and_counted(self, running, upstream, method):
        reply = call(running.listen_port, method, b"")
        assert reply.code is grpc.StatusCode.PERMISSION_DENIED
        assert reply.trailing["gate-reason"] == "method_denied"
        assert reply.trailing["gate-decision"] == f"{reply.initial['gate-call-id']}/1"
        assert running.metrics.value("gate_denied_calls_total", rule=RULES[method]) == 1
        assert upstream.asked == []

    @pytest.mark.parametrize(
        "method", [SERVICE + "ModelInfer2", "/grpc.health.v1.Health/List", "/inference.GRPCInferenceService/", "/x"]
    )
    def test_that_are_unknown_are_unimplemented_and_counted(self, running, upstream, method):
        reply = call(running.listen_port, method, b"")
        assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.UNIMPLEMENTED, "method_unsupported")
        assert running.metrics.value("gate_denied_calls_total", rule=Rule.UNSUPPORTED_UNKNOWN) == 1
        assert upstream.asked == []

    def test_server_ready_is_answered_here(self, running, upstream):
        body = call(running.listen_port, SERVER_READY, b"").body
        assert pb.ServerReadyResponse.FromString(body).ready
        assert upstream.asked == []

    def test_server_ready_follows_the_model(self, running, upstream):
        upstream.answers[MODEL_READY] = pb.ModelReadyResponse(ready=False).SerializeToString()
        wait_until(lambda: not running.readiness.ready)
        body = call(running.listen_port, SERVER_READY, b"").body
        assert not pb.ServerReadyResponse.FromString(body).ready
        upstream.answers[MODEL_READY] = b"\xff"  # nonsense is not ready
        time.sleep(0.15)
        assert http(running.admin_port, "/readyz")[0] == 503
        upstream.answers[MODEL_READY] = READY
        wait_until(lambda: running.readiness.ready)


class TestSettings:
    def test_shadow_for_all(self, loop, upstream, tmp_path):
        upstream.answer(TOO_HIGH)
        with sidecar(loop, settings(tmp_path, upstream.port, mode=Mode.SHADOW)) as running:
            reply = _infer(running)
            violations = running.metrics.value(
                "gate_violations_total", model="guarded", property="ceiling", mode="shadow", region="open"
            )
        assert (reply.body, violations) == (TOO_HIGH, 1)

    def test_off_for_all(self, loop, upstream, tmp_path):
        upstream.answer(TOO_HIGH)
        with sidecar(loop, settings(tmp_path, upstream.port, mode=Mode.OFF)) as running:
            assert _infer(running).body == TOO_HIGH

    def test_outside_refuse(self, loop, upstream, tmp_path):
        with sidecar(loop, settings(tmp_path, upstream.port, outside=Outside.REFUSE)) as running:
            reply = _infer(running, request([[0.75, 0], [1.5, 0]]).SerializeToString())
        assert reply.code is grpc.StatusCode.FAILED_PRECONDITION
        assert reply.trailing["gate-reason"] == "outside_domain"
        assert upstream.asked == []

    def test_another_model_name(self, loop, upstream, tmp_path):
        made = settings(tmp_path, upstream.port)
        made = dataclasses.replace(made, bundles=(BundleSource(made.bundles[0].path, "renamed"),))
        with sidecar(loop, made) as running:
            assert _infer(running).trailing["gate-reason"] == "model_not_guarded"
            renamed = request([0.75, 0], model_name="renamed").SerializeToString()
            assert _infer(running, renamed).body == FINE


class TestStarting:
    def _start(self, loop, settings):
        loop.run(start_sidecar(settings))

    def test_two_bundles_for_one_model(self, loop, tmp_path):
        made = settings(tmp_path, 1)
        copy = tmp_path / "copy.gates"
        copy.write_bytes(made.bundles[0].path.read_bytes())
        with pytest.raises(InputError, match=r"bundle_conflict.*guarded"):
            self._start(loop, dataclasses.replace(made, bundles=(*made.bundles, BundleSource(copy))))

    def test_two_bundles_under_different_names(self, loop, tmp_path):
        made = settings(tmp_path, 1)
        path = made.bundles[0].path
        with sidecar(loop, dataclasses.replace(made, bundles=(BundleSource(path), BundleSource(path, "twin")))) as both:
            models = json.loads(http(both.admin_port, "/status")[1])["models"]
        assert [model["model"] for model in models] == ["guarded", "twin"]

    def test_a_missing_bundle(self, loop, tmp_path):
        made = settings(tmp_path, 1, bundles=(BundleSource(tmp_path / "none.gates"),))
        with pytest.raises(InputError, match=r"none\.gates"):
            self._start(loop, made)

    def test_a_tampered_bundle(self, loop, tmp_path):
        made = settings(tmp_path, 1)
        content = bytearray(made.bundles[0].path.read_bytes())
        content[len(content) // 2] ^= 1
        made.bundles[0].path.write_bytes(content)
        with pytest.raises(InputError, match="bundle_digest"):
            self._start(loop, made)

    def test_a_listening_port_in_use(self, loop, upstream, running, tmp_path):
        address = f"127.0.0.1:{running.listen_port}"
        with pytest.raises(OperationError, match="--listen"):
            self._start(loop, settings(tmp_path, upstream.port, listen=address))

    @pytest.mark.parametrize("address", ["127.0.0.1:{}", "nonsense", "127.0.0.1:99999"])
    def test_an_admin_address_that_cannot_be_had(self, loop, upstream, running, tmp_path, address):
        with pytest.raises(OperationError, match="--admin"):
            self._start(loop, settings(tmp_path, upstream.port, admin=address.format(running.admin_port)))


class TestFailingClosed:
    def test_a_defect_of_ours_answers_nothing(self, upstream, running, caplog):
        """Gates without what they came from: correcting raises."""
        upstream.answer(TOO_HIGH)
        current = running.registry.current
        (bundle,) = current.bundles.values()
        broken = dataclasses.replace(bundle, gates=dataclasses.replace(bundle.gates, gates=()))
        running.registry.activate(dataclasses.replace(current, bundles={"guarded": broken}))
        with caplog.at_level(logging.ERROR, "sidecar.proxy"):
            reply = _infer(running)
        assert (reply.body, reply.code) == (None, grpc.StatusCode.INTERNAL)
        assert "index" not in reply.details
        assert reply.trailing["gate-decision"] in caplog.text
        assert running.metrics.value("gate_refusals_total", model="guarded", reason="internal") == 1
        assert running.metrics.value("gate_requests_total", model="guarded", outcome="failed") == 1

    def test_a_defect_while_passing_a_method_answers_nothing(self, loop, tmp_path):
        def defect(_):
            raise ZeroDivisionError("a secret of ours")

        method = SERVICE + "ServerLive"
        made = settings(tmp_path, 1, transport=TransportChoice.PORTABLE)  # the upstream's own defect is in our process
        with sidecar(loop, made, MemoryUpstream({method: defect})) as running:
            reply = call(running.listen_port, method, b"")
            assert (reply.body, reply.code) == (None, grpc.StatusCode.INTERNAL)
            assert "secret" not in reply.details
            assert running.metrics.value("gate_refusals_total", model="", reason="internal") == 1


class TestAdmin:
    def test_metrics_tell_what_happened(self, running, upstream):
        upstream.answer(TOO_HIGH)
        _infer(running)
        _infer(running, request([0.25, 0]).SerializeToString())
        _infer(running, b"\xff")
        text = http(running.admin_port, "/metrics")[1]
        for line in (
            'gate_requests_total{model="guarded",outcome="corrected"} 2.0',
            'gate_requests_total{model="guarded",outcome="untouched"} 0.0',
            'gate_requests_total{model="",outcome="refused"} 1.0',
            'gate_rows_total{model="guarded",outcome="corrected"} 2.0',
            'gate_violations_total{mode="enforce",model="guarded",property="ceiling",region="open"} 1.0',
            'gate_violations_total{mode="enforce",model="guarded",property="ceiling",region="silent"} 1.0',
            'gate_breaches_total{model="guarded",property="ceiling"} 1.0',
            'gate_breaches_total{model="guarded",property="order"} 0.0',
            'gate_corrections_total{action="project",model="guarded"} 2.0',
            'gate_corrections_total{action="fallback",model="guarded"} 0.0',
            'gate_refusals_total{model="",reason="malformed_request"} 1.0',
            'gate_in_domain_rows_total{model="guarded",property="ceiling",region="silent"} 1.0',
            'gate_denied_calls_total{rule="denied_shared_memory"} 0.0',
            'gate_request_duration_seconds_count{model="guarded"} 2.0',
            'gate_decision_duration_seconds_count{model="guarded"} 2.0',
            'gate_bundle_revision{model="guarded"} 3.0',
            'gate_upstream_model_ready{model="guarded"} 1.0',
        ):
            assert line in text

    def test_status_names_bundles_and_modes(self, running):
        status, text = http(running.admin_port, "/status")
        document = json.loads(text)
        assert (status, document["ready"], document["models"][0]["revision"]) == (200, True, 3)
        modes = {entry["id"]: entry["mode"] for entry in document["models"][0]["properties"]}
        assert (modes["ceiling"], modes["watched"], modes["asleep"]) == ("enforce", "shadow", "off")
        assert document["models"][0]["upstream_ready"] is True

    def test_ready_and_live(self, running):
        assert http(running.admin_port, "/readyz") == (200, "ready\n")
        assert http(running.admin_port, "/livez?verbose") == (200, "live\n")

    def test_over_ipv6(self, loop, tmp_path):
        if not socket.has_ipv6:
            pytest.skip("NOT RUN: no IPv6 on this machine")
        with (
            sidecar(loop, settings(tmp_path, 1, admin="[::1]:0")) as running,
            urllib.request.urlopen(f"http://[::1]:{running.admin_port}/livez", timeout=5) as answer,
        ):
            assert answer.status == 200

    def test_idle_connections_do_not_pile_up(self, running):
        address = ("127.0.0.1", running.admin_port)
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(socket.create_connection(address)) for _ in range(MAX_CONNECTIONS + 1)]
            idle[-1].settimeout(5)
            assert idle[-1].recv(1) == b""  # closed unanswered
            assert sum(thread.name.startswith("Thread-") for thread in threading.enumerate()) < MAX_CONNECTIONS + 20
        wait_until(lambda: _live(running))

    def test_a_connection_that_breaks_off_is_no_news_and_a_defect_is(self, caplog):
        asked = threading.Event()

        def defect():
            raise ZeroDivisionError("a secret of ours")

        def huge():
            asked.set()
            return Page(HTTPStatus.OK, "text/plain", bytes(50_000_000))

        admin = AdminServer("127.0.0.1:0", {"/defect": defect, "/huge": huge})
        with socket.create_connection(("127.0.0.1", admin.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"GET /huge HTTP/1.0\r\n\r\n")
            assert asked.wait(5)
        with pytest.raises(OSError, match="closed connection"):
            http(admin.port, "/defect")
        wait_until(lambda: "a secret of ours" in caplog.text)
        assert caplog.text.count("Traceback") == 1
        admin.close()

    def test_without_a_thread_to_be_had_a_connection_is_closed_and_the_next_one_served(self, monkeypatch, caplog):
        def no_thread(*_):
            raise RuntimeError("can't start new thread")

        admin = AdminServer("127.0.0.1:0", {"/livez": lambda: Page(HTTPStatus.OK, "text/plain", b"live")})
        with monkeypatch.context() as patch:
            patch.setattr(ThreadingMixIn, "process_request", no_thread)
            for _ in range(MAX_CONNECTIONS + 1):
                with pytest.raises(OSError, match=r"closed connection|reset"):
                    http(admin.port, "/livez")
        assert http(admin.port, "/livez") == (200, "live")
        assert "can't start new thread" in caplog.text
        admin.close()

    def test_an_unknown_page(self, running):
        assert http(running.admin_port, "/admin")[0] == 404


class TestAudit:
    def test_a_correction_leaves_one_line_with_the_clients_decision_id(self, running, upstream, caplog):
        upstream.answer(TOO_HIGH)
        with caplog.at_level(logging.INFO, "sidecar.audit"):
            reply = _infer(running)
            _infer(running, request([1.5, 0]).SerializeToString())
        (record,) = [json.loads(line.message) for line in caplog.records if line.name == "sidecar.audit"]
        assert record["decision"] == reply.trailing["gate-decision"]
        assert (record["model"], record["revision"], record["row"], record["outcome"]) == ("guarded", 3, 0, "corrected")
        assert record["gates"] == [{"property": "ceiling", "mode": "enforce", "label": "open"}]
        assert (record["action"], record["largest_change"], record["breach"]) == ("project", 2.0, False)

    def test_a_replaced_nan_is_recorded(self, running, upstream, caplog):
        upstream.answer(response([[float("nan"), 0, 0]]).SerializeToString())
        with caplog.at_level(logging.INFO, "sidecar.audit"):
            _infer(running, request([2.5, 0]).SerializeToString())
        (record,) = [json.loads(line.message) for line in caplog.records if line.name == "sidecar.audit"]
        assert (record["action"], record["largest_change"]) == ("fallback", "inf")

    def test_a_refusal_leaves_a_line(self, running, caplog):
        with caplog.at_level(logging.INFO, "sidecar.audit"):
            _infer(running, b"\xff")
        (record,) = [json.loads(line.message) for line in caplog.records if line.name == "sidecar.audit"]
        assert (record["outcome"], record["reason"], record["model"]) == ("error", "malformed_request", None)

    def test_a_denial_leaves_a_line(self, running, caplog):
        with caplog.at_level(logging.INFO, "sidecar.audit"):
            reply = call(running.listen_port, SERVICE + "RepositoryModelLoad", b"")
        (record,) = [json.loads(line.message) for line in caplog.records if line.name == "sidecar.audit"]
        assert (record["decision"], record["reason"]) == (reply.trailing["gate-decision"], "method_denied")


class TestStopping:
    def test_drops_readiness_first_and_finishes_what_is_in_flight(self, loop, upstream, tmp_path):
        release = asyncio.Event()

        async def behave(_, __):
            await release.wait()
            return TOO_HIGH

        upstream.behaviour = behave
        running = loop.run(start_sidecar(settings(tmp_path, upstream.port)))
        with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
            pending = channel.unary_unary(MODEL_INFER).future(INSIDE, timeout=10)
            wait_until(lambda: upstream.asked)

            async def stop_and_release():
                stopping = asyncio.create_task(running.stop())
                await asyncio.sleep(0.1)
                ready = running.readiness.ready
                release.set()
                await stopping
                return ready

            assert loop.run(stop_and_release()) is False
            np.testing.assert_array_equal(values(pending.result(), "y"), [[1, 2, 1]])

    def test_on_sigterm_the_process_ends_cleanly(self, upstream, tmp_path):
        with _process(upstream, tmp_path) as (process, _):
            process.terminate()
            assert any(line.startswith("stopping") for line in process.stdout)
            assert process.wait(10) == 0

    def test_a_path_that_is_no_utf8_does_not_leave_a_process_that_is_alive_and_deaf(self, upstream, tmp_path):
        """grpcio 1.84 and 1.85 end the whole server then: the process has to end too, for a supervisor to see it."""
        with _process(upstream, tmp_path) as (process, port):
            with contextlib.suppress(OSError):
                http2_call(port, SERVICE.encode() + b"\xff", INSIDE)
            if tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 84):
                assert call(port, MODEL_INFER, INSIDE).body == FINE
                process.terminate()
            else:
                assert process.wait(10) == 1
                assert "the gRPC server broke off" in process.stdout.read()


@contextlib.contextmanager
def _process(upstream, folder):
    """A sidecar in a process of its own, and the port that it listens on."""
    (folder / "b.gates").write_bytes(bundle_bytes())
    program = (
        "import asyncio, logging, pathlib, sys\n"
        "from sidecar.config import BundleSource, ServeSettings, TransportChoice\n"
        "from sidecar.proxy.serve import serve\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "bundles = (BundleSource(pathlib.Path(sys.argv[1])),)\n"
        "where = sys.argv[2], '127.0.0.1:0', '127.0.0.1:0'\n"
        "asyncio.run(serve(ServeSettings(bundles, *where, transport=TransportChoice(sys.argv[3]))))\n"
    )
    told = [str(folder / "b.gates"), f"127.0.0.1:{upstream.port}", Carried.by]
    arguments = [sys.executable, "-u", "-c", program, *told]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("listening"))
            yield process, int(line.split()[3].rstrip(","))
        finally:
            process.kill()
