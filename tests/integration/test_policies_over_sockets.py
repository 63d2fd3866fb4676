"""Unguarded models, open failure mode, fallbacks, model versions and idle streams, on real sockets."""

import asyncio
import dataclasses
import json
import logging
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from sidecar.bundle.codec import encode
from sidecar.config import (
    BundleSource,
    FailureMode,
    ModelSettings,
    OnUpstreamFailure,
    Outside,
    Unguarded,
)
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from tests.conformance.guarded_model import bundle, raw, request, response, values
from tests.integration.proxy_harness import call, http, settings, sidecar
from tests.integration.stream_harness import FINAL, StreamUpstream, stream, streamed

HAS_FALLBACK = request([2.5, 0]).SerializeToString()
INSIDE = request([0.75, 0]).SerializeToString()
OTHER = request([0.75, 0], model_name="other").SerializeToString()
VIOLATING = response([[3, 2, 1]])
GUARDED = ModelSettings("guarded")
FALLBACK = dataclasses.replace(GUARDED, on_upstream_failure=OnUpstreamFailure.FALLBACK)


@pytest.fixture
def upstream(socket_upstream):
    socket_upstream.answer(VIOLATING.SerializeToString())
    return socket_upstream


@pytest.fixture
def streams(loop):
    upstream = StreamUpstream()
    upstream.port = loop.run(upstream.start())
    yield upstream
    loop.run(upstream.server.stop(0))


async def never(*_) -> bytes:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


def audited(caplog) -> list[dict]:
    return [json.loads(record.message) for record in caplog.records if record.name == "sidecar.audit"]


def y_of(body: bytes) -> list:
    return values(body, "y").tolist()


class TestUnguardedModels:
    def test_are_denied_by_default(self, loop, upstream, tmp_path):
        with sidecar(loop, settings(tmp_path, upstream.port)) as running:
            reply = call(running.listen_port, MODEL_INFER, OTHER)
        assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.PERMISSION_DENIED, "model_not_guarded")
        assert not upstream.asked

    def test_pass_untouched_counted_without_their_name_and_logged_once(self, loop, upstream, tmp_path, caplog):
        caplog.set_level(logging.WARNING, "sidecar.proxy")
        passing = settings(tmp_path, upstream.port, unguarded_models=Unguarded.PASS)
        with sidecar(loop, passing) as running:
            replies = [call(running.listen_port, MODEL_INFER, OTHER) for _ in range(2)]
            count = running.metrics.value("gate_requests_total", model="", outcome="unguarded")
            listed = json.loads(http(running.admin_port, "/status")[1])["unguarded_models"]
            exposition = running.metrics.exposition()
        assert [reply.body for reply in replies] == [VIOLATING.SerializeToString()] * 2
        assert {reply.trailing["gate-outcome"] for reply in replies} == {"unguarded"}
        assert [asked[1] for asked in upstream.asked] == [OTHER, OTHER]
        assert (count, listed) == (2, ["other"])
        assert b'"other"' not in exposition
        assert sum("pass unguarded" in record.message for record in caplog.records) == 1

    def test_beside_a_bad_bundle_do_not_pass(self, loop, upstream, tmp_path):
        passing = settings(tmp_path, upstream.port, unguarded_models=Unguarded.PASS)
        (tmp_path / "worse.gates").write_bytes(b"nonsense")
        passing = dataclasses.replace(passing, bundles=(BundleSource(tmp_path),))
        with sidecar(loop, passing) as running:
            assert call(running.listen_port, MODEL_INFER, OTHER).trailing["gate-reason"] == "not_ready"
            (tmp_path / "worse.gates").unlink()
            running.look_now()
            deadline = time.monotonic() + 5
            while call(running.listen_port, MODEL_INFER, OTHER).code is not grpc.StatusCode.OK:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def test_pass_on_streams_beside_guarded_ones(self, loop, streams, tmp_path):
        streams.answer([lambda own_id: streamed(VIOLATING, own_id=own_id, final=True)])
        with sidecar(loop, settings(tmp_path, streams.port, unguarded_models=Unguarded.PASS)) as running:
            with stream(running.listen_port) as client:
                client.send(OTHER, INSIDE)
                passed, corrected = client.rest()
            assert running.metrics.value("gate_requests_total", model="", outcome="unguarded") == 1
        assert y_of(passed.infer_response.SerializeToString()) == [[3, 2, 1]]
        assert y_of(corrected.infer_response.SerializeToString()) == [[1, 2, 1]]


