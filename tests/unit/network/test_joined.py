"""A bias that stands apart is taken into the MatMul or Conv before it, and nothing else is."""

import pathlib

import numpy as np
import onnx
import pytest
from onnx import helper

from sidecar.compiler.replay import answers
from sidecar.network.onnx_reader import read_graph
from sidecar.network.operators.conv import Conv
from sidecar.network.operators.matmul import MatMul
from sidecar.network.values import forward
from tests.laws.onnx_models import model_of

RNG = np.random.default_rng(4)
MATRIX = RNG.integers(-4, 5, (3, 2)).astype(np.float32)
KERNEL = RNG.integers(-4, 5, (2, 1, 1, 1)).astype(np.float32)
NUMBERS = {
    "w": MATRIX,
    "k": KERNEL,
    "row": np.array([3, -1], np.float32),
    "number": np.array(2, np.float32),
    "column": np.array([[5], [7]], np.float32),
    "channels": np.array([3, -1], np.float32).reshape(2, 1, 1),
    "pixels": RNG.integers(-4, 5, (2, 2, 3)).astype(np.float32),
}


def _read(folder: pathlib.Path, nodes: list, shape: tuple[int, ...]):
    onnx.save(model_of([helper.make_node(*node) for node in nodes], NUMBERS, shape, 13), folder / "m.onnx")
    return read_graph(folder / "m.onnx")


PRODUCT = ("MatMul", ["x", "w"], ["h"])
WINDOWS = ("Conv", ["x", "k"], ["h"])
ROW, IMAGE = (1, 3), (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("nodes", "shape", "biased"),
    [
        ([PRODUCT, ("Add", ["h", "row"], ["y"])], ROW, True),
        ([PRODUCT, ("Add", ["row", "h"], ["y"])], ROW, True),
        ([PRODUCT, ("Sub", ["h", "row"], ["y"])], ROW, True),
        ([PRODUCT, ("Add", ["h", "number"], ["y"])], ROW, True),
        ([PRODUCT, ("Relu", ["h"], ["g"]), ("Add", ["g", "row"], ["y"])], ROW, False),
        ([PRODUCT, ("Sub", ["row", "h"], ["y"])], ROW, False),
        ([PRODUCT, ("Add", ["h", "column"], ["y"])], ROW, False),
        ([PRODUCT, ("Add", ["h", "row"], ["g"]), ("Sub", ["g", "h"], ["y"])], ROW, False),
        ([PRODUCT, ("Mul", ["h", "row"], ["y"])], ROW, False),
        ([WINDOWS, ("Add", ["h", "channels"], ["y"])], IMAGE, True),
        ([WINDOWS, ("Add", ["h", "number"], ["y"])], IMAGE, True),
        ([WINDOWS, ("Add", ["h", "pixels"], ["y"])], IMAGE, False),
    ],
)
def test_a_constant_becomes_a_bias_where_it_can(
    tmp_path: pathlib.Path, nodes: list, shape: tuple[int, ...], biased: bool
) -> None:
    model, graph = _read(tmp_path, nodes, shape)
    first = graph.nodes[0].operation
    assert isinstance(first, MatMul | Conv)
    assert (first.added is not None) == biased
    assert len(graph.nodes) == len(nodes) - biased
    assert first.operations == np.prod(MATRIX.shape[:1] if shape == ROW else 1) + biased
    rows = RNG.integers(-4, 5, (5, model.signature.input_size)).astype(np.float64)
    expected = answers(model, rows)
    assert np.array_equal(forward(graph, rows), expected)
    assert np.array_equal(forward(model.network, rows), expected)


def test_a_bias_that_is_there_already_stays_alone(tmp_path: pathlib.Path) -> None:
    nodes = [PRODUCT, ("Add", ["h", "row"], ["g"]), ("Add", ["g", "row"], ["y"])]
    _, graph = _read(tmp_path, nodes, ROW)
    assert len(graph.nodes) == 2
    assert forward(graph, np.zeros((1, 3))).tolist() == [[6.0, -2.0]]
