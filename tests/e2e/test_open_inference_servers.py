"""MLServer and KServe behind the real command line: the other dialects of the Open Inference Protocol.

Each request is asked twice, of the server itself and through the sidecar, as message bytes: nothing between here and
the wire parses them. What the answers mean is judged by a reading of the property that shares nothing with the product.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from sidecar.network.onnx_reader import read_model
from tests.e2e.attack import boundary_rows, counterexamples, uniform_rows
from tests.e2e.guarding import RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.installing import installed_or_not_run
from tests.e2e.judge import Judge, read_judge
from tests.e2e.kserve.launcher import install_kserve, running_kserve
from tests.e2e.mlserver.launcher import install_mlserver, running_mlserver
from tests.e2e.networks import OVERLAPPING_PROPERTY, tying_network
from tests.e2e.processes import RunningServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MODEL = "tying"
SERVICE = "/inference.GRPCInferenceService/"
IN_FLIGHT = 16
LARGEST_BATCH = 16

pb = triton.service_pb2


@dataclasses.dataclass(frozen=True)
class Verified:
    """The model's file, its bundle and what the property means."""

    model: Path
    bundle: Path
    judge: Judge


@dataclasses.dataclass(frozen=True)
class Guarded:
    """A server and the sidecar before it, both running, each with a channel to it."""

    server: RunningServer
    sidecar: RunningSidecar
    direct: grpc.Channel
    through: grpc.Channel

    def inferences(self) -> int:
        """How many ModelInfer calls have reached the server, by its own log of calls."""
        return self.server.log_path.read_text(errors="replace").count("GRPCInferenceService/ModelInfer\n")


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    folder = tmp_path_factory.mktemp("verified")
    model, text, bundle = folder / f"{MODEL}.onnx", folder / "overlapping.vnnlib", folder / f"{MODEL}.gates"
    model.write_bytes(tying_network())
    text.write_text(OVERLAPPING_PROPERTY)
    compiled = compile_bundle(model, [text], MODEL, bundle, "5s")
    assert compiled.returncode == 0, compiled.stderr
    return Verified(model, bundle, read_judge(text))


SERVERS = {"mlserver": (install_mlserver, running_mlserver), "kserve": (install_kserve, running_kserve)}


@pytest.fixture(scope="module", params=SERVERS)
def guarded(
    request: pytest.FixtureRequest,
    verified: Verified,
    tmp_path_factory: pytest.TempPathFactory,
    server_logs: list[Path],
) -> Iterator[Guarded]:
    install, running = SERVERS[request.param]
    packages = installed_or_not_run(request.param, install)
    folder = tmp_path_factory.mktemp(request.param)
    log_path = folder.with_suffix(".sidecar.log")
    server_logs += [folder / f"{request.param}.log", log_path]
    with (
        running(packages, {MODEL: verified.model.read_bytes()}, folder) as server,
        running_sidecar([verified.bundle], server.grpc_address, log_path) as sidecar,
        grpc.insecure_channel(server.grpc_address) as direct,
        grpc.insecure_channel(sidecar.address) as through,
    ):
        yield Guarded(server, sidecar, direct, through)


# -- messages ------------------------------------------------------------------------------------------------


def raw_request(rows: np.ndarray, **fields) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=MODEL, **fields)
    message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    message.raw_input_contents.append(rows.astype("<f4").tobytes())
    return message


def typed_request(rows: np.ndarray, **fields) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=MODEL, **fields)
    tensor = message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return message


def scores(answer: bytes, rows: int) -> np.ndarray:
    """The answer's rows, whichever form they have."""
    message = pb.ModelInferResponse.FromString(answer)
    assert [tensor.name for tensor in message.outputs] == ["scores"]
    if message.raw_output_contents:
        return np.frombuffer(message.raw_output_contents[0], "<f4").reshape(rows, 5)
    return np.array(message.outputs[0].contents.fp32_contents, np.float32).reshape(rows, 5)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back; a refused call has no body."""

    body: bytes | None
    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str], ...]

    def upstreams(self) -> tuple[tuple[str, str], ...]:
        """The trailers that are not the sidecar's."""
        return tuple(each for each in self.trailers if not each[0].startswith("gate-"))


