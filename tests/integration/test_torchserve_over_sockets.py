"""TorchServe's services through the sidecar, on real sockets, with a TorchServe in memory behind it."""

import contextlib
import dataclasses
import json

import grpc
import pytest

from sidecar.config import ModelSettings, PredictionFormat, TorchServeSettings, TransportChoice
from sidecar.errors import BundleError, Reason
from sidecar.gates.values import Mode
from sidecar.protocols.generated import open_inference_pb2 as infer_pb
from sidecar.protocols.generated import torchserve_pb2 as pb
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import (
    MODEL_INFER,
    PING,
    PREDICTIONS,
    STREAM_PREDICTIONS,
    TORCHSERVE,
    TORCHSERVE_MANAGEMENT,
    TORCHSERVE_MODEL_INFER,
    TORCHSERVE_OPEN_INFERENCE,
    TORCHSERVE_SERVER_READY,
)
from sidecar.proxy.upstream import UpstreamFailure, UpstreamReply
from sidecar.tensors import Datatype
from tests.conformance import guarded_model
from tests.conformance.guarded_model import MODEL, typed_request, typed_response
from tests.conformance.torchserve_cases import (
    CASES,
    FINE,
    SETTINGS,
    Case,
    Error,
    Prediction,
    answer_bytes,
    request_bytes,
)
from tests.integration.proxy_harness import call, http, settings, sidecar
from tests.integration.served_upstream import sidecar_before
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

OPEN_INFERENCE = ModelSettings(MODEL, torchserve=TorchServeSettings(PredictionFormat.OPEN_INFERENCE))
ASKED = request_bytes({"data": b'{"instances": [[0.5, 0]]}'})
TOO_LARGE = FINE.replace("0.5", "1.5")


@pytest.fixture(scope="module")
def upstream():
    return MemoryUpstream({PREDICTIONS: answer_bytes(FINE)})


@pytest.fixture(scope="module")
def running(loop, upstream, tmp_path_factory, transport):  # noqa: ARG001 (a sidecar for each)
    folder = tmp_path_factory.mktemp("bundles")
    with sidecar_before(loop, settings(folder, 1, limit_rows=8, models=(SETTINGS,)), upstream) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, running, upstream):
    upstream.answers[PREDICTIONS] = case.answer
    upstream.asked.clear()
    reply = call(running.listen_port, PREDICTIONS, case.request)
    forwarded = case.request in [asked.request for asked in upstream.asked if asked.method == PREDICTIONS]
    match case.expected:
        case Prediction(outcome, text):
            assert (reply.code, reply.trailing["gate-outcome"]) == (grpc.StatusCode.OK, outcome)
            assert reply.body == answer_bytes(text)
            assert forwarded
        case Error(reason, was_forwarded, code):
            assert (reply.code, reply.trailing["gate-reason"]) == (code, reason)
            assert forwarded is was_forwarded


@pytest.mark.parametrize("timeout", [None, 3.0])
def test_every_call_to_the_upstream_has_a_deadline(running, upstream, timeout):
    upstream.answers[PREDICTIONS] = answer_bytes(FINE)
    call(running.listen_port, PREDICTIONS, ASKED, timeout=timeout)
    (asked,) = [each for each in upstream.asked if each.request == ASKED][-1:]
    assert 0 < asked.timeout_seconds <= (timeout or 30) + 0.1


def test_a_large_prediction_of_one_row_is_judged_like_any_other(running, upstream):
    padding = " " * 100_000
    upstream.answers[PREDICTIONS] = answer_bytes(padding + TOO_LARGE)
    reply = call(running.listen_port, PREDICTIONS, ASKED)
    assert reply.body == answer_bytes(padding + FINE.replace("0.5", "1.0"))


def _said(code: grpc.StatusCode, words: str, reason: Reason = Reason.UPSTREAM_ERROR) -> UpstreamFailure:
    details = f"{words}\norg.pytorch.serve.http.InternalServerException"
    return UpstreamFailure(reason, code, details, answered=True, trailing=(("x-server-path", "/opt/models"),))


