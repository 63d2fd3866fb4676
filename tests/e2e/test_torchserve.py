"""A real TorchServe behind the real command line: JSON, .npy and raw predictions, and its Open Inference service.

Each request is asked twice, of the server itself and through the sidecar, as message bytes. What the answers mean is
judged by a reading of the property that shares nothing with the product; JSON is read with Python's own reader, and a
client that keeps float32 rounds what it reads.
"""

import collections
import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Network
from sidecar.protocols.generated import torchserve_pb2
from sidecar.proxy.methods import RULES
from tests.conformance.guarded_model import MODEL as SCRIPTED
from tests.e2e.attack import boundary_rows, counterexamples, uniform_rows
from tests.e2e.conformance.playing import Verdict
from tests.e2e.conformance.script import ScriptFolder
from tests.e2e.conformance.table import lines_of
from tests.e2e.conformance.torchserve import play_cases
from tests.e2e.guarding import RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.judge import Judge, read_judge
from tests.e2e.networks import OVERLAPPING_PROPERTY, tying_network
from tests.e2e.processes import RunningServer
from tests.e2e.torchserve import predictions
from tests.e2e.torchserve.launcher import Payload, ScriptedModel, ServedModel, TorchServeInstall, running_torchserve
from tests.integration.proxy_harness import Loop

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREDICTIONS = predictions.METHOD
SERVICE = PREDICTIONS.removesuffix("Predictions")
OPEN_INFERENCE = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/"
IN_FLIGHT = 16
LARGEST_BATCH = 16

SETTINGS = """
upstream: overridden:1
bundles: [overridden.gates]
models:
  - name: json
    torchserve:
      format: json
      client_datatype: FP32
      inputs: {input: /instances}
      outputs: {scores: /predictions}
  - name: npy
    torchserve: {format: npy}
  - name: raw
    torchserve: {format: raw}
  - name: open_inference
    torchserve: {format: open_inference}
"""

pb = triton.service_pb2


# -- servers -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Verified:
    """The model, its bundle and what the property means."""

    network: Network
    bundle: Path
    judge: Judge


@dataclasses.dataclass(frozen=True)
class Guarded:
    """A server and the sidecar before it, both running, each with a channel to it."""

    server: RunningServer
    script: ScriptFolder
    sidecar: RunningSidecar
    direct: grpc.Channel
    through: grpc.Channel


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    folder = tmp_path_factory.mktemp("verified")
    model, text, bundle = folder / "tying.onnx", folder / "overlapping.vnnlib", folder / "tying.gates"
    model.write_bytes(tying_network())
    text.write_text(OVERLAPPING_PROPERTY)
    compiled = compile_bundle(model, [text], "tying", bundle, "5s")
    assert compiled.returncode == 0, compiled.stderr
    return Verified(read_model(model).network, bundle, read_judge(text))


