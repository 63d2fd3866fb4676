"""Graphs written out as chains of dense layers and ReLUs, which is what the fast engine and the checker take; and back.

The chain computes the same function over the reals, and every evaluation of the graph that the declared arithmetic
allows is one that it allows of the chain: a layer's perturbation may always be zero, and where the graph rounds, the
layer counts at least as many ``operations``.

Between two nonlinear operations the *state* is all tensors that are still needed, one after the other. An affine
operation's matrix is found by applying it to every unit tensor, where all products are with one or zero and therefore
exact in float64; the other tensors are carried along by ones. What a ReLU must leave alone is carried through it as
``max(t, 0) - max(-t, 0)``, or as it is where it is never negative. ``LeakyRelu`` is ``max(z, 0) - alpha max(-z, 0)``,
``Clip`` ``least + max(z - least, 0) - max(z - most, 0)``.
"""

import dataclasses
import math
from typing import Final

import numpy as np

from sidecar.network.graph import Graph, Node, Operation
from sidecar.network.operators.clip import Clip
from sidecar.network.operators.leaky_relu import LeakyRelu
from sidecar.network.operators.matmul import MatMul
from sidecar.network.operators.operation import AffineMap, Floats, Shape
from sidecar.network.operators.relu import Relu as ReluOperation
from sidecar.network.operators.reshape import Reshape
from sidecar.network.operators.scale import Scale
from sidecar.network.operators.shift import Shift
from sidecar.network.operators.transpose import Transpose
from sidecar.network.values import Affine, AnyNetwork, Layer, Network, Relu

MOST_DENSE: Final = 2**26
"""Entries of one matrix (512 MiB of float64) of a chain of matrix products."""

MOST_UNFOLDED: Final = 2**20
"""Entries of one matrix where something is written out that is no chain of matrix products."""

MOST_CHECKED: Final = 2**23
"""The same for the checker, which bounds few boxes."""

_MATRICES: Final = (MatMul, Reshape, Scale, Shift, Transpose)
_KEEPS_SIGN: Final = (Reshape, Transpose)
_BLOCK: Final = 2**22
"""Values of unit tensors that are looked at together."""


class _TooLargeError(Exception):
    """A matrix would exceed the limit, or an operation cannot be written out."""


def checkable(network: AnyNetwork) -> Network | None:
    """The network as the checker takes it: dense, or written out; None where it cannot be."""
    return network if isinstance(network, Network) else dense(network, MOST_CHECKED)


def dense(graph: Graph, most_unfolded: int = MOST_UNFOLDED) -> Network | None:
    """The graph as a chain; None where an operation has no such form, or a matrix would be too large.

    Args:
        graph: what is written out.
        most_unfolded: entries of one matrix, where the graph is no chain of matrix products already.
    """
    writing = _Writing(graph, most_unfolded)
    try:
        for place, node in enumerate(graph.nodes, 1):
            writing.write(place, node)
    except _TooLargeError:
        return None
    return Network(graph.signature, tuple(writing.layers))


@dataclasses.dataclass(frozen=True)
class _Part:
    """A row block of the next layer: ``sum of matrix @ tensor + bias``; a number stands for that multiple of one."""

    sources: tuple[tuple[int, Floats | float], ...]
    bias: Floats | None = None


