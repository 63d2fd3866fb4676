"""`sidecar try` reads numbers exactly and within bounds: no text makes exact arithmetic slow or ends in a traceback."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sidecar.bundle.values import Bundle
from sidecar.compiler.explain import explain
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.errors import InputError
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties

PROPERTY = """
inputs:
  - tensor: x
    features: [{name: gap, range: [0, 1], wire: {scale: 1e200}}]
outputs:
  - tensor: y
    classes: [score_of_gap]
properties:
  - id: positive
    require: score(score_of_gap) >= 0
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    weight = numpy_helper.from_array(np.array([[1e-200]]), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    (tmp_path / "p.yaml").write_text(PROPERTY)
    model = read_model(tmp_path / "m.onnx")
    options = CompileOptions(max_regions=(1,))
    return compile_bundle(
        model, [read_properties(tmp_path / "p.yaml", model.network.signature)], options, lambda _: None
    ).bundle


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("1e400000000", "an exponent beyond 400"),
        ("1e350", "beyond 1e301"),
        ("1e250", "'gap': a number beyond 1e301"),
        ("1e108", "'gap': a number beyond 1e301|beyond the range of FP64"),
        ("9" * 5000, "expected JSON"),
        ("true", "expected a number"),
        ("NaN", "expected a number"),
    ],
)
def test_numbers_that_cannot_be_read_are_the_users_error(bundle: Bundle, number: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        explain(bundle, f'{{"gap": {number}}}', None, None)
    assert len(str(caught.value)) < 400