FAILURES = {
    "no such model": (_said(grpc.StatusCode.INTERNAL, "Model not found: guarded"), grpc.StatusCode.NOT_FOUND),
    "no such version": (
        _said(grpc.StatusCode.INTERNAL, "Model version: 9.0 does not exist for model: guarded"),
        grpc.StatusCode.NOT_FOUND,
    ),
    "the handler fails": (
        _said(grpc.StatusCode.UNAVAILABLE, "Prediction failed", Reason.UPSTREAM_UNAVAILABLE),
        grpc.StatusCode.INTERNAL,
    ),
    "the worker died": (_said(grpc.StatusCode.RESOURCE_EXHAUSTED, "Worker died."), grpc.StatusCode.UNAVAILABLE),
    "anything else": (_said(grpc.StatusCode.DATA_LOSS, "/opt/models is gone"), grpc.StatusCode.DATA_LOSS),
    "broken off": (_said(grpc.StatusCode.CANCELLED, "RST_STREAM"), grpc.StatusCode.CANCELLED),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_servers_words_and_metadata_do_not_reach_clients(name, running, upstream):
    failure, code = FAILURES[name]
    upstream.answers[PREDICTIONS] = lambda request: failure if request == ASKED else answer_bytes(FINE)
    reply = call(running.listen_port, PREDICTIONS, ASKED)
    assert reply.code is code
    assert reply.trailing["gate-outcome"] == "failed"
    told = json.dumps([reply.details, reply.trailing, reply.initial])
    for secret in ("pytorch", "Exception", "/opt", "RST_STREAM", "guarded", "9.0"):
        assert secret not in told


def test_a_message_too_large_for_the_server_is_told_as_such(running, upstream):
    asked = request_bytes({"data": b'{"instances": [[0.5, 0]]}', "meta": bytes(6_600_000)})
    broken_off = _said(grpc.StatusCode.CANCELLED, "Stream removed")
    upstream.answers[PREDICTIONS] = lambda request: broken_off if request == asked else answer_bytes(FINE)
    reply = call(running.listen_port, PREDICTIONS, asked)
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "message_too_large")


def test_an_upstream_that_cannot_be_reached_is_told_as_ever(running, upstream):
    gone = UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "10.0.0.1", answered=False)
    upstream.answers[PREDICTIONS] = lambda request: gone if request == ASKED else answer_bytes(FINE)
    reply = call(running.listen_port, PREDICTIONS, ASKED)
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.UNAVAILABLE, "upstream_unavailable")
    assert "10.0.0.1" not in reply.details


DENIED = [TORCHSERVE + "StreamPredictions2"]
DENIED += [TORCHSERVE_MANAGEMENT + name for name in ("RegisterModel", "UnregisterModel", "ScaleWorker", "SetDefault")]


@pytest.mark.parametrize("method", DENIED)
def test_what_nobody_judges_or_what_changes_models_is_denied(method, running, upstream):
    upstream.asked.clear()
    reply = call(running.listen_port, method, ASKED)
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.PERMISSION_DENIED, "method_denied")
    assert method not in [asked.method for asked in upstream.asked]


def test_a_method_of_torchserves_that_is_not_known_is_not_spoken(running):
    assert call(running.listen_port, TORCHSERVE + "predictions", ASKED).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_model_that_is_asked_for_predictions_is_not_asked_by_model_infer(running, upstream):
    upstream.asked.clear()
    for method in (MODEL_INFER, TORCHSERVE_MODEL_INFER):
        reply = call(running.listen_port, method, typed_request([0.5, 0]).SerializeToString())
        assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.PERMISSION_DENIED, "method_denied")
        assert method not in [asked.method for asked in upstream.asked]


def _health(port: int) -> str:
    return json.loads(pb.TorchServeHealthResponse.FromString(call(port, PING, b"").body).health)["status"]


def test_a_ping_says_whether_the_sidecar_is_ready_and_that_needs_a_row(loop, tmp_path):
    upstream = MemoryUpstream({PREDICTIONS: _said(grpc.StatusCode.INTERNAL, "Model not found: guarded")})
    late = UpstreamFailure(Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, "late", answered=False)
    with sidecar_before(loop, settings(tmp_path, 1, models=(SETTINGS,)), upstream) as running:
        for answer, word in (
            (upstream.answers[PREDICTIONS], "Model not found"),
            (answer_bytes("[]"), "cannot be read"),
            (late, "late"),
        ):
            upstream.answers[PREDICTIONS] = answer
            loop.run(running.readiness.ask())
            assert _health(running.listen_port) == "Unhealthy"
            assert word in http(running.admin_port, "/readyz")[1]
        upstream.answers[PREDICTIONS] = answer_bytes(FINE)
        loop.run(running.readiness.ask())
        assert _health(running.listen_port) == "Healthy"
        assert http(running.admin_port, "/readyz")[0] == 200
        assert {asked.method for asked in upstream.asked} == {PREDICTIONS}
        upstream.asked.clear()
        loop.run(running.readiness.ask())
        assert not upstream.asked, "a row that came is believed for a while"


