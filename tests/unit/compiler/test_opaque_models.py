"""Models that are guarded without proof: which tensors are gated, what is refused, and what the bundle says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sidecar.bundle.coverage import LEAF, Label
from sidecar.bundle.summary import render
from sidecar.compiler.explain import explain
from sidecar.compiler.opaque import read_opaque_model
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.replay import answers
from sidecar.compiler.stated import with_batch_axis
from sidecar.errors import InputError
from sidecar.properties.reader import read_properties
from sidecar.tensors import Datatype, TensorSpec

OPTIONS = CompileOptions(time_limit_seconds=None)

PROPERTIES = """
model: {batch_axis: 0}
inputs:
  - tensor: age
    features: [{name: age, range: [0, 120]}]
  - tensor: smoker
    features: [{name: smoker, range: [0, 1]}]
outputs:
  - tensor: risk
    classes: [risk]
  - tensor: label
    classes: [label]
properties:
  - id: old
    when: age >= 99.6 and smoker >= 1
    require: score(label) >= 2
    action: fallback
    fallback: {risk: 0.1, label: 2}
  - id: bounded
    require: score(risk) <= 110
"""


def _save(folder: Path, nodes, inputs, outputs) -> Path:
    def described(values):
        return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values]

    graph = helper.make_graph(nodes, "g", described(inputs), described(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "risk.onnx")
    return folder / "risk.onnx"


def _risk(folder: Path, rows: str | int = "rows") -> Path:
    """``risk = age``, ``label = smoker``, and a name that is text."""
    nodes = [
        helper.make_node("Cast", ["age"], ["risk"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["smoker"], ["label"], to=TensorProto.INT64),
        helper.make_node("Cast", ["age"], ["text"], to=TensorProto.STRING),
    ]
    inputs = [("age", TensorProto.INT32, [rows, 1]), ("smoker", TensorProto.BOOL, [rows, 1])]
    outputs = [("risk", TensorProto.FLOAT, [rows, 1]), ("label", TensorProto.INT64, [rows, 1])]
    return _save(folder, nodes, inputs, [*outputs, ("text", TensorProto.STRING, [rows, 1])])


def _copy(folder: Path, kind: int, shape, shape_out=None) -> Path:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return _save(folder, nodes, [("x", kind, shape)], [("y", kind, shape if shape_out is None else shape_out)])


def _compiled(folder: Path, path: Path, text: str = PROPERTIES):
    (folder / "p.yaml").write_text(text)
    model = read_opaque_model(path)
    files = [read_properties(folder / "p.yaml", model.signature)]
    return compile_bundle(with_batch_axis(model, files), files, OPTIONS, lambda _: None)


def test_tensors_are_the_models_but_for_strings_among_the_outputs(tmp_path):
    model = read_opaque_model(_risk(tmp_path))
    assert model.name == "risk"
    assert model.signature.inputs == (
        TensorSpec("age", Datatype.INT32, (1,)),
        TensorSpec("smoker", Datatype.BOOL, (1,)),
    )
    assert model.signature.outputs == (
        TensorSpec("risk", Datatype.FP32, (1,)),
        TensorSpec("label", Datatype.INT64, (1,)),
    )
    assert model.signature.batch_axis == 0


def test_everything_is_open_and_the_bundle_says_so(tmp_path):
    compiled = _compiled(tmp_path, _risk(tmp_path))
    manifest = compiled.bundle.manifest
    assert not manifest.is_proved
    assert manifest.options == (("proof", "none"),)
    for (tree,) in compiled.bundle.coverage:
        assert (tree.feature.tolist(), tree.label.tolist()) == ([LEAF], [Label.OPEN])
    assert any("without proof" in note for note in compiled.notes)
    assert "guarded without proof: every region is open" in render(compiled.bundle)


def test_vectors_are_the_models_own_answers_on_both_sides_of_the_domain(tmp_path):
    vectors = _compiled(tmp_path, _risk(tmp_path)).bundle.vectors
    np.testing.assert_array_equal(vectors.outputs, vectors.inputs)
    old = (vectors.inputs[:, 0] >= 100) & (vectors.inputs[:, 1] == 1)
    np.testing.assert_array_equal(vectors.contained[:, 0], old)
    assert 0 < old.sum() < len(old)
    np.testing.assert_array_equal(vectors.corrected[old], [[np.float64(np.float32(0.1)), 2]] * old.sum())


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.BOOL])
def test_a_domain_from_the_datatypes_first_value_on_has_vectors_too(tmp_path, kind):
    text = """
