"""ACAS Xu behind a real Triton, guarded by the real command line, asked by tritonclient.

Every answer is asked for twice, from Triton and through the sidecar, and judged by a reading of the VNN-LIB
files that shares nothing with the product, in rational numbers. An answer that satisfies must come back byte for byte;
one that does not must come back corrected. And enough of both must occur, or the test fails.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc._utils import _get_inference_request

from sidecar.bundle.files import read_bundle
from sidecar.network.onnx_reader import read_model
from tests.e2e.attack import boundary_rows, counterexamples, uniform_rows
from tests.e2e.guarding import RunningSidecar, compile_bundle, running_sidecar
from tests.e2e.judge import Judge, read_judge
from tests.e2e.networks import OVERLAPPING_PROPERTY, tying_network
from tests.e2e.traffic import Answer, Wire, ask
from tests.e2e.triton.launcher import RunningTriton, ServedModel, TritonInstall, running_triton

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ACASXU_WIRE = Wire("input", "linear_7_Add", (1, 1, 1, 5))
BATCH_WIRE = Wire("input", "scores", (None, 5))
MAX_BATCH = 16
TIME_LIMIT = "10s"
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclasses.dataclass(frozen=True)
class Case:
    """A served model, and the properties that guard it (public ones by number, our own by name)."""

    name: str
    network: str
    properties: tuple[str, ...]
    wire: Wire = ACASXU_WIRE
    max_batch_size: int = 0


CASES = (
    Case("n57", "ACASXU_run2a_5_7_batch_2000", ("prop_2",)),
    Case("n29", "ACASXU_run2a_2_9_batch_2000", ("prop_8",)),
    Case("n19", "ACASXU_run2a_1_9_batch_2000", ("prop_7",)),
    Case("n21_two_properties", "ACASXU_run2a_2_1_batch_2000", ("prop_1", "prop_2")),
    Case("ties_in_batches", "tying", ("prop_2", "overlapping"), BATCH_WIRE, MAX_BATCH),
)


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Everything running: Triton, the sidecar before it, and the files they were started from."""

    triton: RunningTriton
    sidecar: RunningSidecar
    models: dict[str, Path]
    bundles: dict[str, Path]
    judges: dict[str, tuple[Judge, ...]]


@pytest.fixture(scope="module")
def guarded(
    acasxu: Path, triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory, server_logs: list[Path]
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "tying.onnx").write_bytes(tying_network())
    (folder / "overlapping.vnnlib").write_text(OVERLAPPING_PROPERTY)
    models = {case.name: _file(case.network + ".onnx", folder, acasxu) for case in CASES}
    properties = {case.name: [_file(each + ".vnnlib", folder, acasxu) for each in case.properties] for case in CASES}
    bundles = {case.name: folder / f"{case.name}.gates" for case in CASES}
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(compile_bundle, models[name], properties[name], name, bundles[name], TIME_LIMIT)
            for name in models
        ]
    for run in runs:
        assert run.result().returncode == 0, run.result().stderr
        print(run.result().stdout)
    served = [ServedModel(case.name, models[case.name].read_bytes(), case.max_batch_size) for case in CASES]
    server_logs += [folder / "triton.log", folder / "sidecar.log"]
    with (
        running_triton(triton_install, served, folder) as server,
        running_sidecar(list(bundles.values()), server.grpc_address, folder / "sidecar.log") as sidecar,
    ):
        judges = {name: tuple(read_judge(path) for path in paths) for name, paths in properties.items()}
        yield Guarded(server, sidecar, models, bundles, judges)


def _file(name: str, *folders: Path) -> Path:
    return next(folder / name for folder in folders if (folder / name).exists())


# -- rows to ask for -----------------------------------------------------------------------------------------


def _corners_and_neighbours(judge: Judge) -> np.ndarray:
    """The domain's corners in FP32, and for each coordinate the next FP32 value inwards and outwards."""
    lower, upper = judge.wire_box()
    corners = np.array(list(itertools.product(*zip(lower, upper, strict=True))), np.float32)
    centre = ((lower + upper) / 2).astype(np.float32)
    away = np.where(corners > centre, np.float32(np.inf), np.float32(-np.inf)).astype(np.float32)
    rows = [corners, np.nextafter(corners, -away), np.nextafter(corners, away)]
    for feature in range(len(lower)):
        for direction in (away, -away):
            moved = corners.copy()
            moved[:, feature] = np.nextafter(corners[:, feature], direction[:, feature])
            rows.append(moved)
    return np.concatenate(rows)