def test_without_settings_nobody_can_tell_the_rows_of_a_prediction(loop, tmp_path):
    upstream = MemoryUpstream({PREDICTIONS: answer_bytes(TOO_LARGE)})
    with sidecar_before(loop, settings(tmp_path, 1), upstream) as running:
        reply = call(running.listen_port, PREDICTIONS, ASKED)
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.PERMISSION_DENIED, "method_denied")


def test_in_shadow_nothing_is_changed_and_what_cannot_be_read_passes(loop, tmp_path):
    upstream = MemoryUpstream({PREDICTIONS: answer_bytes(TOO_LARGE)})
    with sidecar_before(loop, settings(tmp_path, 1, models=(SETTINGS,), mode=Mode.SHADOW), upstream) as running:
        reply = call(running.listen_port, PREDICTIONS, ASKED)
        assert (reply.body, reply.trailing["gate-outcome"]) == (answer_bytes(TOO_LARGE), "untouched")
        for asked in (ASKED + request_bytes({"body": b""}), request_bytes({"data": b"no JSON"})):
            reply = call(running.listen_port, PREDICTIONS, asked)
            assert (reply.body, reply.trailing["gate-outcome"]) == (answer_bytes(TOO_LARGE), "unjudged")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": PredictionFormat.RAW, "inputs": (), "outputs": ()}, "one output tensor"),
        ({"outputs": (("y", ("/y",)),)}, "places for y; expected y, z"),
        ({"client_datatype": Datatype.FP16}, "'y' is FP16"),
    ],
)
def test_settings_that_do_not_fit_the_bundle_are_told_at_the_start(changes, words, tmp_path, loop):
    fields = {"inputs": SETTINGS.torchserve.inputs, "outputs": SETTINGS.torchserve.outputs}
    fields |= {"format": PredictionFormat.JSON, "client_datatype": Datatype.FP32, **changes}
    model = ModelSettings(MODEL, torchserve=TorchServeSettings(**fields))
    with pytest.raises(Exception, match=words) as caught, sidecar(loop, settings(tmp_path, 1, models=(model,))):
        raise AssertionError("it started")
    assert not isinstance(caught.value, (AssertionError, BundleError)), "a start error, in words for people"


# -- streams -------------------------------------------------------------------------------------------------

STREAMED = dataclasses.replace(SETTINGS, torchserve=dataclasses.replace(SETTINGS.torchserve, stream=True))


@pytest.fixture(scope="module")
def stream_upstream():
    return MemoryUpstream({PREDICTIONS: answer_bytes(FINE)}, stream_answers={})


@pytest.fixture(scope="module")
def streaming(loop, stream_upstream, tmp_path_factory, transport):  # noqa: ARG001 (a sidecar for each)
    folder = tmp_path_factory.mktemp("bundles")
    with sidecar_before(loop, settings(folder, 1, models=(STREAMED,)), stream_upstream) as running:
        yield running


def _stream(port: int, asked: bytes, timeout: float | None = 10.0) -> tuple[list[bytes], grpc.StatusCode, str, dict]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = channel.unary_stream(STREAM_PREDICTIONS)(asked, timeout=timeout)
        got = []
        with contextlib.suppress(grpc.RpcError):
            for each in answers:
                got.append(each)  # noqa: PERF402 (what came before an error is kept)
        return got, answers.code(), answers.details(), dict(answers.trailing_metadata())


def test_each_prediction_of_a_stream_is_judged(streaming, stream_upstream):
    answers = [answer_bytes(each) for each in (FINE, TOO_LARGE, FINE)]
    stream_upstream.stream_answers[STREAM_PREDICTIONS] = lambda _: answers
    got, code, _, _ = _stream(streaming.listen_port, ASKED)
    assert got == [answer_bytes(FINE), answer_bytes(FINE.replace("0.5", "1.0")), answer_bytes(FINE)]
    assert code is grpc.StatusCode.OK
    asked = [each for each in stream_upstream.asked if each.method == STREAM_PREDICTIONS][-1]
    assert asked.request == ASKED
    assert 0 < asked.timeout_seconds < 11