@pytest.fixture(scope="module")
def guarded(
    torchserve_install: TorchServeInstall,
    verified: Verified,
    tmp_path_factory: pytest.TempPathFactory,
    server_logs: list[Path],
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("torchserve")
    log_path, settings = folder.with_suffix(".sidecar.log"), folder.with_suffix(".yaml")
    server_logs += [folder / "torchserve.log", log_path]
    settings.write_text(SETTINGS)
    bundles = [f"{payload.value}={verified.bundle}" for payload in Payload]
    models = [ServedModel(payload.value, verified.network, payload) for payload in Payload]
    script = ScriptFolder.make(folder.with_suffix(".script"))
    scripted = ScriptedModel(SCRIPTED, script.path / "script_reader.py")
    options = ["--config", str(settings)]
    with (
        running_torchserve(torchserve_install, [*models, scripted], folder) as server,
        running_sidecar(bundles, server.grpc_address, log_path, options) as sidecar,
        grpc.insecure_channel(server.grpc_address) as direct,
        grpc.insecure_channel(sidecar.address) as through,
    ):
        yield Guarded(server, script, sidecar, direct, through)


# -- messages ------------------------------------------------------------------------------------------------


def _npy(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def _open_inference(rows: np.ndarray, identity: str = "") -> bytes:
    message = pb.ModelInferRequest(model_name="open_inference", id=identity)
    tensor = message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return message.SerializeToString()


def _prediction(model: str, payload: Callable[[np.ndarray], bytes]) -> Callable[[np.ndarray], bytes]:
    return lambda rows: predictions.request_bytes(model, {"data": payload(rows)})


def _scores(answer: bytes) -> np.ndarray:
    (tensor,) = pb.ModelInferResponse.FromString(answer).outputs
    assert (tensor.name, tensor.datatype) == ("scores", "FP32")
    return np.array(tensor.contents.fp32_contents, np.float32)


def _without_numbers(answer: bytes) -> object:
    message = pb.ModelInferResponse.FromString(answer)
    for tensor in message.outputs:
        tensor.contents.fp32_contents[:] = [0.0] * len(tensor.contents.fp32_contents)
    return message.SerializeToString(deterministic=True)


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to ask: the request, the numbers that a client reads in the answer, and all of it but the numbers."""

    method: str
    request: Callable[[np.ndarray], bytes]
    numbers: Callable[[bytes], np.ndarray]
    frame: Callable[[bytes], object]


FORMS = {
    "json": Form(
        PREDICTIONS,
        _prediction("json", lambda rows: json.dumps({"instances": rows.tolist()}).encode()),
        lambda answer: np.array(json.loads(predictions.prediction(answer))["predictions"], np.float64).astype(
            np.float32
        ),
        lambda answer: re.sub(rb"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", b"#", predictions.prediction(answer)),
    ),
    "npy": Form(
        PREDICTIONS,
        _prediction("npy", _npy),
        lambda answer: np.load(io.BytesIO(predictions.prediction(answer))),
        lambda answer: predictions.prediction(answer)[:128],
    ),
    "raw": Form(
        PREDICTIONS,
        _prediction("raw", lambda rows: rows.astype("<f4").tobytes()),
        lambda answer: np.frombuffer(predictions.prediction(answer), "<f4"),
        len,
    ),
    "open_inference": Form(
        OPEN_INFERENCE + "ModelInfer", lambda rows: _open_inference(rows, "mine"), _scores, _without_numbers
    ),
}


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back; a refused call has no body."""

    body: bytes | None
    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str], ...]


def ask(channel: grpc.Channel, method: str, messages: Sequence[bytes]) -> list[Reply]:
    """The replies in order, with several calls in flight."""
    call = channel.unary_unary(method)
    replies: list[Reply] = []
    pending: collections.deque[grpc.Future] = collections.deque()
    for message in messages:
        if len(pending) == IN_FLIGHT:
            replies.append(_reply(pending.popleft()))
        pending.append(call.future(message, timeout=60))
    return replies + [_reply(each) for each in pending]


def _reply(call: grpc.Future) -> Reply:
    failed = call.exception()
    trailers = tuple((each.key, each.value) for each in call.trailing_metadata() or ())
    return Reply(None if failed else call.result(), call.code(), call.details(), trailers)


# -- what is claimed -----------------------------------------------------------------------------------------


def _batches(verified: Verified, rng: np.random.Generator) -> list[np.ndarray]:
    judge = verified.judge
    found = counterexamples(verified.network, judge, 250, rng)
    rows = [uniform_rows(judge, 1500, rng), found, boundary_rows(verified.network, judge, found, rng)]
    rows.append(rng.uniform(-1, 1, (300, 5)).astype(np.float32))  # nearly all outside the domain
    mixed = rng.permutation(np.concatenate(rows))
    ends = np.cumsum(rng.choice([1, 1, 2, 3, 5, 8, LARGEST_BATCH], size=len(mixed)))
    return [part for part in np.split(mixed, ends[ends < len(mixed)]) if len(part)]


def _check(form: Form, judge: Judge, rows: np.ndarray, direct: Reply, guarded: Reply) -> collections.Counter[str]:
    assert direct.body is not None, direct.details
    assert guarded.body is not None, guarded.details
    before, after = (form.numbers(reply.body).reshape(rows.shape) for reply in (direct, guarded))
    broken = np.array([judge.violated(row, answer) for row, answer in zip(rows, before, strict=True)])
    assert not any(judge.violated(row, answer) for row, answer in zip(rows, after, strict=True))
    assert after[~broken].tobytes() == before[~broken].tobytes()
    inside = [judge.contains(row) for row in rows]
    outcome = "corrected" if broken.any() else "untouched" if any(inside) else "outside"
    assert dict(guarded.trailers)["gate-outcome"] == outcome
    if broken.any():
        assert form.frame(guarded.body) == form.frame(direct.body)
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