class TestOpenFailureMode:
    def test_passes_what_nobody_can_judge_counted_and_recorded(self, loop, upstream, tmp_path, caplog):
        caplog.set_level(logging.INFO, "sidecar.audit")
        unreadable = response([[0.5, 0, 0]])
        unreadable.outputs[2].datatype, unreadable.raw_output_contents[2] = "FP32", raw([0])
        upstream.answer(unreadable.SerializeToString())
        models = (dataclasses.replace(GUARDED, failure_mode=FailureMode.OPEN),)
        with sidecar(loop, settings(tmp_path, upstream.port, models=models)) as running:
            reply = call(running.listen_port, MODEL_INFER, INSIDE)
            labels = {"model": "guarded", "reason": "upstream_output_datatype"}
            assert running.metrics.value("gate_bypassed_total", **labels) == 1
            assert running.metrics.value("gate_failure_mode_open", model="guarded") == 1
            assert running.metrics.value("gate_rows_total", model="guarded", outcome="bypassed") == 1
        assert reply.body == unreadable.SerializeToString()
        assert (reply.trailing["gate-outcome"], reply.trailing["gate-reason"]) == ("bypassed", labels["reason"])
        (record,) = audited(caplog)
        assert (record["outcome"], record["decision"]) == ("bypassed", reply.trailing["gate-decision"])

    def test_passes_a_model_whose_bundle_is_bad(self, loop, upstream, tmp_path):
        models = (ModelSettings("other", failure_mode=FailureMode.OPEN),)
        folder = settings(tmp_path, upstream.port, models=models)
        (tmp_path / "other.gates").write_bytes(b"nonsense")
        with sidecar(loop, dataclasses.replace(folder, bundles=(BundleSource(tmp_path),))) as running:
            assert running.metrics.value("gate_failure_mode_open", model="other") == 1
            reply = call(running.listen_port, MODEL_INFER, OTHER)
            assert running.metrics.value("gate_bypassed_total", model="other", reason="not_ready") == 1
            assert call(
                running.listen_port, MODEL_INFER, request([1, 0], model_name="third").SerializeToString()
            ).trailing["gate-reason"] == ("not_ready")
        assert (reply.body, reply.trailing["gate-outcome"]) == (VIOLATING.SerializeToString(), "bypassed")


class TestFallback:
    def test_stands_in_for_an_upstream_that_is_gone(self, loop, upstream, tmp_path, caplog):
        caplog.set_level(logging.INFO, "sidecar.audit")
        with sidecar(
            loop, settings(tmp_path, upstream.port, on_upstream_failure=OnUpstreamFailure.FALLBACK)
        ) as running:
            loop.run(upstream.server.stop(0))
            reply = call(running.listen_port, MODEL_INFER, HAS_FALLBACK)
            without = call(running.listen_port, MODEL_INFER, INSIDE)
            labels = {"model": "guarded", "reason": "upstream_unavailable"}
            assert running.metrics.value("gate_fallbacks_total", **labels) == 1
            assert running.metrics.value("gate_refusals_total", **labels) == 1  # the other one
        assert y_of(reply.body) == [[1, 0, 0]]
        assert (reply.trailing["gate-outcome"], reply.trailing["gate-reason"]) == ("fallback", "upstream_unavailable")
        assert (without.body, without.code) == (None, grpc.StatusCode.UNAVAILABLE)
        outcomes = [record["outcome"] for record in audited(caplog)]
        assert outcomes == ["fallback", "error"]

    def test_can_be_read_by_a_real_client(self, loop, upstream, tmp_path):
        upstream.behaviour = never
        models = (dataclasses.replace(FALLBACK, upstream_timeout_seconds=0.05),)
        with sidecar(loop, settings(tmp_path, upstream.port, models=models)) as running:
            client = triton.InferenceServerClient(f"127.0.0.1:{running.listen_port}")
            tensor = triton.InferInput("x", [1, 2], "FP32")
            tensor.set_data_from_numpy(np.array([[2.5, 0]], np.float32))
            result = client.infer("guarded", [tensor], request_id="7")
            client.close()
        assert result.as_numpy("y").tolist() == [[1, 0, 0]]
        assert result.as_numpy("z").tolist() == [[0]]
        assert result.get_response().id == "7"

    @pytest.mark.parametrize(("timeout", "own"), [(0.3, None), (10.0, 0.1)])
    def test_comes_within_the_deadline_where_the_upstream_is_too_slow(self, loop, upstream, tmp_path, timeout, own):
        upstream.behaviour = never
        models = (dataclasses.replace(FALLBACK, upstream_timeout_seconds=own),)
        with sidecar(loop, settings(tmp_path, upstream.port, models=models, fallback_reserve_seconds=0.1)) as running:
            started = time.monotonic()
            reply = call(running.listen_port, MODEL_INFER, HAS_FALLBACK, timeout=timeout)
            took = time.monotonic() - started
        assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.OK, "upstream_deadline")
        assert took < (timeout if own is None else 2.0)

    def test_gives_a_model_its_own_time_without_fallbacks_too(self, loop, upstream, tmp_path):
        upstream.behaviour = never
        models = (ModelSettings("guarded", upstream_timeout_seconds=0.05),)
        with sidecar(loop, settings(tmp_path, upstream.port, models=models)) as running:
            started = time.monotonic()
            reply = call(running.listen_port, MODEL_INFER, HAS_FALLBACK)
        assert reply.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 5

    def test_shows_nothing_of_a_malformed_answer(self, loop, upstream, tmp_path):
        async def malformed(_, context) -> bytes:
            context.set_trailing_metadata((("secret", "10.0.0.1"),))
            return b"\xff\xff"

        upstream.behaviour = malformed
        with sidecar(loop, settings(tmp_path, upstream.port, models=(FALLBACK,))) as running:
            reply = call(running.listen_port, MODEL_INFER, HAS_FALLBACK)
        assert (y_of(reply.body), "secret" in reply.trailing) == ([[1, 0, 0]], False)


