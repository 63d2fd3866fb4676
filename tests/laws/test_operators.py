"""Law: every operator that is read computes what onnxruntime computes, and an affine one is what its parts say."""

import pathlib
import tempfile
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.compiler.replay import answers
from sidecar.network.dense import dense
from sidecar.network.graph import Graph, evaluated
from sidecar.network.onnx_reader import read_graph
from sidecar.network.operators.operation import AffineMap
from sidecar.network.values import Model, Network, forward
from tests.laws.onnx_models import OPERATORS


def _read(proto: onnx.ModelProto) -> tuple[Model, Graph]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "m.onnx"
        path.write_bytes(proto.SerializeToString())
        model, graph = read_graph(path)
    return model, graph


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_operator_agrees_with_onnxruntime(name: str, data: Any) -> None:
    model, graph = _read(OPERATORS[name](data.draw))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = (rng.standard_normal((3, model.signature.input_size)) * 2).astype(np.float32).astype(np.float64)
    expected = answers(model, rows)
    for network in (graph, model.network):
        np.testing.assert_allclose(forward(network, rows), expected, rtol=5e-6, atol=5e-6)
    _affine_parts_fit(graph, rng)


def _affine_parts_fit(graph: Graph, rng: np.random.Generator) -> None:
    """The adjoint is the linear part's; a result is linear part plus bias; magnitudes bound it."""
    shapes = graph.shapes
    for node in graph.nodes:
        if not isinstance(node.operation, AffineMap):
            continue
        before = [shapes[operand] for operand in node.operands]
        tensors = [rng.integers(-8, 9, (2, *shape)).astype(np.float64) for shape in before]
        form = rng.integers(-8, 9, (2, *node.shape)).astype(np.float64)
        assert node.operation.shape(*before) == node.shape
        forward_way = (form * node.operation.linear(*tensors)).reshape(2, -1).sum(axis=1)
        parts = node.operation.adjoint(form, before)
        assert [part.shape[1:] for part in parts] == before
        backward_way = sum((p * t).reshape(2, -1).sum(axis=1) for p, t in zip(parts, tensors, strict=True))
        np.testing.assert_allclose(backward_way, forward_way, rtol=1e-9, atol=1e-9)
        magnitudes = node.operation.mapped(np.abs)(*map(np.abs, tensors))
        assert (np.abs(node.operation(*tensors)) <= magnitudes * (1 + 1e-12)).all()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_convolution_written_out_is_the_convolution(data: Any) -> None:
    model, graph = _read(OPERATORS["Conv"](data.draw))
    written = dense(graph)
    assert isinstance(written, Network)
    rows = np.random.default_rng(0).integers(-9, 10, (2, model.signature.input_size)).astype(np.float64)
    *_, last = evaluated(graph, rows)
    np.testing.assert_allclose(forward(written, rows), last.reshape(2, -1), rtol=1e-12, atol=1e-12)