def ask(channel: grpc.Channel, messages: Sequence[pb.ModelInferRequest]) -> list[Reply]:
    """The replies in order, with several calls in flight."""
    call = channel.unary_unary(SERVICE + "ModelInfer")
    replies: list[Reply] = []
    pending: collections.deque[grpc.Future] = collections.deque()
    for message in messages:
        if len(pending) == IN_FLIGHT:
            replies.append(_reply(pending.popleft()))
        pending.append(call.future(message.SerializeToString(), timeout=30))
    return replies + [_reply(each) for each in pending]


def _reply(call: grpc.Future) -> Reply:
    failed = call.exception()
    trailers = tuple((each.key, each.value) for each in call.trailing_metadata())
    return Reply(None if failed else call.result(), call.code(), call.details(), trailers)


# -- what is claimed -----------------------------------------------------------------------------------------


def _batches(verified: Verified, rng: np.random.Generator) -> list[np.ndarray]:
    network = read_model(verified.model).network
    found = counterexamples(network, verified.judge, 250, rng)
    rows = [uniform_rows(verified.judge, 1500, rng), found, boundary_rows(network, verified.judge, found, rng)]
    rows.append(rng.uniform(-1, 1, (300, 5)).astype(np.float32))  # nearly all outside the domain
    mixed = rng.permutation(np.concatenate(rows))
    ends = np.cumsum(rng.choice([1, 1, 2, 3, 5, 8, LARGEST_BATCH], size=len(mixed)))
    return [part for part in np.split(mixed, ends[ends < len(mixed)]) if len(part)]


def _check(judge: Judge, rows: np.ndarray, direct: Reply, guarded: Reply) -> collections.Counter[str]:
    assert direct.body is not None, direct.details
    assert guarded.body is not None, guarded.details
    assert guarded.upstreams() == direct.trailers
    before, after = scores(direct.body, len(rows)), scores(guarded.body, len(rows))
    broken = np.array([judge.violated(row, answer) for row, answer in zip(rows, before, strict=True)])
    assert not any(judge.violated(row, answer) for row, answer in zip(rows, after, strict=True))
    assert after[~broken].tobytes() == before[~broken].tobytes()
    inside = [judge.contains(row) for row in rows]
    outcome = "corrected" if broken.any() else "untouched" if any(inside) else "outside"
    assert dict(guarded.trailers)["gate-outcome"] == outcome
    if broken.any():
        assert _frame(guarded.body) == _frame(direct.body)
    else:
        assert guarded.body == direct.body
    return collections.Counter(
        {
            "requests": 1,
            "rows": len(rows),
            "in domain": sum(inside),
            "corrected": int(broken.sum()),
            "answers byte-identical": int(not broken.any()),
            "fine rows beside corrected ones": int((~broken).sum()) if broken.any() else 0,
        }
    )


def _frame(answer: bytes) -> pb.ModelInferResponse:
    """The message without its numbers: name, version, id, parameters and form are the server's."""
    message = pb.ModelInferResponse.FromString(answer)
    for index, content in enumerate(message.raw_output_contents):
        message.raw_output_contents[index] = bytes(len(content))
    for tensor in message.outputs:
        tensor.contents.fp32_contents[:] = [0.0] * len(tensor.contents.fp32_contents)
    return message


@pytest.mark.parametrize("form", [raw_request, typed_request])
def test_violating_rows_are_corrected_and_all_else_is_the_servers_own(
    guarded: Guarded, verified: Verified, form: Callable[..., pb.ModelInferRequest], record_property, request
):
    rng = np.random.default_rng(20261124)
    batches = _batches(verified, rng)
    messages = [form(rows, id=f"call {index}" if index % 2 else "") for index, rows in enumerate(batches)]
    corrected = guarded.sidecar.metric("gate_corrections_total", model=MODEL)
    direct, answers = ask(guarded.direct, messages), ask(guarded.through, messages)
    corrected = guarded.sidecar.metric("gate_corrections_total", model=MODEL) - corrected
    seen = sum(
        (_check(verified.judge, *each) for each in zip(batches, direct, answers, strict=True)), collections.Counter()
    )
    report = f"{request.node.callspec.id}: " + ", ".join(f"{count} {what}" for what, count in seen.items())
    record_property("counted", report)
    print(report)
    assert seen["in domain"] > 1500
    assert seen["corrected"] > 250, "the gates had next to nothing to do: this run proves nothing"
    assert seen["answers byte-identical"] > 0.1 * seen["requests"]
    assert seen["fine rows beside corrected ones"] > 500
    assert corrected == seen["corrected"], "the metrics tell another story"
    assert guarded.sidecar.metric("gate_breaches_total", model=MODEL) == 0, "a violation in a region proved silent"


