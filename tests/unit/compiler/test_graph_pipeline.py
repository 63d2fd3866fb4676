"""Networks that are no dense chains become bundles: with a certificate where the checker can follow, else nothing is
claimed."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sidecar.bundle.coverage import LEAF, Label
from sidecar.certificate.check import check
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import CompiledBundle, compile_bundle
from sidecar.errors import NegativeAnswer
from sidecar.network.graph import Graph
from sidecar.network.onnx_reader import read_graph, read_model
from sidecar.network.values import Model, Network
from sidecar.properties.reader import read_properties
from tests.laws.onnx_models import model_of

OPTIONS = CompileOptions(time_limit_seconds=None, max_regions=(400,), minimum_volume=1e-3)

PROPERTIES = """
inputs:
  - tensor: x
    features:
      - {name: a, range: [-1, 1]}
      - {name: b, range: [-1, 1]}
      - {name: c, range: [-1, 1]}
      - {name: d, range: [-1, 1]}
outputs:
  - tensor: y
    classes: [low, high]
properties:
  - id: near
    when: a >= 0.25 and b >= 0.25
    require: score(low) <= score(high)
    action: refuse
"""


def _convolutional(*, pooled: bool) -> onnx.ModelProto:
    """Low is the mean less a quarter, high the sum of two pixels and an eighth; no less than zero unless pooled."""
    constants = {
        "k": np.array([[[[0.25, 0.25], [0.25, 0.25]]], [[[1.0, 0.0], [0.0, 1.0]]]], dtype=np.float32),
        "b": np.array([-0.25, 0.125], dtype=np.float32),
        "s": np.array([1, 1, 2, 2]),
        "t": np.array([1, 2]),
    }
    kind, attributes = ("MaxPool", {"kernel_shape": [1, 1]}) if pooled else ("Relu", {})
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["image"]),
        helper.make_node("Conv", ["image", "k", "b"], ["z"]),
        helper.make_node(kind, ["z"], ["h"], **attributes),
        helper.make_node("Reshape", ["h", "t"], ["y"]),
    ]
    return model_of(nodes, constants, (1, 4), 13)


def _read(folder: Path, *, pooled: bool) -> tuple[Path, Model, Graph]:
    path = folder / "image.onnx"
    onnx.save(_convolutional(pooled=pooled), path)
    return path, *read_graph(path)


def _compiled(folder: Path, model: Model, options: CompileOptions = OPTIONS) -> CompiledBundle:
    (folder / "p.yaml").write_text(PROPERTIES)
    return compile_bundle(model, [read_properties(folder / "p.yaml", model.signature)], options, lambda _: None)


def _labels(compiled: CompiledBundle) -> set[int]:
    ((tree,),) = compiled.bundle.coverage
    return set(tree.label[tree.feature == LEAF].tolist())


def test_a_small_convolution_is_a_dense_network_and_proved_as_such(tmp_path: Path) -> None:
    path, model, _ = _read(tmp_path, pooled=False)
    assert isinstance(model.network, Network)
    compiled = _compiled(tmp_path, model)
    assert compiled.certificate is not None
    assert Label.SILENT in _labels(compiled)
    assert check(compiled.content, compiled.certificate, path, 1, lambda *_: None).pieces > 0


def test_what_the_graph_search_proves_is_checked_on_the_network_written_out(tmp_path: Path) -> None:
    path, model, graph = _read(tmp_path, pooled=False)
    compiled = _compiled(tmp_path, dataclasses.replace(model, network=graph))
    assert compiled.certificate is not None
    assert Label.SILENT in _labels(compiled)
    assert check(compiled.content, compiled.certificate, path, 1, lambda *_: None).pieces > 0


def test_nothing_is_claimed_that_the_checker_cannot_follow(tmp_path: Path) -> None:
    path, model, _ = _read(tmp_path, pooled=True)
    assert isinstance(model.network, Graph)
    compiled = _compiled(tmp_path, model)
    assert _labels(compiled) == {Label.OPEN}
    assert "this model is of another kind" in compiled.notes[0]
    assert not compiled.bundle.manifest.is_proved
    assert compiled.certificate is not None
    assert check(compiled.content, compiled.certificate, path, 1, lambda *_: None).pieces == 0


def test_without_a_certificate_the_search_speaks_and_the_checker_refuses(tmp_path: Path) -> None:
    path, model, _ = _read(tmp_path, pooled=True)
    compiled = _compiled(tmp_path, model, dataclasses.replace(OPTIONS, certify=False))
    assert Label.SILENT in _labels(compiled)
    assert np.isfinite(compiled.bundle.vectors.lower).all()
    with pytest.raises(NegativeAnswer, match="it can establish nothing"):
        check(compiled.content, b"", path, 1, lambda *_: None)


def test_the_same_region_count_gives_the_same_bytes(tmp_path: Path) -> None:
    _, model, graph = _read(tmp_path, pooled=False)
    first, second = (_compiled(tmp_path, dataclasses.replace(model, network=graph)) for _ in range(2))
    assert first.content == second.content
    assert read_model(tmp_path / "image.onnx").digest == model.digest
