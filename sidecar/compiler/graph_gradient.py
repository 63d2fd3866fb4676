"""Gradients of a graph's outputs, for descent; nothing here proves anything."""

from collections.abc import Sequence

import numpy as np

from sidecar.compiler.rounding import Floats
from sidecar.network.graph import Graph, Node, evaluated
from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import AffineMap, Elementwise, Shape
from sidecar.network.operators.softmax import Softmax
from sidecar.tensors import Rows


def values_and_gradient(graph: Graph, points: Rows, direction: Floats) -> tuple[Rows, Floats]:
    """The outputs at each point, and the gradient of ``direction . outputs``: (row, output) to (row, input)."""
    tensors, shapes = list(evaluated(graph, points)), graph.shapes
    rows, forms = len(points), {len(graph.nodes): direction.reshape(-1, *shapes[-1])}
    for place in range(len(graph.nodes), 0, -1):
        form = forms.pop(place, None)
        if form is None:
            continue
        node = graph.nodes[place - 1]
        parts = _pulled_back(node, form, tensors[node.operands[0]], tensors[place], shapes)
        for operand, part in zip(node.operands, parts, strict=True):
            forms[operand] = forms[operand] + part if operand in forms else part
    gradient = forms.get(0, np.zeros_like(tensors[0]))
    return tensors[-1].reshape(rows, -1), gradient.reshape(rows, -1)


def _pulled_back(
    node: Node, form: Floats, before: Floats, after: Floats, shapes: Sequence[Shape]
) -> tuple[Floats, ...]:
    operation = node.operation
    if isinstance(operation, AffineMap):
        return operation.adjoint(form, [shapes[operand] for operand in node.operands])
    if isinstance(operation, Elementwise):
        return (form * operation.slope(before),)
    if isinstance(operation, MaxPool):
        seen = operation.seen(before)
        chosen = seen == seen.max(axis=2, keepdims=True)
        looked = form.reshape(-1, *form.shape[2:])[:, :, None] * chosen
        return (operation.windows.fold(looked, before.shape[3:]).reshape(before.shape),)
    if isinstance(operation, Softmax):
        mean = (form * after).reshape(len(form), -1).sum(axis=1).reshape(-1, *(1,) * (form.ndim - 1))
        return (after * (form - mean),)
    raise NotImplementedError(f"no gradient of {type(operation).__name__}")