class _Writing:
    """The chain so far: ``layers``, and which tensors the state holds."""

    def __init__(self, graph: Graph, most_unfolded: int) -> None:
        self.layers: list[Layer] = []
        self._graph, self._most, self._state = graph, most_unfolded, [0]
        self._sizes = [math.prod(shape) for shape in graph.shapes]
        self._last_use = {operand: place for place, node in enumerate(graph.nodes, 1) for operand in node.operands}
        self._positive: set[int] = set()

    def write(self, place: int, node: Node) -> None:
        """Add what computes one node's tensor, and forgets what nothing needs any more."""
        kept = [tensor for tensor in self._state if self._last_use[tensor] > place]
        operation, operand = node.operation, node.operands[0]
        if isinstance(operation, AffineMap):
            if isinstance(operation, _KEEPS_SIGN) and operand in self._positive:
                self._positive.add(place)
            self._affine(place, node, operation, kept)
        elif isinstance(operation, ReluOperation):
            self._positive.add(place)
            self._bent(place, [_Part(((operand, 1.0),))], _Part(((0, 1.0),)), kept, 0, 0)
        elif isinstance(operation, LeakyRelu):
            before = [_Part(((operand, 1.0),)), _Part(((operand, -1.0),))]
            self._bent(place, before, _Part(((0, 1.0), (1, -operation.alpha))), kept, 0, 3)
        elif isinstance(operation, Clip):
            self._clip(place, operand, operation, kept)
        else:
            raise _TooLargeError

    def _clip(self, place: int, operand: int, operation: Clip, kept: list[int]) -> None:
        size = self._sizes[place]
        least, most = (np.full(size, bound) for bound in (operation.least, operation.most))
        if np.isinf(operation.least) and np.isinf(operation.most):
            self._join(place, [_Part(((operand, 1.0),))], kept, 0)
        elif np.isinf(operation.least):  # most - max(most - z, 0)
            self._bent(place, [_Part(((operand, -1.0),), most)], _Part(((0, -1.0),), most), kept, 2, 2)
        else:
            before = [_Part(((operand, 1.0),), -bound) for bound in (least, most) if np.isfinite(bound[0])]
            after = tuple((index, 1.0 - 2.0 * index) for index in range(len(before)))
            self._bent(place, before, _Part(after, least), kept, 2, 2 + len(before))

    def _affine(self, place: int, node: Node, operation: AffineMap, kept: list[int]) -> None:
        if isinstance(operation, Reshape):
            if not kept:
                self._state = [place]
                return
            self._join(place, [_Part(((node.operands[0], 1.0),))], kept, 0)
            return
        plain = isinstance(operation, _MATRICES) and self._state == [*node.operands] and not kept
        most = MOST_DENSE if plain else self._most
        if sum(map(self._sizes.__getitem__, self._state)) * sum(self._sizes[each] for each in (place, *kept)) > most:
            raise _TooLargeError
        bias = operation.bias(node.shape)
        shapes = [self._graph.shapes[operand] for operand in node.operands]
        sources = tuple(
            (operand, _matrix(operation, shapes, number, self._sizes[place]))
            for number, operand in enumerate(node.operands)
        )
        part = _Part(sources, None if bias is None else bias.reshape(-1).copy())
        self._join(place, [part], kept, operation.operations, most)

    def _bent(
        self, place: int, before: list[_Part], after: _Part, kept: list[int], operations: int, later: int
    ) -> None:
        """A ReLU over ``before``, beside which ``kept`` is carried; ``after`` makes the new tensor of its results. The
        two are of so many ``operations``, and ``later``.
        """
        size = self._sizes[place]
        sources, tensors = list(before), []
        for tensor in kept:
            signs = (1.0,) if tensor in self._positive else (1.0, -1.0)
            tensors.append((tensor, tuple((len(sources) + index, sign) for index, sign in enumerate(signs))))
            sources.extend(_Part(((tensor, sign),)) for sign in signs)
        widths = [size] * len(before) + [self._sizes[part.sources[0][0]] for part in sources[len(before) :]]
        self._emit(self._state, self._widths(self._state), sources, widths, operations)
        self.layers.append(Relu())
        results = [after, *(_Part(found) for _, found in tensors)]
        self._emit([*range(len(sources))], widths, results, [size, *self._widths(kept)], later)
        self._state = [place, *kept]

    def _join(self, place: int, parts: list[_Part], kept: list[int], operations: int, most: int | None = None) -> None:
        rows = [*parts, *(_Part(((tensor, 1.0),)) for tensor in kept)]
        state = [place, *kept]
        self._emit(self._state, self._widths(self._state), rows, self._widths(state), operations, most)
        self._state = state

    def _widths(self, tensors: list[int]) -> list[int]:
        return [self._sizes[tensor] for tensor in tensors]

    def _emit(
        self,
        names: list[int],
        columns: list[int],
        parts: list[_Part],
        rows: list[int],
        operations: int,
        most: int | None = None,
    ) -> None:
        """One affine layer, unless it would change nothing. ``columns`` and ``rows`` are sizes."""
        if len(parts) == len(names) and all(map(_passes_on, parts, names)):
            return
        if sum(columns) * sum(rows) > (self._most if most is None else most):
            raise _TooLargeError
        biases = [np.zeros(size) if part.bias is None else part.bias for part, size in zip(parts, rows, strict=True)]
        weight = _stacked(names, columns, parts, rows)
        self.layers.append(Affine(weight, np.concatenate(biases), operations))


def _passes_on(part: _Part, name: int) -> bool:
    """Whether a part is that tensor and nothing else."""
    ((tensor, factor), *others) = part.sources
    return not others and part.bias is None and tensor == name and isinstance(factor, float) and factor == 1.0


def _stacked(names: list[int], columns: list[int], parts: list[_Part], rows: list[int]) -> Floats:
    """The parts' matrices, one below the other, over the tensors of the state side by side."""
    weight = np.zeros((sum(rows), sum(columns)))
    places = {name: slice(end - size, end) for name, size, end in zip(names, columns, np.cumsum(columns), strict=True)}
    for part, height, end in zip(parts, rows, np.cumsum(rows), strict=True):
        for name, factor in part.sources:
            block = weight[end - height : end, places[name]]
            if isinstance(factor, float):
                block[np.arange(height), np.arange(height)] += factor
            else:
                block += factor
    return weight


def _matrix(operation: AffineMap, shapes: list[Shape], number: int, height: int) -> Floats:
    """The matrix (out, in) by which an operand enters."""
    size = math.prod(shapes[number])
    weight = np.empty((height, size))
    step = max(1, _BLOCK // max(size, height))
    for start in range(0, size, step):
        count = min(step, size - start)
        tensors = [np.zeros((count, *shape)) for shape in shapes]
        units = tensors[number].reshape(count, size)
        units[np.arange(count), start + np.arange(count)] = 1.0
        weight[:, start : start + count] = operation.linear(*tensors).reshape(count, height).T
    return weight


def graph_of(network: Network) -> Graph:
    """A dense network as a graph, on matrices of one row."""
    size, nodes = network.signature.input_size, []
    for place, layer in enumerate(network.layers):
        operation: Operation = ReluOperation()
        if isinstance(layer, Affine):
            operation, size = MatMul(layer.weight.T, False, layer.bias, layer.operations), len(layer.bias)
        nodes.append(Node(operation, (place,), (1, size)))
    return Graph(network.signature, (1, network.signature.input_size), tuple(nodes))
