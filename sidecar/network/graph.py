"""A network as a graph: operations on tensors, in the order in which the model file computes them.

Constants are float64 holding the numbers of the model file, so the value denotes one function over the reals. For what
is a plain chain of dense layers and ReLUs, :mod:`sidecar.network.dense` gives the value that the fast engine takes.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np

from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import AffineMap, Elementwise, Floats, Shape
from sidecar.network.operators.softmax import Softmax
from sidecar.tensors import ModelSignature, Rows

_MOST_VALUES: Final = 2**22
"""Values of all tensors that are computed at once."""

Operation: TypeAlias = AffineMap | Elementwise | MaxPool | Softmax


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Args:
        operation: what is computed.
        operands: of which tensors; 0 is the input, ``k`` the result of the ``k``-th node counted from 1.
        shape: of the result.
    """

    operation: Operation
    operands: tuple[int, ...]
    shape: Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A feed-forward network from an input row to an output row.

    Args:
        signature: tensors on the wire; their sizes are those of the first and the last tensor.
        shape: of the input tensor.
        nodes: at least one, each after its operands; the last one's result is the output. A softmax only stands last.
    """

    signature: ModelSignature
    shape: Shape
    nodes: tuple[Node, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of all tensors, the input's first."""
        return (self.shape, *(node.shape for node in self.nodes))


def evaluated(graph: Graph, inputs: Rows) -> Iterator[Floats]:
    """All tensors in order, the input first, for rows (row, input); each with axes (row, *shape)."""
    tensors = [inputs.reshape(len(inputs), *graph.shape)]
    yield tensors[0]
    for node in graph.nodes:
        tensors.append(node.operation(*(tensors[operand] for operand in node.operands)))
        yield tensors[-1]


def graph_forward(graph: Graph, inputs: Rows) -> Rows:
    """The outputs in float64 (a reference, not a bound), (row, output)."""
    outputs = np.empty((len(inputs), graph.signature.output_size))
    step = max(1, _MOST_VALUES // sum(math.prod(shape) for shape in graph.shapes))
    for start in range(0, len(inputs), step):
        *_, last = evaluated(graph, inputs[start : start + step])
        outputs[start : start + step] = last.reshape(-1, outputs.shape[1])
    return outputs