@pytest.mark.parametrize("form", [raw_request, typed_request])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_non_finite_inputs_are_refused_and_never_forwarded(
    guarded: Guarded, verified: Verified, form: Callable[..., pb.ModelInferRequest], value: float
):
    rows = uniform_rows(verified.judge, 2, np.random.default_rng(5))
    messages = []
    for feature in range(5):
        spoiled = rows.copy()
        spoiled[1, feature] = value
        messages.append(form(spoiled))
    before = guarded.inferences()
    assert {reply.code for reply in ask(guarded.through, messages)} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert guarded.inferences() == before


def _malformed(rows: np.ndarray) -> Iterator[tuple[str, pb.ModelInferRequest]]:
    for name, form in (("raw", raw_request), ("typed", typed_request)):
        for change, shape in (("more rows than data", (3, 5)), ("fewer rows", (1, 5)), ("other row", (5, 2))):
            message = form(rows)
            message.inputs[0].shape[:] = shape
            yield f"{name}, {change}", message
        message = form(rows)
        message.inputs[0].shape[:] = (10,)
        yield f"{name}, flat", message
        message = form(rows)
        message.inputs[0].datatype = "FP64"
        yield f"{name}, datatype", message
        message = form(rows)
        message.inputs[0].name = "another"
        yield f"{name}, name", message
        message = form(rows)
        message.inputs.add().CopyFrom(message.inputs[0])
        yield f"{name}, twice", message
    message = raw_request(rows)
    message.inputs[0].contents.fp32_contents.extend(rows.ravel().tolist())
    yield "raw and typed", message
    yield "no data", pb.ModelInferRequest(model_name=MODEL)


def test_requests_that_do_not_fit_the_model_are_refused_and_never_forwarded(guarded: Guarded, verified: Verified):
    rows = uniform_rows(verified.judge, 2, np.random.default_rng(6))
    cases = dict(_malformed(rows))
    before = guarded.inferences()
    replies = dict(zip(cases, ask(guarded.through, list(cases.values())), strict=True))
    assert {name: reply.code for name, reply in replies.items()} == dict.fromkeys(
        cases, grpc.StatusCode.INVALID_ARGUMENT
    )
    assert guarded.inferences() == before
    ask(guarded.through, [raw_request(rows)])
    assert guarded.inferences() == before + 1, "the server's log does not count: the line above proves nothing"


def test_metadata_is_the_servers_and_what_could_change_the_model_is_denied(guarded: Guarded):
    for method, message in (
        ("ServerLive", pb.ServerLiveRequest()),
        ("ServerReady", pb.ServerReadyRequest()),
        ("ServerMetadata", pb.ServerMetadataRequest()),
        ("ModelReady", pb.ModelReadyRequest(name=MODEL)),
        ("ModelMetadata", pb.ModelMetadataRequest(name=MODEL)),
    ):
        asked = message.SerializeToString()
        answers = [channel.unary_unary(SERVICE + method)(asked) for channel in (guarded.direct, guarded.through)]
        assert answers[0] == answers[1], method
    unload = pb.RepositoryModelUnloadRequest(model_name=MODEL).SerializeToString()
    for service, code in (
        (SERVICE, grpc.StatusCode.PERMISSION_DENIED),
        # MLServer offers it under a second service too.
        ("/inference.model_repository.ModelRepositoryService/", grpc.StatusCode.UNIMPLEMENTED),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            guarded.through.unary_unary(service + "RepositoryModelUnload")(unload)
        assert caught.value.code() is code
    ready = guarded.direct.unary_unary(SERVICE + "ModelReady")(pb.ModelReadyRequest(name=MODEL).SerializeToString())
    assert pb.ModelReadyResponse.FromString(ready).ready
