"""The commands as a person types them: what they print, what they refuse and with which exit status."""

import gzip
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sidecar.bundle.values import Arithmetic
from sidecar.cli import main
from sidecar.demo.driving import MODEL_PATH, PROPERTIES_PATH

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command: exit status, standard output, standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return command


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle, searched for a moment only."""
    target = tmp_path_factory.mktemp("cli") / "safe_distance.gates"
    arguments = ["--model", str(MODEL_PATH), "--property", str(PROPERTIES_PATH), "--output", str(target)]
    assert main(["compile", *arguments, "--max-regions", "500"]) == 0
    return target


def _refused(result: tuple[int, str, str], status: int, *expected: str) -> None:
    """One clear line on standard error, with these words in it, and no output."""
    got, out, err = result
    assert got == status, err
    assert out == ""
    assert err.startswith("sidecar: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for words in expected:
        assert words in err


def _properties(folder: Path, text: str) -> Path:
    path = folder / "properties.yaml"
    head = PROPERTIES_PATH.read_text().partition("properties:")[0]
    path.write_text(f"{head}properties:\n{text}")
    return path


def test_compile_prints_what_is_proved_and_writes_a_bundle(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "b.gates"
    status, out, err = run(
        "compile", "--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--max-regions", 300
    )
    assert (status, err) == (0, "")
    assert "brake-when-closing-in" in out
    assert f"{target}: guards 'safe_distance'" in out
    assert "silent: proved that the model keeps it" in out
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 100
    assert target.stat().st_size > 1000


def test_check_proves_again_what_compile_proved(run: Run, compiled: Path) -> None:
    status, out, err = run("check", compiled, "--model", MODEL_PATH)
    assert (status, err) == (0, "")
    assert out.startswith(f"{compiled}: all of it holds\n")
    assert "silent and" in out
    status, out, _ = run("check", compiled, "--model", MODEL_PATH, "--json", "--workers", 1)
    assert status == 0
    assert json.loads(out)["holds"] is True
    assert f"certificate: {compiled}.cert" in run("inspect", compiled)[1]
    assert json.loads(run("inspect", compiled, "--json")[1])["certificate"] == f"{compiled}.cert"


def test_check_says_no_where_something_is_not_so(run: Run, compiled: Path, tmp_path: Path) -> None:
    other = onnx.load(MODEL_PATH)
    other.producer_name = "somebody else"
    onnx.save(other, tmp_path / "other.onnx")
    _refused(run("check", compiled, "--model", tmp_path / "other.onnx"), 1, "the model file's digest")


def test_verify_finds_counterexamples_and_says_no(run: Run, tmp_path: Path) -> None:
    result = tmp_path / "result.txt"
    given = ("verify", "--model", MODEL_PATH, "--property", PROPERTIES_PATH)
    status, out, err = run(*given, "--counterexample", result, "--workers", 1)
    assert (status, err) == (1, "")
    assert re.search(r"^brake-when-closing-in +VIOLATED +[\d.]+ s", out, re.MULTILINE)
    assert "required: BRAKE_HARD" in out
    assert max(map(len, out.splitlines())) <= 100
    assert result.read_text().startswith("sat\n((X_0 ")
    status, out, err = run(*given, "--json")
    assert (status, json.loads(out)["result"], err) == (1, "sat", "")


def test_verify_proves_what_holds_and_says_when_it_does_not_know(run: Run, tmp_path: Path) -> None:
    path = _properties(tmp_path, "  - id: fine\n    when: gap <= 20\n    require: score(HOLD) < 1e6\n")
    packed, names = tmp_path / "model.onnx.gz", ("verify", "--property", path)
    packed.write_bytes(gzip.compress(MODEL_PATH.read_bytes()))
    status, out, err = run(*names, "--model", packed)
    assert (status, err) == (0, "")
    assert "HOLDS: proved for every input" in out
    status, out, err = run(*names, "--model", MODEL_PATH, "--time-limit", "0s", "--counterexample", tmp_path / "r")
    assert (status, (tmp_path / "r").read_text(), err) == (4, "timeout\n", "")
    assert "UNKNOWN" in out


def test_the_servers_arithmetic_can_be_declared(run: Run, tmp_path: Path) -> None:
    path = _properties(tmp_path, "  - id: fine\n    when: gap <= 20\n    require: score(HOLD) < 1e3\n")
    given = ("--model", MODEL_PATH, "--property", path)
    for arithmetic in Arithmetic:
        status, out, err = run("verify", *given, "--arithmetic", arithmetic.value)
        if arithmetic is Arithmetic.IEEE64:
            assert (status, out) == (2, "")
            assert "ieee64 speaks about FP64 tensors; the model's are FP32" in err
        else:
            assert (status, err) == (0, "")
            assert f"in real arithmetic and in {arithmetic.words}" in out
    bundle = tmp_path / "coarse.gates"
    assert run("compile", *given, "--output", bundle, "--arithmetic", "bf16")[0] == 0
    assert "served in bfloat16 with sums in float32, in any order of summation" in run("inspect", bundle)[1]
    status, out, _ = run("check", bundle, "--model", MODEL_PATH)
    assert status == 0
    assert "in bfloat16 with sums in float32" in out


def test_an_arithmetic_that_nothing_is_proved_about_is_not_declared(run: Run, tmp_path: Path) -> None:
    given = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", tmp_path / "b.gates")
    _refused(run("compile", *given, "--arithmetic", "tf32", "--without-proof"), 2, "--arithmetic", "--without-proof")


def test_verify_refuses_what_it_cannot_read(run: Run, tmp_path: Path) -> None:
    _refused(run("verify", "--model", tmp_path / "no.onnx", "--property", PROPERTIES_PATH), 2, "no.onnx")
    _refused(run("verify", "--model", MODEL_PATH, "--property", tmp_path / "no.vnnlib"), 2, "no such file")
    _refused(
        run("verify", "--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--counterexample", tmp_path / "no" / "r"),
        3,
        "r",
    )


def test_what_cannot_be_read_cannot_be_checked(run: Run, compiled: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cert"
    bad.write_bytes(Path(f"{compiled}.cert").read_bytes()[:-1])
    check = ("check", compiled, "--model", MODEL_PATH)
    _refused(run(*check, "--certificate", bad), 2, "bundle_certificate", "it was changed")
    _refused(run(*check, "--certificate", tmp_path / "none.cert"), 2, "none.cert", "sidecar compile")
    _refused(run("check", compiled, "--model", tmp_path / "none.onnx"), 2, "none.onnx")


def test_a_bundle_without_certificate_says_so(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "b.gates"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--max-regions", 5)
    assert run("compile", *arguments)[0] == 0
    assert Path(f"{target}.cert").is_file()
    assert run("compile", *arguments, "--no-certificate")[0] == 0
    assert not Path(f"{target}.cert").exists()
    assert "certificate: none beside it" in run("inspect", target)[1]
    _refused(run("check", target, "--model", MODEL_PATH), 2, "b.gates.cert")


def test_the_row_that_compile_suggests_to_try_is_a_violation(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "b.gates"
    _, out, _ = run(
        "compile", "--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--max-regions", 300
    )
    _, _, suggested = out.partition("Try next\n")
    program, *arguments = shlex.split(suggested.splitlines()[1].rstrip("\\") + suggested.splitlines()[2])
    assert (program, arguments[0]) == ("sidecar", "try")
    status, told, _ = run(*arguments)
    assert status == 0
    assert "VIOLATED" in told
    assert "the client gets this instead" in told


def test_bounds_beyond_a_declared_range_are_remarked_on(run: Run, tmp_path: Path) -> None:
    path = _properties(tmp_path, "  - {id: a, when: gap <= 300 and gap >= 0, require: best != ACCELERATE}")
    arguments = ("--model", MODEL_PATH, "--property", path, "--output", tmp_path / "b.gates", "--max-regions", 5)
    status, out, _ = run("compile", *arguments)
    assert status == 0
    assert "note: a applies to gap in [0, 300] m, beyond the declared range" in out


def test_the_same_inputs_and_region_counts_give_the_same_bytes(run: Run, tmp_path: Path, compiled: Path) -> None:
    _, out, _ = run("inspect", compiled, "--json")
    regions = dict(json.loads(out)["manifest"]["options"])["max-regions"]
    again = tmp_path / "again.gates"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", again)
    assert run("compile", *arguments, "--max-regions", regions, "--time-limit", "1h")[0] == 0
    assert again.read_bytes() == compiled.read_bytes()


def test_name_revision_and_action_can_be_given(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "b.gates"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--max-regions", 50)
    versions = ("--model-version", "2", "--model-version", "1", "--model-version", "2")
    assert run("compile", *arguments, "--name", "other", "--revision", 7, "--action", "refuse", *versions)[0] == 0
    _, out, _ = run("inspect", target)
    assert "versions        1, 2" in out
    assert "model other" in out
    assert "revision        7" in out
    assert "refuse" in out


def test_what_the_model_does_at_random_points_is_told_beside_what_is_proved(run: Run, tmp_path: Path) -> None:
    target, report = tmp_path / "b.gates", tmp_path / "r.html"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--max-regions", 50)
    _, out, _ = run("compile", *arguments, "--samples", 3000, "--report", report)
    _, _, table = out.partition("violating at random points (seed 0)")
    assert "of 3,000)" in table
    assert "of 3,000)" in report.read_text()
    status, shown, _ = run("inspect", target, "--model", MODEL_PATH, "--samples", 3000)
    assert status == 0
    assert table.splitlines()[1] in shown
    documents = json.loads(run("inspect", target, "--json", "--model", MODEL_PATH, "--samples", 300)[1])["sampled"]
    assert [each["points"] for each in documents] == [300] * len(documents)
    assert json.loads(run("inspect", target, "--json")[1])["sampled"] == []
    assert "random points" not in run("compile", *arguments, "--samples", 0)[1]
    _refused(run("compile", *arguments, "--report", tmp_path / "no" / "r.html"), 3, "r.html")


def test_a_compile_that_its_time_limit_stopped_goes_on_from_a_file(run: Run, tmp_path: Path) -> None:
    target, state = tmp_path / "b.gates", tmp_path / "b.state"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", target, "--samples", 0)
    limited = (*arguments, "--max-regions", 50, "--resume", state)
    _, out, _ = run("compile", *limited, "--time-limit", "0s")
    assert out.endswith(f"{state}: the time limit stopped the proofs; the same command goes on where they are\n")
    _refused(run("compile", *arguments, "--resume", state, "--max-regions", 60), 2, "another compilation")
    _, out, _ = run("compile", *limited)
    assert str(state) not in out
    assert not state.exists()
    resumed = target.read_bytes()
    run("compile", *arguments, "--max-regions", 50)
    assert target.read_bytes() == resumed


def test_inspect_shows_properties_and_coverage(run: Run, compiled: Path) -> None:
    status, out, err = run("inspect", compiled)
    assert (status, err) == (0, "")
    for words in ("property brake-when-tailgating", "proved", "silent", "owner", "require"):
        assert words in out


@pytest.mark.parametrize(
    "given", ['{"gap": 20, "own_speed": 30, "closing_speed": 12}', '{"features": [0.13333334, 0.75, 0.3]}']
)
def test_try_explains_a_row_given_by_names_or_by_tensor(run: Run, compiled: Path, given: str) -> None:
    status, out, err = run("try", compiled, "--input", given, "--model", MODEL_PATH)
    assert (status, err) == (0, "")
    assert "gap" in out
    assert "20 m" in out
    assert "property brake-when-closing-in:" in out
    assert "the client gets" in out


def test_try_shows_a_violating_answer_and_its_correction(run: Run, compiled: Path) -> None:
    answer = '{"BRAKE_HARD": 0, "BRAKE": 0, "HOLD": 1, "ACCELERATE": 3}'
    given = '{"gap": 20, "own_speed": 30, "closing_speed": 12}'
    status, out, _ = run("try", compiled, "--input", given, "--answer", answer)
    assert status == 0
    assert "brake-when-closing-in: VIOLATED" in out
    assert "the client gets this instead (project" in out


def test_try_says_why_a_property_does_not_apply(run: Run, compiled: Path) -> None:
    _, out, _ = run("try", compiled, "--input", '{"gap": 30, "own_speed": 20, "closing_speed": -9}')
    assert "brake-when-closing-in: does not apply: closing_speed is -9 m/s, not from 10 m/s to 40 m/s" in out
    _, out, _ = run("try", compiled, "--input", '{"gap": 30, "own_speed": 20, "closing_speed": 3}')
    assert "brake-when-tailgating: does not apply: 0.9*own_speed - gap >= 0 does not hold" in out


def test_try_calls_a_violation_in_a_silent_region_a_breach(run: Run, compiled: Path) -> None:
    rows = ({"gap": gap, "own_speed": 10, "closing_speed": 12} for gap in range(0, 40, 4))
    answer = json.dumps({"scores": [0, 0, 0, 5]})
    told = [run("try", compiled, "--input", json.dumps(row), "--answer", answer)[1] for row in rows]
    silent = [out for out in told if "brake-when-closing-in: VIOLATED; proved silent" in out]
    assert silent
    assert all("a breach: the verified model cannot give this answer here" in out for out in silent)


def test_try_tells_what_was_required_in_the_property_files_words(run: Run, compiled: Path) -> None:
    given = '{"gap": 20, "own_speed": 30, "closing_speed": 12}'
    _, out, _ = run("try", compiled, "--input", given, "--answer", '{"scores": [0, 0, 1, 3]}')
    assert "  required: BRAKE_HARD - HOLD > 0" in out
    assert "was 3" in out


def test_try_with_another_model_says_so_or_refuses(run: Run, tmp_path: Path, compiled: Path) -> None:
    given = '{"gap": 20, "own_speed": 30, "closing_speed": 12}'
    for outputs, status, words in (
        (4, 0, "is not the model that the bundle was compiled from"),
        (2, 2, "takes 3 values and gives 2"),
    ):
        tensors = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
            for name, size in (("features", 3), ("scores", outputs))
        ]
        weight = helper.make_tensor("w", TensorProto.FLOAT, [3, outputs], [1.0] * (3 * outputs))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["features", "w"], ["scores"])], "g", tensors[:1], tensors[1:], [weight]
        )
        path = tmp_path / "other.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        got, out, err = run("try", compiled, "--input", given, "--model", path)
        assert got == status
        assert words in out + err


def test_try_without_an_answer_says_where_the_input_lies(run: Run, compiled: Path) -> None:
    status, out, _ = run("try", compiled, "--input", '{"gap": 149, "own_speed": 10, "closing_speed": 0}')
    assert status == 0
    assert "does not apply" in out
    assert "no answer to judge" in out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("gap=3", "expected JSON"),
        ("[1, 2]", "expected a JSON object"),
        ('{"gap": 3}', "expected {"),
        ('{"gap": 3, "own_speed": "fast", "closing_speed": 0}', "expected a number"),
        ('{"features": [1, 2]}', "has 2 values"),
        ('{"features": [1, 2, null]}', "expected numbers"),
        ('{"features": [1, 2, 1e99]}', "beyond the range"),
        ('{"features": [1, 2, NaN]}', "expected"),
        ("[" * 100_000, "expected JSON"),
    ],
)
def test_try_refuses_what_is_no_row(run: Run, compiled: Path, given: str, words: str) -> None:
    _refused(run("try", compiled, "--input", given), 2, words)


def test_a_broken_onnx_file_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(MODEL_PATH.read_bytes()[:200])
    _refused(
        run("compile", "--model", broken, "--property", PROPERTIES_PATH, "--output", tmp_path / "b"), 2, "broken.onnx"
    )


def test_an_unknown_operator_is_named_with_node_and_opset(run: Run, tmp_path: Path) -> None:
    node = helper.make_node("Sin", ["x"], ["y"], name="wave")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", tensors[:1], tensors[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.save(model, tmp_path / "sin.onnx")
    result = run("compile", "--model", tmp_path / "sin.onnx", "--property", PROPERTIES_PATH, "--output", tmp_path / "b")
    _refused(result, 2, "Sin", "wave", "17")


def test_a_missing_file_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "none.onnx"
    _refused(run("compile", "--model", missing, "--property", PROPERTIES_PATH, "--output", "b"), 2, "none.onnx")
    _refused(run("compile", "--model", MODEL_PATH, "--property", tmp_path / "no.yaml", "--output", "b"), 2, "no.yaml")
    _refused(run("inspect", tmp_path / "no.gates"), 2, "no.gates")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  - {id: a, when: gap <= 5, require: best == FLY}", "FLY"),
        ("  - {id: a, when: height <= 5, require: best == BRAKE}", "height"),
        ("  - {id: a, when: gap <= 5 and gap >= 6, require: best == BRAKE}", "empty domain"),
        ("  - {id: a, when: gap <= , require: best == BRAKE}", "properties.yaml:"),
    ],
)
def test_property_files_that_cannot_be_meant_are_refused_with_the_place(
    run: Run, tmp_path: Path, text: str, words: str
) -> None:
    path = _properties(tmp_path, text)
    result = run("compile", "--model", MODEL_PATH, "--property", path, "--output", tmp_path / "b.gates")
    _refused(result, 2, words, "properties.yaml:")


def test_a_tensor_that_the_model_does_not_have_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(PROPERTIES_PATH.read_text().replace("tensor: scores", "tensor: logits"))
    result = run("compile", "--model", MODEL_PATH, "--property", path, "--output", tmp_path / "b.gates")
    _refused(result, 2, "logits", "scores")


def test_contradictory_properties_are_answered_with_no(run: Run, tmp_path: Path) -> None:
    text = "  - {id: a, when: gap <= 50, require: best == BRAKE}\n  - {id: b, when: gap >= 20, require: best == HOLD}"
    path = _properties(tmp_path, text)
    result = run("compile", "--model", MODEL_PATH, "--property", path, "--output", tmp_path / "b.gates")
    _refused(result, 1, "'a' and 'b' contradict each other", "gap in [20, ~50] m, own_speed in [0, 40] m/s")
    assert not (tmp_path / "b.gates").exists()


def test_property_files_for_different_models_are_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    text = PROPERTIES_PATH.read_text().replace("name: safe_distance", "name: lane_keeping")
    other.write_text(text.replace("id: ", "id: other-"))
    result = run(
        "compile", "--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--property", other, "--output", tmp_path / "b"
    )
    _refused(result, 2, "lane_keeping", "safe_distance")


def test_a_property_id_stated_twice_is_refused(run: Run, tmp_path: Path) -> None:
    files = ("--property", PROPERTIES_PATH, "--property", PROPERTIES_PATH)
    _refused(run("compile", "--model", MODEL_PATH, *files, "--output", tmp_path / "b"), 2, "stated twice")


def test_truncated_and_tampered_bundles_are_refused(run: Run, tmp_path: Path, compiled: Path) -> None:
    content = compiled.read_bytes()
    bad = tmp_path / "bad.gates"
    for changed, reason in (
        (content[:-7], "bundle_truncated"),
        (content[:4000] + bytes([content[4000] ^ 1]) + content[4001:], "bundle_digest"),
        (b"PK" + content[2:], "bundle_magic"),
    ):
        bad.write_bytes(changed)
        _refused(run("inspect", bad), 2, reason)
        _refused(run("try", bad, "--input", "{}"), 2, reason)
        serve = run(
            "serve", "--bundle", bad, "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"
        )
        assert serve[0] == 2
        assert reason in serve[2]
        assert "Traceback" not in serve[2]


@pytest.mark.parametrize(
    "given", ["9001", "http://triton:8001", "triton", ":9001", "triton:http", "h:99999", "::1:9001"]
)
@pytest.mark.parametrize("option", ["--upstream", "--listen", "--admin"])
def test_an_address_without_host_or_port_is_refused(run: Run, option: str, given: str) -> None:
    result = run("serve", "--bundle", "b.gates", "--upstream", "127.0.0.1:8001", option, given)
    _refused((result[0], result[1], result[2].replace("sidecar serve: ", "sidecar: ")), 2, option, "HOST:PORT")


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5"])
def test_a_revision_that_is_no_positive_number_is_refused(run: Run, given: str) -> None:
    status, _, err = run("compile", "--model", "m", "--property", "p", "--output", "o", f"--revision={given}")
    assert status == 2
    assert "no positive whole number" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", ["60", "1 day", "fast", "-5s"])
def test_a_duration_without_a_unit_is_refused(run: Run, given: str) -> None:
    status, _, err = run("compile", "--model", "m", "--property", "p", "--output", "o", "--time-limit", given)
    assert status == 2
    assert "--time-limit" in err


@pytest.mark.parametrize("given", ["0", "-1", "2", "nan", "x"])
def test_a_minimum_volume_that_is_no_share_is_refused(run: Run, given: str) -> None:
    status, _, err = run("compile", "--model", "m", "--property", "p", "--output", "o", f"--minimum-volume={given}")
    assert status == 2
    assert "--minimum-volume" in err


def test_a_reader_who_has_enough_is_no_failure_to_report(compiled: Path) -> None:
    command = f"{sys.executable} -u -m sidecar.cli inspect {compiled} | head -1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.startswith("guards")
    assert ended.stderr == ""


def test_an_unwritable_output_is_an_operational_failure(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "no-such-folder" / "b.gates"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--max-regions", 5, "--output", target)
    _refused(run("compile", *arguments), 3, "no-such-folder")


def test_a_port_in_use_is_an_operational_failure(compiled: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sidecar.cli",
        "model-server",
        "--model",
        str(MODEL_PATH),
        "--listen",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            address = first.stdout.readline().split()[-1]
            second = subprocess.run([*command[:-1], address], capture_output=True, text=True, timeout=60, check=False)
            assert second.returncode == 3
            assert address in second.stderr
            assert "Traceback" not in second.stderr
            serve = [sys.executable, "-m", "sidecar.cli", "serve", "--bundle", str(compiled), "--upstream", address]
            third = subprocess.run(
                [*serve, "--listen", address, "--admin", "127.0.0.1:0"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert third.returncode == 3
            assert address in third.stderr
            assert "Traceback" not in third.stderr
        finally:
            first.terminate()


def test_a_signed_bundle_can_be_looked_at_without_its_key(run: Run, tmp_path: Path, compiled: Path) -> None:
    status, out, err = run("keygen", "--output", tmp_path / "ops")
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'ops'}.pub: public key " in out
    signed = tmp_path / "signed.gates"
    status, out, _ = run("sign", compiled, "--key", tmp_path / "ops", "--output", signed)
    assert status == 0
    assert f"{signed}: revision 1 for 'safe_distance', key " in out
    assert "by key " in run("inspect", signed)[1]
    assert json.loads(run("inspect", compiled, "--json")[1])["signed_by"] is None
    given = '{"gap": 149, "own_speed": 10, "closing_speed": 0}'
    assert run("try", signed, "--input", given)[0] == 0


def test_a_signature_that_ends_is_shown_and_compared(run: Run, tmp_path: Path, compiled: Path) -> None:
    run("keygen", "--output", tmp_path / "ops")
    first, second = tmp_path / "first.gates", tmp_path / "second.gates"
    sign = ("sign", compiled, "--key", tmp_path / "ops")
    status, out, _ = run(*sign, "--expires", "2999-01-01", "--output", first)
    assert status == 0
    assert out.endswith(", until 2999-01-01 00:00:00 UTC\n")
    assert run(*sign, "--expires", "90d", "--output", second)[0] == 0
    assert "until 2999-01-01 00:00:00 UTC" in run("inspect", first)[1]
    assert json.loads(run("inspect", first, "--json")[1])["signature_ends"] == "2999-01-01T00:00:00+00:00"
    assert json.loads(run("inspect", compiled, "--json")[1])["signature_ends"] is None
    status, out, _ = run("diff", first, second)
    assert status == 1
    assert "- until 2999-01-01 00:00:00 UTC" in out
    changes = json.loads(run("diff", compiled, first, "--json")[1])["changes"]
    assert [change["what"] for change in changes] == ["signature"]
    assert changes[0]["after"]["ends"] == "2999-01-01T00:00:00+00:00"


@pytest.mark.parametrize("given", ["soon", "1999-01-01", "0d"])
def test_an_end_that_is_none_signs_nothing(run: Run, tmp_path: Path, compiled: Path, given: str) -> None:
    run("keygen", "--output", tmp_path / "ops")
    made = run("sign", compiled, "--key", tmp_path / "ops", "--expires", given, "--output", tmp_path / "s.gates")
    _refused(made, 2, "--expires", given)
    assert not (tmp_path / "s.gates").exists()


def test_signing_replaces_an_earlier_signature_in_place(run: Run, tmp_path: Path, compiled: Path) -> None:
    for name in ("first", "second"):
        run("keygen", "--output", tmp_path / name)
    target = tmp_path / "b.gates"
    target.write_bytes(compiled.read_bytes())
    run("sign", target, "--key", tmp_path / "first")
    _, out, _ = run("sign", target, "--key", tmp_path / "second")
    name = out.split()[-1]
    assert f"by key {name}" in run("inspect", target)[1]
    assert target.stat().st_size == compiled.stat().st_size + 104


def test_what_is_no_bundle_is_not_signed(run: Run, tmp_path: Path) -> None:
    run("keygen", "--output", tmp_path / "ops")
    (tmp_path / "b.gates").write_bytes(b"nothing")
    _refused(run("sign", tmp_path / "b.gates", "--key", tmp_path / "ops"), 2, "bundle_magic")
    assert (tmp_path / "b.gates").read_bytes() == b"nothing"


def test_diff_says_what_changed_and_answers_by_its_exit_status(run: Run, tmp_path: Path, compiled: Path) -> None:
    status, out, err = run("diff", compiled, compiled)
    assert (status, out, err) == (0, "The bundles are the same.\n", "")
    other = tmp_path / "b.gates"
    arguments = ("--model", MODEL_PATH, "--property", PROPERTIES_PATH, "--output", other, "--max-regions", 50)
    run("compile", *arguments, "--revision", 2)
    status, out, err = run("diff", compiled, other)
    assert (status, err) == (1, "")
    assert "  revision\n    - 1\n    + 2\n" in out
    assert "property brake-when-tailgating\n  proved\n    - silent" in out
    status, out, _ = run("diff", compiled, other, "--json")
    assert status == 1
    assert json.loads(out)["changes"][0] == {"where": "bundle", "what": "revision", "before": 1, "after": 2}


def _settings(folder: Path, text: str) -> Path:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return path


def test_config_check_says_whether_serve_would_start(run: Run, tmp_path: Path, compiled: Path) -> None:
    path = _settings(
        tmp_path, f"upstream: h:1\nbundles: [{{path: {compiled}, modes: {{brake-when-tailgating: off}}}}]\n"
    )
    assert run("config", "check", path) == (0, f"{path}: fine\n", "")
    path = _settings(
        tmp_path, f"upstream: h:1\nbundles: [{{path: {compiled}, modes: {{brake-when-tailgatin: off}}}}]\n"
    )
    _refused(run("config", "check", path), 2, str(compiled), "bundle_conflict", "brake-when-tailgating")
    path = _settings(tmp_path, "upstream: h:1\nbundles: [none.gates]\n")
    _refused(run("config", "check", path), 2, f"{tmp_path}/none.gates", "No such file")
    assert run("config", "check", path, "--text-only") == (0, f"{path}: fine\n", "")
    path = _settings(tmp_path, "upstream: h:1\nbundels: [none.gates]\n")
    _refused(run("config", "check", path, "--text-only"), 2, f"{path}:2:1: ", "did you mean bundles?")
    _refused(run("serve", "--config", path), 2, f"{path}:2:1: ", "did you mean bundles?")


def test_config_check_notes_what_would_not_be_active_and_keeps_nothing(
    run: Run, tmp_path: Path, compiled: Path
) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "a.gates").write_bytes(b"nonsense")
    (tmp_path / "state").mkdir()
    path = _settings(
        tmp_path, f"upstream: h:1\nstate_folder: state\nbundles: [{compiled}, bundles, 'http://127.0.0.1:1/b']\n"
    )
    status, out, err = run("config", "check", path)
    assert (status, out) == (0, f"{path}: fine\n")
    bad, gone = err.splitlines()
    assert bad.startswith(f"sidecar: note: {tmp_path}/bundles/a.gates: bundle_magic: ")
    assert gone.startswith("sidecar: note: http://127.0.0.1:1/b: bundle_unreadable: ")
    assert not list((tmp_path / "state").iterdir())


def test_config_check_notes_settings_of_models_without_a_bundle(run: Run, tmp_path: Path, compiled: Path) -> None:
    path = _settings(
        tmp_path, f"upstream: h:1\nbundles: [guarded={compiled}]\nmodels: [{{name: guarded}}, {{name: gaurded}}]\n"
    )
    note = "sidecar: note: models: 'gaurded' would not be guarded by any bundle; guarded: guarded\n"
    assert run("config", "check", path) == (0, f"{path}: fine\n", note)


def test_config_check_names_what_is_missing(run: Run, tmp_path: Path) -> None:
    path = _settings(tmp_path, "bundles: [none.gates]\n")
    _refused(run("config", "check", path), 2, "upstream is not given", "GATE_UPSTREAM")
    _refused(run("serve"), 2, "bundles is not given", "--bundle")
    _refused(run("serve", "--bundle", "b.gates"), 2, "upstream is not given", "--upstream")


def test_config_show_tells_what_holds_and_why(
    run: Run, tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _settings(tmp_path, f"upstream: h:1\nbundles: [{compiled}]\n")
    monkeypatch.setenv("GATE_MODE", "shadow")
    monkeypatch.setenv("GATE_LISTNE", "h:2")
    status, out, err = run("config", "show", path, "--row-limit", "7", "--no-allow-unsigned", "--trust", "ops.pub")
    assert status == 0
    assert err == "sidecar: note: environment variable GATE_LISTNE is no setting; did you mean GATE_LISTEN?\n"
    for line in (f"upstream: h:1  # {path}:1:11", "mode: shadow  # GATE_MODE", "row_limit: 7  # flag --row-limit"):
        assert line in out.splitlines()
    assert "allow_unsigned: false  # flag --allow-unsigned" in out
    assert run("config", "show", "--upstream", "h:1", "--bundle", "m=b.gates")[0] == 0


def test_config_schema_and_reference_are_printed(run: Run) -> None:
    assert json.loads(run("config", "schema")[1])["additionalProperties"] is False
    assert run("config", "reference")[1].startswith("# Settings of `sidecar serve`")
    assert run("config", "failures")[1].startswith("# What can go wrong with a request")


def test_only_bundles_of_trusted_signers_are_served(run: Run, tmp_path: Path, compiled: Path) -> None:
    for name in ("ops", "stranger"):
        run("keygen", "--output", tmp_path / name)
        run("sign", compiled, "--key", tmp_path / name, "--output", tmp_path / f"{name}.gates")
    path = _settings(tmp_path, "upstream: h:1\n")

    def check(bundle: Path, *more: object) -> tuple[int, str, str]:
        return run("config", "check", path, "--bundle", bundle, *more)

    trust = ("--trust", tmp_path / "ops.pub")
    assert check(compiled)[0] == 0
    assert check(tmp_path / "ops.gates", *trust)[0] == 0
    assert check(compiled, *trust, "--allow-unsigned")[0] == 0
    _refused(check(compiled, *trust), 2, "bundle_unsigned", "sidecar sign")
    _refused(check(tmp_path / "stranger.gates", *trust), 2, "bundle_signature", "not trusted here")
    _refused(check(tmp_path / "stranger.gates", *trust, "--allow-unsigned"), 2, "bundle_signature")
    _refused(check(tmp_path / "ops.gates"), 2, "bundle_signature", "trusted: none")
    _refused(check(compiled, "--trust", tmp_path / "none.pub"), 2, "cannot read the key", "keygen")
    _refused(check(compiled, "--no-allow-unsigned"), 2, "flag --allow-unsigned", "no bundle can be accepted")
    content = bytearray((tmp_path / "ops.gates").read_bytes())
    content[-1] ^= 1
    (tmp_path / "forged.gates").write_bytes(content)
    _refused(check(tmp_path / "forged.gates", *trust), 2, "bundle_signature", "does not fit")


@pytest.mark.slow
def test_serve_takes_its_settings_from_a_file(run: Run, tmp_path: Path, compiled: Path) -> None:
    run("keygen", "--output", tmp_path / "ops")
    run("sign", compiled, "--key", tmp_path / "ops", "--output", tmp_path / "b.gates")
    bundle = "{path: b.gates, name: other, modes: {brake-when-tailgating: shadow}}"
    text = f"upstream: 127.0.0.1:1\nadmin: 127.0.0.1:0\nbundles: [{bundle}]\ntrusted_keys: [ops.pub]\n"
    path = _settings(tmp_path, text)
    command = [sys.executable, "-m", "sidecar.cli", "serve", "--config", str(path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stderr is not None
            lines = iter(serving.stderr.readline, "")
            started = next(line for line in lines if "listening on port" in line)
            port = re.search(r"admin on port (\d+)", started)
            assert port is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/status", timeout=10) as answer:
                (model,) = json.load(answer)["models"]
        finally:
            serving.terminate()
    assert model["model"] == "other"
    modes = {each["id"]: each["mode"] for each in model["properties"]}
    assert modes.pop("brake-when-tailgating") == "shadow"
    assert set(modes.values()) == {"enforce"}


@pytest.mark.parametrize("given", ["ftp://host/b.gates", "m=https://me:secret@host/b.gates"])
def test_a_url_that_bundles_are_not_fetched_from_is_refused(run: Run, given: str) -> None:
    status, out, err = run("serve", "--bundle", given, "--upstream", "127.0.0.1:1")
    assert (status, out) == (2, "")
    assert err.startswith("sidecar serve: argument --bundle: a bundle's URL starts with http://")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_model_that_cannot_be_proved_is_guarded_where_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "count.onnx")
    (tmp_path / "p.yaml").write_text(
        "inputs: [{tensor: x, features: [{name: given, range: [-10, 10]}]}]\n"
        "outputs: [{tensor: y, classes: [count]}]\n"
        "properties: [{id: few, require: score(count) <= 5, action: fallback, fallback: {count: 5}}]\n"
    )
    target = tmp_path / "count.gates"
    arguments = ("--model", tmp_path / "count.onnx", "--property", tmp_path / "p.yaml", "--output", target)
    status, _, complaint = run("compile", *arguments)
    assert (status, target.exists()) == (2, False)
    assert "input 'x' is of type INT64" in complaint
    assert "--without-proof" in complaint
    status, told, _ = run("compile", *arguments, "--without-proof")
    assert status == 0
    assert "note: compiled without proof" in told
    status, told, _ = run("try", target, "--model", tmp_path / "count.onnx", "--input", '{"given": -7}')
    assert status == 0
    assert "count  5  (was 7)" in told