def _just_outside(judge: Judge, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same rows with one feature put to the first FP32 value outside its range."""
    lower, upper = judge.wire_box()
    outside = np.array([np.nextafter(lower, np.float32(-np.inf)), np.nextafter(upper, np.float32(np.inf))])
    moved = rows.copy()
    feature = rng.integers(rows.shape[1], size=len(rows))
    moved[np.arange(len(rows)), feature] = outside[rng.integers(2, size=len(rows)), feature]
    return moved


def _rows(guarded: Guarded, case: Case, rng: np.random.Generator) -> np.ndarray:
    network = read_model(guarded.models[case.name]).network
    bundle = read_bundle(guarded.bundles[case.name])[1]
    rows = [bundle.vectors.inputs.astype(np.float32)]
    for judge in guarded.judges[case.name]:
        found = counterexamples(network, judge, 250, rng)
        rows += [uniform_rows(judge, 3000, rng), _corners_and_neighbours(judge), found]
        if len(found):
            rows += [boundary_rows(network, judge, found, rng), _just_outside(judge, found, rng)]
    return rng.permutation(np.concatenate(rows))


def _requests(case: Case, rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """One row each, or batches of all sizes where the model takes batches."""
    if not case.max_batch_size:
        return list(rows[:, None, :])
    ends = np.cumsum(rng.choice([1, 1, 2, 3, 5, 8, case.max_batch_size], size=len(rows)))
    return [part for part in np.split(rows, ends[ends < len(rows)]) if len(part)]


# -- what is claimed ------------------------------------------------------------------------------------------


def _check(judges: Sequence[Judge], request: np.ndarray, direct: Answer, guarded: Answer) -> collections.Counter[str]:
    """Every promise about one answer; counts what was seen."""
    assert direct.error is None, direct.error
    assert guarded.error is None, guarded.error
    broken = [any(judge.violated(*pair) for judge in judges) for pair in zip(request, direct.rows, strict=True)]
    seen = collections.Counter(requests=1, rows=len(request), corrected=sum(broken))
    seen["in domain"] = sum(any(judge.contains(row) for judge in judges) for row in request)
    if not any(broken):
        assert guarded.message == direct.message, f"a fine answer was changed: {request}"
        return seen + collections.Counter(
            {"answers byte-identical": 1, "ties left alone": sum(map(_tied, direct.rows))}
        )
    assert guarded.rows.shape == direct.rows.shape
    for row, before, after, was_broken in zip(request, direct.rows, guarded.rows, broken, strict=True):
        assert not any(judge.violated(row, after) for judge in judges), f"a violation on the wire: {row} -> {after}"
        assert was_broken or after.tobytes() == before.tobytes(), f"a fine row of a batch was changed: {row}"
        seen["ties corrected"] += was_broken and _tied(before)
    seen["fine rows beside corrected ones"] = len(request) - sum(broken)
    return seen


def _tied(answer: np.ndarray) -> bool:
    """Whether several classes share the largest score."""
    return np.count_nonzero(answer == answer.max()) > 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_violation_reaches_the_client_and_fine_answers_are_byte_identical(
    guarded: Guarded, case: Case, record_property
):
    rng = np.random.default_rng(20260101)
    requests = _requests(case, _rows(guarded, case, rng), rng)
    direct = ask(guarded.triton.grpc_address, case.name, case.wire, requests)
    before = guarded.sidecar.metric("gate_corrections_total", model=case.name)
    answers = ask(guarded.sidecar.address, case.name, case.wire, requests)
    corrected = guarded.sidecar.metric("gate_corrections_total", model=case.name) - before
    judges = guarded.judges[case.name]
    seen = sum((_check(judges, *each) for each in zip(requests, direct, answers, strict=True)), collections.Counter())
    report = f"{case.name}: " + ", ".join(f"{count} {what}" for what, count in seen.items())
    record_property("counted", report)
    print(report)
    assert seen["in domain"] > 3000
    assert seen["corrected"] > 200, "the gates had next to nothing to do: this run proves nothing"
    assert seen["answers byte-identical"] > 0.2 * seen["requests"]
    if case.max_batch_size:
        assert seen["ties corrected"] > 500
        assert seen["ties left alone"] > 100
        assert seen["fine rows beside corrected ones"] > 500
    assert corrected == seen["corrected"], "the metrics tell another story"
    _check_proofs(guarded.sidecar, case.name)


def _check_proofs(sidecar: RunningSidecar, model: str) -> None:
    """What was proved of the verified model holds of the one that Triton serves, on all traffic so far."""
    assert sidecar.metric("gate_breaches_total", model=model) == 0, "a violation in a region proved silent"
    proved_violating = {"model": model, "region": "violating"}
    rows = sidecar.metric("gate_in_domain_rows_total", **proved_violating)
    assert sidecar.metric("gate_violations_total", **proved_violating) == rows, "no violation where one was proved"
    assert sidecar.metric("gate_in_domain_rows_total", model=model) > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=lambda case: case.name)
def test_non_finite_inputs_are_refused_and_never_forwarded(guarded: Guarded, case: Case, value: float):
    row = uniform_rows(guarded.judges[case.name][0], 1, np.random.default_rng(5))
    requests = []
    for feature in range(5):
        spoiled = np.concatenate([row, row]) if case.max_batch_size else row.copy()
        spoiled[-1, feature] = value
        requests.append(spoiled)
    with triton.InferenceServerClient(guarded.triton.grpc_address) as client:
        before = _inferences(client, case.name)
        answers = ask(guarded.sidecar.address, case.name, case.wire, requests)
        assert [answer.error.status() for answer in answers] == ["StatusCode.INVALID_ARGUMENT"] * 5
        assert _inferences(client, case.name) == before


def _inferences(client: triton.InferenceServerClient, model: str) -> int:
    statistics = client.get_inference_statistics(model).model_stats[0]
    return statistics.inference_stats.success.count + statistics.inference_stats.fail.count


def test_bytes_on_the_wire_are_tritons_own_and_every_answer_has_an_id(guarded: Guarded):
    """The same claim below tritonclient, where nothing parses the messages: raw bytes in, raw bytes out."""
    case, judges = CASES[0], guarded.judges[CASES[0].name]
    rng = np.random.default_rng(6)
    rows = np.concatenate(
        [
            uniform_rows(judges[0], 150, rng),
            counterexamples(read_model(guarded.models[case.name]).network, judges[0], 50, rng),
        ]
    )
    identical, decisions = 0, set()
    with (
        grpc.insecure_channel(guarded.triton.grpc_address) as direct,
        grpc.insecure_channel(guarded.sidecar.address) as through,
    ):
        ask_direct, ask_through = direct.unary_unary(METHOD), through.unary_unary(METHOD)
        for row in rows:
            request = _request_bytes(case, row[None])
            answer = ask_direct(request)
            guarded_answer, call = ask_through.with_call(request)
            trailers = dict(call.trailing_metadata())
            decisions.add(trailers["gate-decision"])
            violated = judges[0].violated(row, _values(answer))
            assert violated or guarded_answer == answer
            assert not judges[0].violated(row, _values(guarded_answer))
            assert (trailers["gate-outcome"] == "corrected") == violated
            identical += guarded_answer == answer
    assert 100 <= identical <= 150
    assert len(decisions) == len(rows)


def _request_bytes(case: Case, rows: np.ndarray) -> bytes:
    """A ModelInferRequest as tritonclient itself would send it."""
    request = _get_inference_request(
        model_name=case.name,
        inputs=[case.wire.tensor(rows)],
        model_version="",
        request_id="",
        outputs=None,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )
    return request.SerializeToString()


def _values(message: bytes) -> np.ndarray:
    response = triton.service_pb2.ModelInferResponse.FromString(message)
    return np.frombuffer(response.raw_output_contents[0], "<f4")


def test_in_shadow_mode_violations_pass_and_are_counted(guarded: Guarded, tmp_path: Path, server_logs: list[Path]):
    """Besides the mode, it shows what the wire looks like without correction: this file's checks would fail on it."""
    case, judges = CASES[0], guarded.judges[CASES[0].name]
    network = read_model(guarded.models[case.name]).network
    requests = list(counterexamples(network, judges[0], 100, np.random.default_rng(7))[:, None, :])
    direct = ask(guarded.triton.grpc_address, case.name, case.wire, requests)
    server_logs.append(tmp_path / "shadow.log")
    with running_sidecar(
        [guarded.bundles[case.name]], guarded.triton.grpc_address, server_logs[-1], ["--mode", "shadow"]
    ) as shadow:
        answers = ask(shadow.address, case.name, case.wire, requests)
        assert [answer.message for answer in answers] == [answer.message for answer in direct]
        violating = [
            each
            for each in zip(requests, direct, answers, strict=True)
            if judges[0].violated(each[0][0], each[1].rows[0])
        ]
        assert len(violating) > 90
        assert shadow.metric("gate_violations_total", model=case.name, mode="shadow") == len(violating)
        assert shadow.metric("gate_corrections_total", model=case.name) == 0
    for each in violating:
        with pytest.raises(AssertionError, match="a violation on the wire"):
            _check(judges, *each)


def test_the_sidecar_shows_tritons_metadata_and_hides_what_could_change_the_model(guarded: Guarded):
    with (
        triton.InferenceServerClient(guarded.triton.grpc_address) as direct,
        triton.InferenceServerClient(guarded.sidecar.address) as through,
    ):
        assert through.is_server_live()
        assert through.is_server_ready()
        assert through.is_model_ready("n57")
        assert through.get_model_metadata("n57") == direct.get_model_metadata("n57")
        assert through.get_model_config("n57") == direct.get_model_config("n57")
        with pytest.raises(triton.InferenceServerException) as caught:
            through.unload_model("n57")
        assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