def test_a_stream_has_a_deadline_upstream_where_the_client_sets_none(streaming, stream_upstream):
    stream_upstream.stream_answers[STREAM_PREDICTIONS] = lambda _: []
    assert _stream(streaming.listen_port, ASKED, timeout=None)[1] is grpc.StatusCode.OK
    left = [each.timeout_seconds for each in stream_upstream.asked if each.method == STREAM_PREDICTIONS][-1]
    assert left == pytest.approx(30, abs=1)


BROKEN_OFF = _said(grpc.StatusCode.UNAVAILABLE, "Prediction failed", Reason.UPSTREAM_UNAVAILABLE)


@pytest.mark.parametrize(
    ("asked", "last", "code", "reason"),
    [
        (ASKED, answer_bytes("no JSON"), grpc.StatusCode.INTERNAL, "upstream_output_contents"),
        (ASKED, BROKEN_OFF, grpc.StatusCode.INTERNAL, "upstream_unavailable"),
        (
            request_bytes({"data": b'{"instances": [[4.5, 0]]}'}),
            answer_bytes(FINE),
            grpc.StatusCode.FAILED_PRECONDITION,
            "gate_refused",
        ),
    ],
    ids=["an answer that cannot be read", "the server's error", "a property that refuses"],
)
def test_a_prediction_that_cannot_be_sent_ends_the_stream(streaming, stream_upstream, asked, last, code, reason):
    fine = answer_bytes(FINE.replace('"y": [0.5, 0, 0]', '"y": [0.5, 0, 1]'))  # what the refusing property wants
    stream_upstream.stream_answers[STREAM_PREDICTIONS] = lambda _: [fine, last, fine]
    got, ended, details, trailers = _stream(streaming.listen_port, asked)
    assert (got, ended, trailers["gate-reason"]) == ([fine], code, reason)
    assert "pytorch" not in details


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        (request_bytes({"data": b"no JSON"}), grpc.StatusCode.INVALID_ARGUMENT, "input_contents"),
        (request_bytes({}, "another"), grpc.StatusCode.PERMISSION_DENIED, "model_not_guarded"),
        (b"\x0a\x05", grpc.StatusCode.INVALID_ARGUMENT, "malformed_request"),
    ],
)
def test_a_request_that_cannot_be_judged_opens_no_stream(streaming, stream_upstream, asked, code, reason):
    stream_upstream.asked.clear()
    got, ended, _, trailers = _stream(streaming.listen_port, asked)
    assert (got, ended, trailers["gate-reason"]) == ([], code, reason)
    assert asked not in [each.request for each in stream_upstream.asked]


@pytest.mark.parametrize("mode", Mode)
def test_streams_are_denied_unless_the_model_allows_them(loop, tmp_path, mode):
    upstream = MemoryUpstream({PREDICTIONS: answer_bytes(FINE)}, stream_answers={})
    for models in ((), (SETTINGS,)):
        with sidecar_before(loop, settings(tmp_path, 1, models=models, mode=mode), upstream) as running:
            got, ended, _, trailers = _stream(running.listen_port, ASKED)
        assert (got, ended, trailers["gate-reason"]) == ([], grpc.StatusCode.PERMISSION_DENIED, "method_denied")


def test_a_defect_of_ours_ends_a_stream_closed(loop, tmp_path, stream_upstream):
    def fail(_):
        raise ZeroDivisionError("a defect")

    stream_upstream.stream_answers[STREAM_PREDICTIONS] = fail
    # The upstream's own defect is in our process.
    made = settings(tmp_path, 1, models=(STREAMED,), transport=TransportChoice.PORTABLE)
    with sidecar(loop, made, stream_upstream) as running:
        got, ended, details, _ = _stream(running.listen_port, ASKED)
    assert (got, ended) == ([], grpc.StatusCode.INTERNAL)
    assert "defect" not in details


def test_streams_count_against_the_limits_and_are_given_back(loop, tmp_path, stream_upstream):
    stream_upstream.stream_answers[STREAM_PREDICTIONS] = lambda _: [answer_bytes(FINE)]
    limits = {"limit_bytes": 1000, "limit_held_bytes": 1000}
    with sidecar_before(loop, settings(tmp_path, 1, models=(STREAMED,), **limits), stream_upstream) as running:
        for _ in range(30):
            assert _stream(running.listen_port, ASKED)[1] is grpc.StatusCode.OK
        asked = request_bytes({"data": b'{"instances": [[0.5, 0]]}', "meta": bytes(900)})
        got, ended, _, trailers = _stream(running.listen_port, asked)
        assert (got, ended) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert trailers["gate-reason"] == "memory_exhausted"
        assert _stream(running.listen_port, ASKED)[1] is grpc.StatusCode.OK


