"""Verdicts on properties, and how they are told to people, programs and the competition."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.naming import wire_naming
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.verdict import Verdict
from sidecar.compiler.verify import Verified, verify
from sidecar.compiler.verify_report import document, overall, render, result_file, result_word
from sidecar.errors import InputError
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Model
from sidecar.properties.values import Property
from sidecar.properties.vnnlib import read_vnnlib


def _model(folder: Path, slope: float = 1.0) -> Model:
    """y = slope * x."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.array([[slope]], np.float32), "w")],
    )
    path = folder / "scaled.onnx"
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return read_model(path)


def _stated(folder: Path, model: Model, assertions: str) -> tuple[Property, ...]:
    path = folder / "p.vnnlib"
    path.write_text(f"(declare-const X_0 Real)(declare-const Y_0 Real){assertions}")
    return read_vnnlib(path, model.signature).properties


def _verified(folder: Path, assertions: str, slope: float = 1.0, limit: float | None = 10.0) -> list[Verified]:
    model = _model(folder, slope)
    return verify(model, _stated(folder, model, assertions), Arithmetic.IEEE32, limit, 1, lambda _: None)


def test_a_proof_holds(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 1))(assert (<= X_0 2))(assert (<= Y_0 0.5))")
    assert (each.verdict, each.counterexample, each.timed_out) == (Verdict.HOLDS, None, False)
    assert result_file([each]) == "unsat\n"


def test_a_counterexample_violates_by_onnxruntimes_own_answer(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 -1))(assert (<= X_0 2))(assert (<= Y_0 -0.5))")
    assert each.verdict is Verdict.VIOLATED
    found = each.counterexample
    assert found is not None
    assert found.as_stated
    assert found.inputs == np.float32(found.inputs)
    assert found.outputs == found.inputs
    assert region_contains(each.stated.domain[0], found.inputs)
    assert not requirement_holds(each.stated.requirement, found.inputs, found.outputs)


def test_the_result_file_reads_back_as_the_very_numbers(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 0.1))(assert (<= X_0 0.3))(assert (<= Y_0 0.2))", slope=0.7)
    word, first, second = result_file([each]).split()[0], *result_file([each]).replace("(", "").split()[2::2]
    assert each.counterexample is not None
    assert word == "sat"
    assert float(first.strip(")")) == each.counterexample.inputs[0]
    assert float(second.strip(")")) == each.counterexample.outputs[0]


def test_a_counterexample_that_only_the_widened_domain_has_says_so(tmp_path: Path) -> None:
    """No float32 is one third: the nearest one, above it, belongs to the effective domain."""
    third = "0.33333333333333333333"
    point = f"(assert (>= X_0 {third}))(assert (<= X_0 {third}))"
    (each,) = _verified(tmp_path, point + "(assert (>= Y_0 0.33333334))")
    assert each.counterexample is not None
    assert each.counterexample.inputs[0] == np.float32(1 / 3)
    assert not each.counterexample.as_stated
    assert "beyond a bound as it is stated" in render(
        [each], wire_naming(_model(tmp_path).signature), Arithmetic.IEEE32
    )


def test_a_counterexample_is_moved_into_the_domain_as_stated(tmp_path: Path) -> None:
    """The upper bound is widened; where the inside violates as well, the inside is shown."""
    (each,) = _verified(tmp_path, "(assert (>= X_0 0))(assert (<= X_0 0.3333333333333333))(assert (>= Y_0 0.33333331))")
    assert each.counterexample is not None
    assert each.counterexample.as_stated
    assert Fraction(each.counterexample.inputs[0]) <= Fraction(1, 3)