class TestFallbackOnStreams:
    def test_each_request_is_answered_in_time_and_a_late_response_is_for_nobody(self, loop, streams, tmp_path):
        late = threading.Event()

        async def behave(context) -> None:
            async for asked in streams.requests(context):
                if asked.raw_input_contents[0] == request([2.5, 0]).raw_input_contents[0]:
                    while not late.is_set():
                        await asyncio.sleep(0.01)
                await context.write(streamed(VIOLATING, own_id=asked.id, final=True))

        streams.behaviour = behave
        models = (dataclasses.replace(FALLBACK, upstream_timeout_seconds=0.1),)
        with sidecar(loop, settings(tmp_path, streams.port, models=models)) as running:
            with stream(running.listen_port) as client:
                client.send(request([2.5, 0], id="a"), request([2.5, 0], id="b"))
                answers = [client.next(), client.next()]
                late.set()
                client.send(request([0.75, 0], id="c"))
                rest = client.rest()
            assert running.metrics.value("gate_requests_total", model="guarded", outcome="fallback") == 2
            assert running.metrics.value("gate_requests_total", model="guarded", outcome="corrected") == 1
            assert running.metrics.value("gate_calls_in_flight") == 0
        assert [answer.infer_response.id for answer in answers] == ["a", "b"]
        assert [y_of(answer.infer_response.SerializeToString()) for answer in answers] == [[[1, 0, 0]]] * 2
        assert all(answer.infer_response.parameters[FINAL].bool_param for answer in answers)
        assert [answer.infer_response.id for answer in rest] == ["c"]

    def test_a_model_without_fallbacks_gets_an_error_in_its_own_time_and_the_stream_goes_on(
        self, loop, streams, tmp_path
    ):
        async def behave(context) -> None:
            async for asked in streams.requests(context):
                if asked.raw_input_contents[0] != request([2.5, 0]).raw_input_contents[0]:
                    await context.write(streamed(response([[0.5, 0, 0]]), own_id=asked.id, final=True))

        streams.behaviour = behave
        models = (ModelSettings("guarded", upstream_timeout_seconds=0.1),)
        with (
            sidecar(loop, settings(tmp_path, streams.port, models=models)) as running,
            stream(running.listen_port) as client,
        ):
            client.send(request([2.5, 0], id="a"))
            error = client.next()
            client.send(request([0.75, 0], id="b"))
            (fine,) = client.rest()
        assert (error.infer_response.id, error.error_message.partition(":")[0]) == ("a", "upstream_deadline")
        assert fine.infer_response.id == "b"

    def test_an_upstream_that_hangs_for_ever_is_stood_in_for_again_and_again(self, loop, streams, tmp_path):
        async def hang(context) -> None:
            async for _ in streams.requests(context):
                pass
            await never()

        streams.behaviour = hang
        models = (dataclasses.replace(FALLBACK, upstream_timeout_seconds=0.02),)
        with (
            sidecar(loop, settings(tmp_path, streams.port, models=models, upstream_timeout_seconds=0.4)) as running,
            stream(running.listen_port, timeout=20) as client,
        ):
            for number in range(300):
                client.send(request([2.5, 0], id=str(number)))
            answers = [client.next() for _ in range(300)]
            time.sleep(0.6)  # longer than an upstream may be silent while something is waited for
            client.send(request([2.5, 0], id="last"))
            answers.append(client.next())
            client.half_close()
            assert client.error().code() is grpc.StatusCode.DEADLINE_EXCEEDED  # and not never
        assert {tuple(y_of(each.infer_response.SerializeToString())[0]) for each in answers} == {(1, 0, 0)}

    def test_before_a_stream_that_breaks_off_ends(self, loop, streams, tmp_path):
        async def break_off(context) -> None:
            async for _ in streams.requests(context):
                await context.abort(grpc.StatusCode.INTERNAL, "out of order")

        streams.behaviour = break_off
        with (
            sidecar(loop, settings(tmp_path, streams.port, models=(FALLBACK,))) as running,
            stream(running.listen_port) as client,
        ):
            client.send(request([2.5, 0], id="a"))
            answer = client.next()
            assert client.error().code() is grpc.StatusCode.INTERNAL
        assert (answer.infer_response.id, y_of(answer.infer_response.SerializeToString())) == ("a", [[1, 0, 0]])

    def test_in_the_place_of_an_unreadable_response(self, loop, streams, tmp_path):
        empty = pb.ModelInferResponse(model_name="guarded")
        empty.outputs.add(name="y", datatype="FP32", shape=[1, 3])
        streams.answer(
            [
                lambda own_id: streamed(empty, own_id=own_id, final=False),
                lambda own_id: streamed(own_id=own_id, final=True),
            ]
        )
        with (
            sidecar(loop, settings(tmp_path, streams.port, models=(FALLBACK,))) as running,
            stream(running.listen_port) as client,
        ):
            client.send(request([2.5, 0], id="a"))
            (answer,) = client.rest()
        assert (answer.infer_response.id, answer.infer_response.parameters[FINAL].bool_param) == ("a", False)


