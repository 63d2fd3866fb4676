"""What sampling says of a model: the interval against SciPy's, shares that are known, points on the wire."""

import dataclasses
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.stats import binomtest

from sidecar.bundle.acceptance import digest
from sidecar.compiler.opaque import read_opaque_model
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.report_page import page
from sidecar.compiler.sampling import CONFIDENCE, Sampled, documents, lines, sample, sample_model
from sidecar.errors import InputError
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Model
from sidecar.properties.reader import read_properties
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, TensorSpec, encode_raw

ONE = Fraction(1)
UNIT = Box((Fraction(0), Fraction(0)), (ONE, ONE))


def _write(folder: Path) -> Path:
    """``y = relu(x)``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    path = folder / "same.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return read_model(_write(tmp_path))


def _gate(*regions: Region) -> Gate:
    """``y0 >= 1/4``: a quarter of the unit square violates."""
    literal = Literal(terms({0: ONE}), (), Fraction(-1, 4), strict=False)
    return Gate("at-least", regions, Requirement(((literal,),)), Action.REFUSE, Fraction(0), Norm.L2, None)


@settings(deadline=None)
@given(st.integers(1, 10**4).flatmap(lambda drawn: st.tuples(st.integers(0, drawn), st.just(drawn))))
def test_the_interval_is_that_of_clopper_and_pearson(counts: tuple[int, int]) -> None:
    violating, drawn = counts
    low, high = Sampled(drawn, violating).interval
    expected = binomtest(violating, drawn).proportion_ci(CONFIDENCE, "exact")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_known_share_lies_in_the_interval_and_the_same_points_are_drawn_again(model: Model) -> None:
    (found,) = sample(model, [_gate(Region(UNIT))], 20_000)
    assert found.drawn == 20_000
    assert found.interval[0] < 0.25 < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.02
    assert sample(model, [_gate(Region(UNIT))], 20_000) == (found,)


def test_each_region_gets_as_many_points_and_cuts_are_heeded(model: Model) -> None:
    violating = Region(Box((Fraction(0), Fraction(0)), (Fraction(1, 8), ONE)))
    keeping = Region(Box((Fraction(1, 2), Fraction(0)), (ONE, ONE)))
    (found,) = sample(model, [_gate(violating, keeping)], 999)
    assert found == Sampled(1000, 500)
    below = Literal((), terms({0: -ONE}), Fraction(1, 8), strict=False)  # x0 <= 1/8
    (found,) = sample(model, [_gate(Region(UNIT, (below,)))], 20_000)
    assert found.interval[0] < 0.125 < found.interval[1]


def test_no_points_are_drawn_where_none_are_asked_for_and_some_though_the_time_is_over(model: Model) -> None:
    gates = [_gate(Region(UNIT)), _gate(Region(UNIT))]
    assert sample(model, gates, 0) == ()
    assert list(lines(["a", "b"], ())) == documents(["a", "b"], ()) == []
    for found in sample(model, gates, 10**9, seconds=0.0):
        assert 0 < found.drawn < 10**5


@pytest.mark.parametrize("datatype", [*FLOATING_DATATYPES, Datatype.INT16])
def test_points_are_values_of_the_wire_in_the_box(
    datatype: Datatype, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = (TensorSpec("x", datatype, (2,)),), (TensorSpec("y", Datatype.FP32, (2,)),)
    network = dataclasses.replace(model.network, signature=ModelSignature(*specs, batch_axis=0))
    seen = []
    monkeypatch.setattr("sidecar.compiler.sampling.forward", lambda _, rows: seen.append(rows) or rows)
    box = Box((Fraction(-3, 7), Fraction(-70000)), (Fraction(22, 7), Fraction(70000)))
    sample(dataclasses.replace(model, network=network), [_gate(Region(box))], 500)
    (points,) = seen
    encode_raw(points.ravel(), datatype)
    assert (Fraction(points[:, 0].min()) >= box.lower[0]) & (Fraction(points[:, 0].max()) <= box.upper[0])
    assert len(np.unique(points[:, 0])) >= (4 if datatype is Datatype.INT16 else 300)


class _Balanced(HTMLParser):
    """Every element is closed, the inner ones first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PROPERTIES = """
model: {name: "a <b> & c", batch_axis: 0}
inputs:
  - tensor: x
    features: [{name: near, range: [0, 1]}, {name: far, range: [0, 1]}]
outputs:
  - tensor: y
    classes: [go, stop]
properties:
  - {id: at-least, title: "no <script>", require: score(go) >= 0.25}
"""


def test_a_bundle_s_model_is_sampled_and_no_other(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (tmp_path / "p.yaml").write_text(PROPERTIES)
    for model in (read_model(path), read_opaque_model(path)):
        files = [read_properties(tmp_path / "p.yaml", model.signature)]
        options = CompileOptions(time_limit_seconds=None, minimum_volume=1e-2)
        compiled = compile_bundle(model, files, options, lambda _: None)
        sampled = sample_model(compiled.bundle, path, 2000)
        assert sampled == sample(model, compiled.bundle.gates, 2000)
        (found,) = sampled
        assert found.interval[0] < 0.25 < found.interval[1]
        (document,) = documents(["at-least"], sampled)
        assert (document["points"], document["violating"]) == (2000, found.violating)
        text = page(compiled, sampled)
        assert f"({found.violating} of 2,000)" in text
        assert "a &lt;b&gt; &amp; c" in text
        assert "no &lt;script&gt;" in text
        assert "<script" not in text
        _Balanced(text)
        assert digest(compiled.content) in text
        assert ("near = " in text) == bool(len(compiled.counterexamples[0]))
    changed = onnx.load(path)
    changed.producer_name = "another"
    onnx.save(changed, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="the bundle is about the model of sha256"):
        sample_model(compiled.bundle, tmp_path / "other.onnx", 10)
