"""VNN-LIB 2.0 means what 1.0 means, with names, shapes and types of its own."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from sidecar.errors import InputError
from sidecar.gates.values import Literal
from sidecar.properties.reader import read_properties
from sidecar.properties.values import PropertyFile
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

Read = Callable[..., PropertyFile]

HEAD = """\
(vnnlib-version <2.0>) ; first
(declare-network f
    (declare-input  X float32 [1,2])
    (declare-output Y real [1, 3]))
"""
BOX = "(assert (and (<= X[0,0] 0.5) (>= X[0,0] -0.5))) (assert (and (<= X[0,1] 1) (<= 0 X[0,1])))\n"
OLD = """\
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (and (<= X_0 0.5) (>= X_0 -0.5))) (assert (and (<= X_1 1) (<= 0 X_1)))
"""

TWO_BY_THREE = ModelSignature(
    inputs=(TensorSpec("a", Datatype.FP32, (2, 3)), TensorSpec("b", Datatype.FP64, ())),
    outputs=(TensorSpec("p", Datatype.FP32, (2,)), TensorSpec("q", Datatype.FP32, (2,))),
    batch_axis=None,
)
"""Six values of a, then b."""


def _bounds(*names: str) -> str:
    return "".join(f"(assert (>= {name} -1))(assert (<= {name} 1))" for name in names)


A = [f"A[{row},{column}]" for row in range(2) for column in range(3)]


def _read(folder: Path, text: str, signature: ModelSignature) -> PropertyFile:
    path = folder / "p.vnnlib"
    path.write_text(text)
    return read_properties(path, signature)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("(assert (<= Y[0,0] Y[0,1]))", "(assert (<= Y_0 Y_1))"),
        ("(assert (or (< Y [0 , 2] 3.0) (>= (+ (* 2 Y[0,1]) (- X[0,1])) 1)))",
         "(assert (or (< Y_2 3.0) (>= (+ (* 2 Y_1) (- X_1)) 1)))"),
        ("(assert (== Y[0,0] 1))", "(assert (and (<= Y_0 1) (>= Y_0 1)))"),
        ("(assert (!= Y[0,0] 1))", "(assert (or (< Y_0 1) (> Y_0 1)))"),
        ("(assert (== X[0,0] 0.5))(assert (<= Y[0,0] 0))",
         "(assert (and (<= X_0 0.5) (>= X_0 0.5)))(assert (<= Y_0 0))"),
        ("(assert (== 1 1))(assert (<= Y[0,0] 0))", "(assert (<= Y_0 0))"),
    ],
)  # fmt: skip
def test_it_reads_as_the_same_in_the_first_version(read: Read, new: str, old: str) -> None:
    assert read(HEAD + BOX + new, "p.vnnlib").properties == read(OLD + old, "p.vnnlib").properties


def test_a_row_may_leave_the_batch_out(read: Read) -> None:
    rowwise = (HEAD + BOX).replace("[1,2]", "[2]").replace("[1, 3]", "[3]").replace("[0,", "[")
    assert read(f"{rowwise}(assert (<= Y[0] 0))", "p.vnnlib").properties == (
        read(f"{HEAD}{BOX}(assert (<= Y[0,0] 0))", "p.vnnlib").properties
    )


def test_tensors_are_taken_by_order_row_major(tmp_path: Path) -> None:
    text = (
        "(vnnlib-version <2.0>)(declare-network n (declare-input A float32 [2,3]) (declare-input B float64 [])"
        "(declare-output P float32 [2]) (declare-output Q float32 [2]))"
        + _bounds(*A, "B")
        + "(assert (<= A[1,0] 0.5))(assert (<= (+ Q[1] (* 2 B)) P[0]))"
    )
    (stated,) = _read(tmp_path, text, TWO_BY_THREE).properties
    assert [bound == Fraction(1, 2) for bound in stated.domain[0].box.upper] == [number == 3 for number in range(7)]
    one = Fraction(1)
    expected = Literal(((0, -one), (3, one)), ((6, 2 * one),), Fraction(0), strict=True)
    assert stated.requirement.clauses == ((expected,),)


def test_tensors_are_taken_by_name_where_names_are_given(tmp_path: Path) -> None:
    text = (
        '(vnnlib-version <2.0>)(declare-network n (declare-input B real [] "b") (declare-input A real [2,3] "a")'
        '(declare-output Q real [2] "q") (declare-output P real [2] "p"))' + _bounds(*A, "B") + "(assert (<= Q[0] B))"
    )
    (stated,) = _read(tmp_path, text, TWO_BY_THREE).properties
    one = Fraction(1)
    assert stated.requirement.clauses == ((Literal(((2, one),), ((6, -one),), Fraction(0), strict=True),),)


def test_a_missing_bound_is_named_as_the_file_names_it(read: Read) -> None:
    with pytest.raises(InputError, match=r"p\.vnnlib:3:21: X\[0,1\] has no lower and no upper bound"):
        read(f"{HEAD}(assert (<= X[0,0] 0))(assert (>= X[0,0] 0))(assert (<= Y[0,0] 0))", "p.vnnlib")


def test_an_empty_network_name_needs_no_model_of_that_name(read: Read) -> None:
    assert read(f"{HEAD}{BOX}(assert (<= Y[0,0] 0))".replace(" f\n", " anything_2\n"), "p.vnnlib").properties


@pytest.mark.parametrize("kind", ["float32", "int8", "FP64", "string"])
def test_element_types_are_the_models(tmp_path: Path, kind: str) -> None:
    signature = ModelSignature(
        (TensorSpec("x", Datatype.FP64, (1,)),), (TensorSpec("y", Datatype.INT64, (1,)),), batch_axis=None
    )
    declared = f"(vnnlib-version <2.0>)(declare-network n (declare-input X {kind} [1])(declare-output Y int64 [1]))"
    with pytest.raises(InputError, match="and the model's are float64"):
        _read(tmp_path, declared + _bounds("X[0]") + "(assert (<= Y[0] 0))", signature)
    fitting = declared.replace(f"X {kind}", "X float64")
    assert _read(tmp_path, fitting + _bounds("X[0]") + "(assert (<= Y[0] 0))", signature).properties
