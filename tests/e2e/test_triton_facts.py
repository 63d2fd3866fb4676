"""What a real Triton does beside its answers, and what the sidecar before it makes of that: see SERVERS in the cases'
README. Each is shown on the server itself first.
"""

import dataclasses
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory

import grpc
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2

from sidecar.config import BundleSource, Probing
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.methods import MODEL_INFER
from tests.conformance.guarded_model import MODEL, bundle_bytes, request, values
from tests.conformance.typed_model import model_name, raw_request, typed_bundle, typed_request, wire
from tests.e2e.triton.launcher import BFLOAT16_MODEL, DECOUPLED_MODEL, PLAIN_MODEL, ServedFolder, running_triton
from tests.integration.proxy_harness import Loop, Reply, call, settings, sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DECOUPLED, BFLOAT16 = "decoupled", model_name("BF16")
HEALTH = "/grpc.health.v1.Health/Check"


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where Triton listens, and the sidecar before it."""

    direct: int
    through: int


@pytest.fixture(scope="module")
def ports(triton_install, server_logs, tmp_path_factory) -> Iterator[Ports]:
    folder, bundles = tmp_path_factory.mktemp("triton"), tmp_path_factory.mktemp("bundles")
    server_logs.append(folder / "triton.log")
    models = {MODEL: PLAIN_MODEL, DECOUPLED: DECOUPLED_MODEL, BFLOAT16: BFLOAT16_MODEL}
    contents = {
        MODEL: bundle_bytes(),
        DECOUPLED: bundle_bytes(name=DECOUPLED),
        BFLOAT16: typed_bundle("BF16"),
    }
    for name, content in contents.items():
        (bundles / f"{name}.gates").write_bytes(content)
    sources = tuple(BundleSource(bundles / f"{name}.gates") for name in contents)
    loop = Loop()
    with running_triton(triton_install, [ServedFolder(*each) for each in models.items()], folder) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        stated = dataclasses.replace(settings(bundles, port), bundles=sources, probe=Probing.OFF)
        with sidecar(loop, stated) as running:
            yield Ports(port, running.listen_port)
    loop.close()


def _asked(port: int, message: pb.ModelInferRequest) -> Reply:
    return call(port, MODEL_INFER, message.SerializeToString())


def _reason(reply: Reply) -> str:
    assert reply.body is None
    return reply.trailing["gate-reason"]


def test_a_call_to_a_decoupled_model_is_unimplemented(ports: Ports):
    message = request([0.75, 2], model_name=DECOUPLED)
    direct, through = _asked(ports.direct, message), _asked(ports.through, message)
    assert direct.code is through.code is grpc.StatusCode.UNIMPLEMENTED
    assert _reason(through) == "upstream_error"


def test_bfloat16_is_judged_on_the_bytes_that_the_model_saw(ports: Ports):
    for x, y, outcome in (((0, 5), (0, 5), "outside"), ((1, 0), (0, 0), "corrected")):
        message = raw_request("BF16", wire("BF16", x))
        direct, through = _asked(ports.direct, message), _asked(ports.through, message)
        assert values(direct.body, "y").tolist() == [list(x)], direct.details
        assert (values(through.body, "y").tolist(), through.trailing["gate-outcome"]) == ([list(y)], outcome)


def test_bfloat16_has_no_typed_contents(ports: Ports):
    message = typed_request("BF16", [1.0, 0.0], "fp32_contents")
    assert _asked(ports.direct, message).body is None
    assert _reason(_asked(ports.through, message)) == "input_contents"


def test_an_output_in_shared_memory_leaves_an_empty_slot_and_is_refused(ports: Ports):
    message = request([0.75, 0])
    for name in ("y", "z"):
        message.outputs.add(name=name)
    message.outputs[0].parameters["shared_memory_region"].string_param = "ours"
    message.outputs[0].parameters["shared_memory_byte_size"].int64_param = 12
    memory = SharedMemory(create=True, size=64)
    try:
        with triton.InferenceServerClient(f"127.0.0.1:{ports.direct}") as client:
            # Never unregistered: Triton refuses that for a moment after it has answered, and ends with these tests.
            client.register_system_shared_memory("ours", f"/{memory.name}", 64)
            direct, through = _asked(ports.direct, message), _asked(ports.through, message)
    finally:
        memory.close()
        memory.unlink()
    answer = pb.ModelInferResponse.FromString(direct.body)
    slots = dict(zip([tensor.name for tensor in answer.outputs], answer.raw_output_contents, strict=True))
    assert {name: len(slot) for name, slot in slots.items()} == {"y": 0, "z": 8}
    assert _reason(through) == "shared_memory"


def test_health_of_any_name_is_serving_there_and_not_here(ports: Ports):
    asked = health_pb2.HealthCheckRequest(service="no such model").SerializeToString()
    direct, through = call(ports.direct, HEALTH, asked), call(ports.through, HEALTH, asked)
    assert health_pb2.HealthCheckResponse.FromString(direct.body).status == health_pb2.HealthCheckResponse.SERVING
    assert through.code is grpc.StatusCode.NOT_FOUND


def test_reflection_is_not_offered_there_and_is_here(ports: Ports):
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    codes = []
    for port in (ports.direct, ports.through):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = channel.stream_stream(method)(iter([b"\x3a\x00"]), timeout=10)  # list_services
            try:
                codes.append(len(list(stream)))
            except grpc.RpcError as error:
                codes.append(error.code())
    assert codes == [grpc.StatusCode.UNIMPLEMENTED, 1]