@pytest.mark.parametrize("name", FORMS)
def test_violating_rows_are_corrected_and_all_else_is_the_servers_own(
    guarded: Guarded, verified: Verified, name: str, record_property
):
    form, batches = FORMS[name], _batches(verified, np.random.default_rng(20261124))
    messages = [form.request(rows) for rows in batches]
    corrected = guarded.sidecar.metric("gate_corrections_total", model=name)
    direct, answers = ask(guarded.direct, form.method, messages), ask(guarded.through, form.method, messages)
    corrected = guarded.sidecar.metric("gate_corrections_total", model=name) - corrected
    seen = sum(
        (_check(form, verified.judge, *each) for each in zip(batches, direct, answers, strict=True)),
        collections.Counter(),
    )
    report = f"{name}: " + ", ".join(f"{count} {what}" for what, count in seen.items())
    record_property("counted", report)
    print(report)
    assert seen["in domain"] > 1500
    assert seen["corrected"] > 250, "the gates had next to nothing to do: this run proves nothing"
    assert seen["answers byte-identical"] > 0.1 * seen["requests"]
    assert seen["fine rows beside corrected ones"] > 500
    assert corrected == seen["corrected"], "the metrics tell another story"
    assert guarded.sidecar.metric("gate_breaches_total", model=name) == 0, "a violation in a region proved silent"


@pytest.mark.parametrize("name", FORMS)
def test_rows_that_are_not_finite_are_refused(guarded: Guarded, verified: Verified, name: str):
    form, rows = FORMS[name], uniform_rows(verified.judge, 2, np.random.default_rng(5))
    messages = []
    for value in (np.nan, np.inf, -np.inf):
        spoiled = rows.copy()
        spoiled[1, 3] = value
        messages.append(form.request(spoiled))
    replies = ask(guarded.through, form.method, messages)
    assert {reply.code for reply in replies} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert {dict(reply.trailers)["gate-reason"] for reply in replies} == {"input_not_finite"}