class TestStreams:
    def test_a_forgotten_one_ends(self, loop, streams, tmp_path):
        with sidecar(loop, settings(tmp_path, streams.port, stream_idle_seconds=0.2)) as running:
            with stream(running.listen_port) as client:
                ended = client.error()
                trailing = dict(ended.trailing_metadata())
            assert (ended.code(), trailing["gate-reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "stream_idle")
            assert running.metrics.value("gate_calls_in_flight") == 0

    def test_one_that_is_used_or_waits_for_an_answer_does_not(self, loop, streams, tmp_path):
        async def slowly(context) -> None:
            async for asked in streams.requests(context):
                await asyncio.sleep(0.6)
                await context.write(streamed(response([[0.5, 0, 0]]), own_id=asked.id, final=True))

        streams.behaviour = slowly
        with (
            sidecar(loop, settings(tmp_path, streams.port, stream_idle_seconds=0.25)) as running,
            stream(running.listen_port) as client,
        ):
            for _ in range(3):
                client.send(INSIDE)
                assert not client.next().error_message
                time.sleep(0.1)
            assert client.rest() == []

    def test_outside_rows_are_refused_per_model(self, loop, streams, tmp_path):
        streams.answer([lambda own_id: streamed(response([[0.5, 0, 0]]), own_id=own_id, final=True)])
        models = (ModelSettings("guarded", outside=Outside.REFUSE),)
        with (
            sidecar(loop, settings(tmp_path, streams.port, models=models)) as running,
            stream(running.listen_port) as client,
        ):
            client.send(request([1.5, 0]), request([0.75, 0]))
            refused, fine = client.rest()
        assert refused.error_message.partition(":")[0] == "outside_domain"
        assert not fine.error_message

    @pytest.mark.parametrize("in_band", [True, False])
    def test_an_upstream_that_is_stopping_is_unavailable(self, loop, streams, tmp_path, in_band):
        async def forget(context) -> None:
            streams.ready = False
            async for asked in streams.requests(context):
                if in_band:
                    await context.write(
                        streamed(own_id=asked.id, error="Request for unknown model: 'guarded' is not found")
                    )
                else:
                    await context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'guarded' is not found")

        streams.behaviour = forget
        stopping = Stopping(streams)
        port = loop.run(stopping.start())
        try:
            with (
                sidecar(loop, settings(tmp_path, port, readiness_interval_seconds=30.0)) as running,
                stream(running.listen_port) as client,
            ):
                client.send(INSIDE)
                if in_band:
                    reason = client.next().error_message.partition(":")[0]
                else:
                    ended = client.error()
                    reason = dict(ended.trailing_metadata())["gate-reason"]
                    assert ended.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            loop.run(stopping.server.stop(0))
        assert reason == "upstream_unavailable"


class Stopping(StreamUpstream):
    """Is ready until a stream is opened."""

    def __init__(self, behaving: StreamUpstream) -> None:
        super().__init__()
        self.behaviour = behaving.behaviour
        self.requests = behaving.requests
        self.behaving = behaving
        behaving.ready = True

    def service(self, details):
        if details.method != MODEL_READY:
            return super().service(details)

        async def ready(_request, _context) -> bytes:
            return pb.ModelReadyResponse(ready=self.behaving.ready).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(ready)


class TestVersions:
    @pytest.fixture
    def failure_mode(self):
        return FailureMode.CLOSED

    @pytest.fixture
    def versioned(self, loop, upstream, tmp_path, failure_mode):
        made = bundle()
        content = encode(dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, versions=("1", "2"))))
        models = (ModelSettings("guarded", failure_mode=failure_mode),)
        with_versions = settings(tmp_path, upstream.port, models=models)
        (tmp_path / "guarded.gates").write_bytes(content)
        with sidecar(loop, with_versions) as running:
            yield running

    @pytest.mark.parametrize("failure_mode", [FailureMode.OPEN])
    @pytest.mark.parametrize(
        ("asked", "answered", "bypassed"), [("", "9", True), ("1", "9", True), ("9", "9", False), ("9", "1", False)]
    )
    def test_that_a_client_chose_and_the_bundle_does_not_name_are_never_open(
        self, versioned, upstream, asked, answered, bypassed
    ):
        """Such a version may be one without the guarded outputs."""
        other = response([[0.5, 0, 0]])
        other.model_version = answered
        del other.outputs[0], other.raw_output_contents[0]
        upstream.answer(other.SerializeToString())
        reply = call(versioned.listen_port, MODEL_INFER, request([0.25, 0], model_version=asked).SerializeToString())
        assert reply.trailing["gate-outcome"] == ("bypassed" if bypassed else "failed")
        assert reply.trailing["gate-reason"] == "upstream_output_missing"
        assert reply.code is (grpc.StatusCode.OK if bypassed else grpc.StatusCode.INTERNAL)

    @pytest.mark.parametrize(
        ("asked", "answered", "unproved"),
        [("", "1", False), ("9", "2", False), ("1", "", False), ("1", "3", True), ("3", "", True), ("", "", True)],
    )
    def test_that_the_bundle_does_not_name_are_enforced_and_unproved(
        self, versioned, upstream, caplog, asked, answered, unproved
    ):
        caplog.set_level(logging.INFO, "sidecar.audit")
        violating = response([[3, 2, 1]])
        violating.model_version = answered
        upstream.answer(violating.SerializeToString())
        reply = call(versioned.listen_port, MODEL_INFER, request([0.25, 0], model_version=asked).SerializeToString())
        assert y_of(reply.body) == [[1, 2, 1]]
        region = "unproved" if unproved else "silent"
        value = versioned.metrics.value
        assert value("gate_violations_total", model="guarded", property="ceiling", mode="enforce", region=region) == 1
        assert value("gate_in_domain_rows_total", model="guarded", property="ceiling", region=region) == 1
        assert value("gate_breaches_total", model="guarded", property="ceiling") == (0 if unproved else 1)
        (record,) = audited(caplog)
        assert (record["breach"], record["gates"][0]["label"]) == (not unproved, region)
        assert record.get("unproved_version") == ((answered or asked) if unproved else None)
        (model,) = json.loads(http(versioned.admin_port, "/status")[1])["models"]
        assert (model["versions"], model["unproved_versions"]) == (["1", "2"], [answered or asked] if unproved else [])