inputs: [{tensor: x, features: [{name: p, range: [0, 1]}, {name: q, range: [0, 1]}]}]
outputs: [{tensor: y, classes: [r, s]}]
properties: [{id: low, require: score(r) <= 0, action: refuse}]
"""
    vectors = _compiled(tmp_path, _copy(tmp_path, kind, ["n", 2]), text).bundle.vectors
    assert vectors.contained.all()
    np.testing.assert_array_equal(vectors.fired[:, 0], vectors.inputs[:, 0] == 1)
    assert len(vectors.inputs) > 1


def test_a_static_first_dimension_of_one_may_be_a_batch(tmp_path):
    compiled = _compiled(tmp_path, _risk(tmp_path, rows=1), PROPERTIES)
    signature = compiled.bundle.manifest.signature
    assert (signature.batch_axis, signature.inputs[0].row_shape) == (0, (1,))


def test_a_projected_integer_output_is_the_property_writers_error(tmp_path):
    lines = [line for line in PROPERTIES.splitlines() if "fallback" not in line]
    with pytest.raises(InputError, match=r"'old' has action project .* label INT64: only floating-point .*fallback"):
        _compiled(tmp_path, _risk(tmp_path), "\n".join(lines))


def test_a_fallback_must_be_a_value_of_the_datatype(tmp_path):
    with pytest.raises(InputError, match=r"no value of INT64: write one that is a whole number"):
        _compiled(tmp_path, _risk(tmp_path), PROPERTIES.replace("label: 2}", "label: 2.5}"))
    with pytest.raises(InputError, match="beyond the range of INT64"):
        _compiled(tmp_path, _risk(tmp_path), PROPERTIES.replace("label: 2}", "label: 9007199254740994}"))


def test_try_takes_whole_numbers_for_integers(tmp_path):
    bundle = _compiled(tmp_path, _risk(tmp_path)).bundle
    told = explain(bundle, '{"age": 100, "smoker": 1}', tmp_path / "risk.onnx", None)
    assert "the client gets this instead (fallback)" in told
    with pytest.raises(InputError, match=r"99\.5 is no value of INT32; give a whole number"):
        explain(bundle, '{"age": 99.5, "smoker": 1}', None, None)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (TensorProto.STRING, ["n", 2], "no outputs of numbers"),
        (TensorProto.BFLOAT16, ["n", 2], r"'x' is of type tensor\(bfloat16\); gates judge tensor\(bool\)"),
        (TensorProto.INT8, ["n", "m"], "only the first dimension may be open"),
        (TensorProto.INT8, [1, 0], "none zero"),
    ],
)
def test_tensors_that_cannot_be_gated(tmp_path, kind, shape, message):
    with pytest.raises(InputError, match=message):
        read_opaque_model(_copy(tmp_path, kind, shape))


def test_a_text_input_is_refused_with_what_to_do(tmp_path):
    path = _save(
        tmp_path,
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [("x", TensorProto.STRING, ["n", 1])],
        [("y", TensorProto.FLOAT, ["n", 1])],
    )
    with pytest.raises(InputError, match=r"strings have no numeric meaning.*guard the one behind it"):
        read_opaque_model(path)


def test_a_batch_in_some_tensors_only_is_refused(tmp_path):
    path = _save(
        tmp_path,
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [("x", TensorProto.FLOAT, ["n", 1])],
        [("y", TensorProto.FLOAT, [])],
    )
    with pytest.raises(InputError, match="the first dimension of x is open, that of y is not"):
        read_opaque_model(path)


def test_a_model_without_inputs_is_refused(tmp_path):
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    path = _save(tmp_path, [helper.make_node("Constant", [], ["y"], value=value)], [], [("y", TensorProto.FLOAT, [1])])
    with pytest.raises(InputError, match="no inputs of numbers"):
        read_opaque_model(path)


def test_what_onnxruntime_cannot_open_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="onnxruntime cannot open the model"):
        read_opaque_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", [TensorProto.UINT64, TensorProto.INT64])
def test_an_answer_that_cannot_be_judged_gives_no_vector(tmp_path, kind):
    nodes = [
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", kind, [1], [2**31])),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    model = read_opaque_model(_save(tmp_path, nodes, [("x", kind, ["n", 1])], [("y", kind, ["n", 1])]))
    found = answers(model, np.array([[1.0], [2.0**22], [2.0**22 + 1]]))
    np.testing.assert_array_equal(found, [[2.0**31], [2.0**53], [np.nan]])


@pytest.mark.parametrize(
    "kind",
    ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FLOAT16", "FLOAT", "DOUBLE"],
)
def test_each_datatype_is_replayed_exactly(tmp_path, kind):
    model = read_opaque_model(_copy(tmp_path, getattr(TensorProto, kind), ["n", 2]))
    np.testing.assert_array_equal(answers(model, np.array([[1.0, 0.0]])), [[1, 0]])