def _tampered(rows: np.ndarray) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Requests that a handler may well answer, though not to the rows that a careless gate would look at."""
    text = json.dumps({"instances": rows.tolist()})
    yield "the rows twice", "json", {"data": (text[:-1] + ', "instances": [[0, 0, 0, 0, 0]]}').encode()}
    yield "as UTF-16", "json", {"data": text.encode("utf-16")}
    yield "numbers as text", "json", {"data": re.sub(r"(-?[0-9.e-]+)", r'"\1"', text).encode()}
    yield "another key", "json", {"data": text.encode(), "body": text.encode()}
    yield "another key only", "json", {"body": text.encode()}
    yield "a double's file", "npy", {"data": _npy(rows.astype(np.float64))}
    yield "Fortran order", "npy", {"data": _npy(np.asfortranarray(rows))}
    yield "big-endian", "npy", {"data": _npy(rows.astype(">f4"))}
    yield "two files", "npy", {"data": _npy(rows) * 2}
    yield "rows that are one", "npy", {"data": _npy(rows.reshape(1, -1))}
    yield "half a row", "raw", {"data": rows.tobytes()[:-10]}


def test_requests_that_handlers_could_read_otherwise_are_refused(guarded: Guarded, verified: Verified):
    cases = list(_tampered(uniform_rows(verified.judge, 2, np.random.default_rng(6))))
    messages = [predictions.request_bytes(model, inputs) for _, model, inputs in cases]
    replies = ask(guarded.through, PREDICTIONS, messages)
    got = {name: reply.code for (name, _, _), reply in zip(cases, replies, strict=True)}
    assert got == dict.fromkeys(got, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_request_without_an_id_gets_an_answer_without_one(guarded: Guarded, verified: Verified):
    rows = uniform_rows(verified.judge, 3, np.random.default_rng(7))
    (reply,) = ask(guarded.through, OPEN_INFERENCE + "ModelInfer", [_open_inference(rows)])
    assert pb.ModelInferResponse.FromString(reply.body).id == ""
    raw = pb.ModelInferRequest(model_name="open_inference", raw_input_contents=[rows.tobytes()])
    raw.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    (reply,) = ask(guarded.through, OPEN_INFERENCE + "ModelInfer", [raw.SerializeToString()])
    assert (reply.code, dict(reply.trailers)["gate-reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "input_contents")


def test_what_could_hang_a_model_or_change_it_is_denied(guarded: Guarded, verified: Verified):
    message = FORMS["json"].request(uniform_rows(verified.judge, 1, np.random.default_rng(8)))
    management = "/org.pytorch.serve.grpc.management.ManagementAPIsService/"
    for method in (SERVICE + "StreamPredictions", SERVICE + "StreamPredictions2", management + "UnregisterModel"):
        with pytest.raises(grpc.RpcError) as caught:
            guarded.through.unary_unary(method)(message, timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert ask(guarded.through, PREDICTIONS, [message])[0].code is grpc.StatusCode.OK


def test_a_ping_and_questions_are_answered_as_by_the_server(guarded: Guarded):
    for method, asked in (
        (SERVICE + "Ping", b""),
        (OPEN_INFERENCE + "ServerLive", b""),
        (OPEN_INFERENCE + "ServerReady", b""),
        (OPEN_INFERENCE + "ModelReady", pb.ModelReadyRequest(name="json").SerializeToString()),
        (OPEN_INFERENCE + "ModelMetadata", pb.ModelMetadataRequest(name="json").SerializeToString()),
    ):
        direct, through = (ask(channel, method, [asked])[0].body for channel in (guarded.direct, guarded.through))
        assert direct is not None
        assert through == direct, method


def test_errors_of_the_server_say_nothing_of_its_insides(guarded: Guarded, verified: Verified):
    rows = uniform_rows(verified.judge, 1, np.random.default_rng(9))
    payload = json.dumps({"instances": rows.tolist()}).encode()
    unknown = pb.ModelReadyRequest(name="another").SerializeToString()
    for method, message, code in (
        (PREDICTIONS, predictions.request_bytes("json", {"data": payload}, "9.0"), grpc.StatusCode.NOT_FOUND),
        (
            PREDICTIONS,
            predictions.request_bytes("json", {"data": payload + b" " * 6_600_000}),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (OPEN_INFERENCE + "ModelReady", unknown, grpc.StatusCode.NOT_FOUND),
    ):
        (direct,), (through,) = (ask(channel, method, [message]) for channel in (guarded.direct, guarded.through))
        assert direct.body is None
        assert through.code is code
        assert "pytorch" not in through.details
        assert "Exception" not in through.details
    assert ask(guarded.through, PREDICTIONS, [predictions.request_bytes("json", {"data": payload})])[0].body


def test_workers_that_are_killed_come_back_and_no_answer_in_between_is_wrong(guarded: Guarded, verified: Verified):
    form, judge = FORMS["raw"], verified.judge
    found = counterexamples(verified.network, judge, 20, np.random.default_rng(10))
    workers = re.findall(r"\[PID\](\d+)", guarded.server.log_path.read_text())
    assert len(workers) >= len(Payload)
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)
    deadline, codes = time.monotonic() + 60, collections.Counter[grpc.StatusCode]()
    while codes[grpc.StatusCode.OK] < 50 and time.monotonic() < deadline:
        (reply,) = ask(guarded.through, form.method, [form.request(found)])
        codes[reply.code] += 1
        if reply.body is None:
            assert "pytorch" not in reply.details
            time.sleep(0.2)
        else:
            answers = form.numbers(reply.body).reshape(found.shape)
            assert not any(judge.violated(row, answer) for row, answer in zip(found, answers, strict=True))
    assert codes[grpc.StatusCode.OK] == 50, codes
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}


def test_all_cases_come_out_as_stated(guarded: Guarded, tmp_path: Path, record_property):
    loop = Loop()
    share = play_cases(loop, tmp_path, guarded.server.grpc_address, guarded.script)
    loop.close()
    assert share.of(Verdict.FAILED) == [], "\n".join(lines_of([share]))
    assert [result.case for result in share.of(Verdict.NOT_APPLICABLE)] == ["an answer that is no message"]
    record_property("counted", f"conformance, torchserve: {len(share.of(Verdict.PASSED))} cases")


def test_our_messages_have_the_servers_fields(torchserve_install: TorchServeInstall):
    (jar,) = torchserve_install.packages.glob("ts/frontend/model-server.jar")
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("proto/inference.proto").decode()
    theirs = {
        message: {(name, int(number)) for name, number in re.findall(r"(\w+) = (\d+);", re.sub(r"//[^\n]*", "", body))}
        for message, body in re.findall(r"message (\w+) \{(.*?)\n\}", text, re.DOTALL)
    }
    ours = {
        name: {(field.name, field.number) for field in message.fields}
        for name, message in torchserve_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert ours == theirs
    known = {method.removeprefix(SERVICE) for method in RULES if method.startswith(SERVICE)}
    assert set(re.findall(r"rpc (\w+)", text)) == known