# -- its Open Inference service ------------------------------------------------------------------------------


def _typed_answer(request: bytes, y0: float = 0.5) -> bytes:
    """What a handler answers that echoes the id; one without an id would have ended its worker."""
    asked = infer_pb.ModelInferRequest.FromString(request)
    assert asked.id, "a request without an id reached the server"
    answer = typed_response([[y0, 0, 0]])
    answer.id = asked.id
    return answer.SerializeToString()


@pytest.fixture(scope="module")
def infer_upstream():
    return MemoryUpstream({})


@pytest.fixture(scope="module")
def infer_running(loop, infer_upstream, tmp_path_factory, transport):  # noqa: ARG001 (a sidecar for each)
    infer_upstream.answers[TORCHSERVE_MODEL_INFER] = _typed_answer
    folder = tmp_path_factory.mktemp("bundles")
    with sidecar_before(loop, settings(folder, 1, models=(OPEN_INFERENCE,)), infer_upstream) as running:
        yield running


@pytest.mark.parametrize("identity", ["", "42"])
@pytest.mark.parametrize(
    ("x0", "y0", "outcome", "expected"),
    [(0.5, 0.5, "untouched", 0.5), (0.5, 3.0, "corrected", 1.0), (20.0, 3.0, "outside", 3.0)],
)
def test_the_client_gets_its_own_id_or_none(infer_running, infer_upstream, identity, x0, y0, outcome, expected):
    infer_upstream.answers[TORCHSERVE_MODEL_INFER] = lambda request: _typed_answer(request, y0)
    message = typed_request([x0, 0])
    message.id = identity
    reply = call(infer_running.listen_port, TORCHSERVE_MODEL_INFER, message.SerializeToString())
    assert reply.trailing["gate-outcome"] == outcome
    wanted = typed_response([[expected, 0, 0]])
    wanted.id = identity
    assert infer_pb.ModelInferResponse.FromString(reply.body) == wanted


def test_raw_contents_which_would_be_dropped_are_refused(infer_running, infer_upstream):
    infer_upstream.asked.clear()
    message = guarded_model.request([0.5, 0]).SerializeToString()
    reply = call(infer_running.listen_port, TORCHSERVE_MODEL_INFER, message)
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "input_contents")
    assert not [asked for asked in infer_upstream.asked if asked.request.startswith(message)]


def test_an_answer_that_is_no_message_is_not_passed_on(infer_running, infer_upstream):
    infer_upstream.answers[TORCHSERVE_MODEL_INFER] = UpstreamReply(b"\x0a\x05")
    message = typed_request([20.0, 0])
    message.id = ""
    reply = call(infer_running.listen_port, TORCHSERVE_MODEL_INFER, message.SerializeToString())
    assert (reply.code, reply.trailing["gate-reason"]) == (grpc.StatusCode.INTERNAL, "upstream_malformed")


def test_what_only_asks_passes_and_readiness_is_ours(infer_running, infer_upstream, loop):
    infer_upstream.answers[TORCHSERVE_MODEL_INFER] = _typed_answer
    loop.run(infer_running.readiness.ask())
    ready = call(infer_running.listen_port, TORCHSERVE_SERVER_READY, b"").body
    assert infer_pb.ServerReadyResponse.FromString(ready).ready
    infer_upstream.answers[TORCHSERVE_OPEN_INFERENCE + "ModelReady"] = b"\x08\x01"
    assert call(infer_running.listen_port, TORCHSERVE_OPEN_INFERENCE + "ModelReady", b"").body == b"\x08\x01"
    infer_upstream.answers[TORCHSERVE_OPEN_INFERENCE + "ModelReady"] = _said(
        grpc.StatusCode.NOT_FOUND, "Model not found"
    )
    reply = call(infer_running.listen_port, TORCHSERVE_OPEN_INFERENCE + "ModelReady", b"")
    assert reply.code is grpc.StatusCode.NOT_FOUND
    assert "pytorch" not in reply.details
    reply = call(infer_running.listen_port, TORCHSERVE_OPEN_INFERENCE + "ModelMetadata", b"")
    assert (reply.code, reply.details) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "the model server does not offer this method",
    )