def test_what_float64_finds_and_onnxruntime_does_not_confirm_is_unknown(tmp_path: Path) -> None:
    """0.1 in float32 times 3 lies above what the product is rounded to: no answer on the wire violates."""
    slope, point = np.float32(0.1), np.float32(3)
    answer, exact = Fraction(float(slope * point)), Fraction(float(slope)) * 3
    assert answer != exact
    between = (answer + exact) / 2
    decimal = f"{between.numerator * 10**60 // between.denominator}e-60"
    unsafe = f"({'<=' if exact < answer else '>='} Y_0 {decimal})"
    (each,) = _verified(tmp_path, f"(assert (>= X_0 3))(assert (<= X_0 3))(assert {unsafe})", slope=float(slope))
    assert (each.verdict, each.timed_out) == (Verdict.UNKNOWN, False)
    assert result_file([each]) == "unknown\n"
    assert "nothing is left to divide" in render([each], wire_naming(_model(tmp_path).signature), Arithmetic.IEEE32)


def test_what_no_time_was_left_for_is_a_timeout(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 1))(assert (<= X_0 2))(assert (<= Y_0 0.5))", limit=0.0)
    assert (each.verdict, each.timed_out) == (Verdict.UNKNOWN, True)
    assert result_file([each]) == "timeout\n"


def test_every_region_and_every_cut_is_asked(tmp_path: Path) -> None:
    regions = "(assert (or (and (>= X_0 1) (<= X_0 2)) (and (>= X_0 -2) (<= X_0 -1))))"
    (each,) = _verified(tmp_path, regions + "(assert (<= Y_0 0.5))")
    assert each.verdict is Verdict.VIOLATED
    assert each.counterexample is not None
    assert -2 <= each.counterexample.inputs[0] <= -1


def test_an_answer_that_is_no_number_confirms_nothing(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 1e30))(assert (<= X_0 2e30))(assert (>= Y_0 0))", slope=1e30)
    assert each.verdict is Verdict.UNKNOWN


def test_the_worst_verdict_is_that_of_all(tmp_path: Path) -> None:
    (holds,) = _verified(tmp_path, "(assert (>= X_0 1))(assert (<= X_0 2))(assert (<= Y_0 0.5))")
    unknown = dataclasses.replace(holds, verdict=Verdict.UNKNOWN)
    violated = dataclasses.replace(holds, verdict=Verdict.VIOLATED)
    assert overall([holds]) is Verdict.HOLDS
    assert overall([holds, unknown]) is Verdict.UNKNOWN
    assert overall([unknown, violated, holds]) is Verdict.VIOLATED
    assert [result_word([each]) for each in (holds, unknown, violated)] == ["unsat", "unknown", "sat"]


def test_programs_get_the_values_by_tensor(tmp_path: Path) -> None:
    verified = _verified(tmp_path, "(assert (>= X_0 -2))(assert (<= X_0 -1))(assert (<= Y_0 0.5))")
    told = json.loads(json.dumps(document(verified, _model(tmp_path).signature, Arithmetic.IEEE32)))
    (each,) = told["properties"]
    assert (told["verdict"], told["result"], each["id"]) == ("violated", "sat", "p")
    assert each["counterexample"]["inputs"]["x"] == each["counterexample"]["outputs"]["y"]


def test_one_id_for_two_properties_is_refused(tmp_path: Path) -> None:
    model = _model(tmp_path)
    (stated,) = _stated(tmp_path, model, "(assert (>= X_0 1))(assert (<= X_0 2))(assert (<= Y_0 0.5))")
    with pytest.raises(InputError, match="stated twice"):
        verify(model, [stated, stated], Arithmetic.IEEE32, 1.0, 1, lambda _: None)


def test_long_rows_are_left_to_programs(tmp_path: Path) -> None:
    (each,) = _verified(tmp_path, "(assert (>= X_0 -2))(assert (<= X_0 -1))(assert (<= Y_0 0.5))")
    assert each.counterexample is not None
    long = dataclasses.replace(each.counterexample, inputs=np.zeros(100))
    naming = wire_naming(_model(tmp_path).signature)
    assert "100 values: see --json" in render(
        [dataclasses.replace(each, counterexample=long)], naming, Arithmetic.IEEE32
    )
