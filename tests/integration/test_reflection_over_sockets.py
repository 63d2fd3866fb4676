"""Server reflection, read as grpcurl reads it: list, then the file of each symbol, then calls made from it alone."""

import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sidecar.protocols.generated import reflection_pb2 as pb
from sidecar.proxy import reflection
from sidecar.proxy.methods import REFLECTION, REFLECTION_ALPHA
from tests.integration.proxy_harness import SocketUpstream, settings, sidecar
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"


@pytest.fixture(scope="module")
def running(loop, tmp_path_factory, transport):  # noqa: ARG001 (a sidecar for each)
    upstream = SocketUpstream()
    port = loop.run(upstream.start())
    with sidecar(loop, settings(tmp_path_factory.mktemp("reflection"), port)) as running:
        yield running
    loop.run(upstream.server.stop(0))


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        yield channel


def _ask(channel, *questions, method=REFLECTION):
    requests = iter([pb.ServerReflectionRequest(**question).SerializeToString() for question in questions])
    answers = channel.stream_stream(method)(requests, timeout=5)
    return [pb.ServerReflectionResponse.FromString(answer) for answer in answers]


def _pool(channel, *symbols):
    pool = descriptor_pool.DescriptorPool()
    for answer in _ask(channel, *({"file_containing_symbol": symbol} for symbol in symbols)):
        (content,) = answer.file_descriptor_response.file_descriptor_proto
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(content))
    return pool


@pytest.mark.parametrize("method", [REFLECTION, REFLECTION_ALPHA])
def test_services_are_listed_under_the_names_that_clients_know(channel, method):
    (answer,) = _ask(channel, {"host": "h", "list_services": "*"}, method=method)
    names = [service.name for service in answer.list_services_response.service]
    versions = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
    assert names == [INFERENCE, HEALTH, *versions]
    assert (answer.valid_host, answer.original_request.list_services) == ("h", "*")


def test_a_health_call_can_be_made_from_what_is_said(channel):
    method = _pool(channel, HEALTH).FindServiceByName(HEALTH).methods_by_name["Check"]
    request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    body = channel.unary_unary(f"/{HEALTH}/Check")(request(service="guarded").SerializeToString(), timeout=5)
    assert response.FromString(body).status == 1


def test_inference_messages_are_described_and_denied_methods_are_not(channel):
    service = _pool(channel, INFERENCE).FindServiceByName(INFERENCE)
    assert {"ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata", "ServerLive"} <= set(
        service.methods_by_name
    )
    assert not {"RepositoryModelLoad", "TraceSetting"} & set(service.methods_by_name)
    fields = service.methods_by_name["ModelInfer"].input_type.fields_by_name
    assert fields["inputs"].message_type.full_name == "inference.ModelInferRequest.InferInputTensor"
    assert (
        fields["parameters"].message_type.fields_by_name["value"].message_type.full_name == "inference.InferParameter"
    )


def test_every_service_that_is_listed_can_be_read(channel):
    (answer,) = _ask(channel, {"list_services": ""})
    names = [service.name for service in answer.list_services_response.service]
    pool = _pool(channel, *names)
    assert [pool.FindServiceByName(name).full_name for name in names] == names


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "inference.GRPCInferenceService.ModelInfer"},
        {"file_containing_symbol": "inference.ModelInferRequest.InferInputTensor"},
        {"file_by_filename": "open_inference.proto"},
    ],
)
def test_a_file_is_found_by_symbol_and_by_name(channel, question):
    (answer,) = _ask(channel, question)
    assert len(answer.file_descriptor_response.file_descriptor_proto) == 1


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "inference.Nothing"},
        {"file_containing_symbol": ""},
        {"file_by_filename": "../etc/passwd"},
        {"all_extension_numbers_of_type": "inference.ModelInferRequest"},
        {"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 1}},
        {},
    ],
)
def test_what_is_not_there_is_said_in_band_and_the_stream_goes_on(channel, question):
    missing, listed = _ask(channel, question, {"list_services": ""})
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert listed.list_services_response.service


def test_a_message_that_is_none_ends_the_stream(channel, running):
    ended = channel.stream_stream(REFLECTION)(iter([b"\xff"]), timeout=5)
    assert ended.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert running.metrics.value("gate_refusals_total", model="", reason="malformed_request") == 1


def test_a_forgotten_stream_is_ended(channel, monkeypatch):
    monkeypatch.setattr(reflection, "IDLE_SECONDS", 0.1)

    def forgotten():
        yield pb.ServerReflectionRequest(list_services="").SerializeToString()
        release.wait(5)

    release = threading.Event()
    answers = channel.stream_stream(REFLECTION)(forgotten(), timeout=5)
    assert len(list(answers)) == 1
    release.set()
