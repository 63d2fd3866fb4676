"""How far a served evaluation of a graph may stray from real arithmetic, tensor by tensor.

The mechanism is :mod:`sidecar.compiler.rounding`'s, and so is the derivation; a *stage* here is everything affine
between the results of nonlinear operations, or the input, and one tensor that a nonlinear operation or the output
takes. Written out, that tensor is a sum over all paths of monomials; an evaluation in floating point, in whatever order
it sums and whichever neighbours it fuses, multiplies each by factors ``1 + d`` whose ``|d|`` add up to at most ``s = N
u + k v``, where ``N`` adds up the ``operations`` along the longest path. With ``|h| <= m`` for the values that the
stage starts from, the monomials' magnitudes add up to at most what the same operations with magnitudes of all
coefficients make of ``m``, here ``M``. So

    E = gamma(s) M  +  10 (k + 1) eta P max(1, m)

bounds the perturbation; ``k`` is the number of operations that compute something on the longest path, at least one (a
value that is handed on may be rounded too), and ``P`` multiplies their largest row sums of ``max(1, |coefficient|)``,
the bias included: no monomial's other factors multiply to more, even with those below one left out. Nothing overflows
while ``Q + 10 (k + 1) eta P max(1, m)`` is below the format's limit, where ``Q`` begins as ``max(1, m)`` and in each
operation is multiplied by its largest row sum of ``|coefficient|``, at least one, and added its largest ``|bias|``. Our
own float64 computation is charged to the same ``E``: ``slack`` times ``M + E``, as :mod:`~sidecar.compiler.rounding`
has it.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.rounding import (
    INFLATE,
    MOST_ROUNDINGS,
    TINY,
    Floats,
    Format,
    at_least_one,
    format_of,
    gamma,
)
from sidecar.errors import InputError
from sidecar.network.graph import Graph, Node
from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import AffineMap, Shape
from sidecar.numerics import UNIT_ROUNDOFF_64

_ADDED: Final = 64
"""Roundings of ours that each operation on a path adds besides its own: relaxations, slopes, sums over consumers. Those
of constants and of boxes, which sum over a whole tensor, are counted once for the graph."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """What the rounding of one tensor depends on, besides magnitudes.

    Args:
        relative: ``gamma(s)``.
        underflow: ``10 (k + 1) eta P``.
        peak, shift: ``Q = peak * max(1, m) + shift``, the underflow included.
    """

    relative: float
    underflow: float
    peak: float
    shift: float


@dataclasses.dataclass(frozen=True, eq=False)
class Rounded:
    """A graph with the rounding of each of its tensors.

    Args:
        graph: the network.
        stages: per tensor.
        magnitudes: per node, the operation with the magnitudes of its coefficients; None where it is not affine.
        biases: per node, what is added, float64 (value,); None for nothing.
        slack: relative error charged for our own computation.
        form: the declared arithmetic.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    magnitudes: tuple[AffineMap | None, ...]
    biases: tuple[Floats | None, ...]
    slack: float
    form: Format

    @property
    def widest(self) -> int:
        """The largest number of values of a tensor."""
        return max(math.prod(shape) for shape in self.graph.shapes)

    def error(self, place: int, magnitude: Floats, largest: Floats) -> Floats:
        """``E`` of a tensor (box, *shape), infinite where overflow looms.

        Args:
            place: which tensor.
            magnitude: ``M`` (box, *shape).
            largest: ``max(1, m)`` (box,).
        """
        stage = self.stages[place]
        largest = largest.reshape(-1, *(1,) * (magnitude.ndim - 1))
        error = stage.relative * magnitude + stage.underflow * largest
        error = (error + self.slack * (magnitude + error) + TINY) * INFLATE
        return np.where((stage.peak * largest + stage.shift) * INFLATE <= self.form.limit, error, np.inf)


def rounded(graph: Graph, arithmetic: Arithmetic) -> Rounded:
    """The graph's rounding in the declared arithmetic.

    Raises:
        InputError: the arithmetic does not fit the tensors' datatypes, a path sums up too many terms, or rounds more
            than leaves anything.
    """
    form = format_of(arithmetic, graph.signature)
    shapes = graph.shapes
    counts, depths, growths, peaks, total = [0], [0], [1.0], [(1.0, 0.0)], [0]
    for node in graph.nodes:
        before = node.operands
        total.append(max(total[place] for place in before) + _ADDED)
        if not isinstance(node.operation, AffineMap):
            total[-1] += math.prod(node.operation.windows.kernel) if isinstance(node.operation, MaxPool) else 0
            counts.append(0)
            depths.append(0)
            growths.append(1.0)
            peaks.append((1.0, 0.0))
            continue
        terms, own_terms = node.operation.operations, _terms(node.operation, shapes, node)
        counts.append(max(counts[place] for place in before) + terms)
        depths.append(max(depths[place] for place in before) + (terms > 0))
        growths.append(max(growths[place] for place in before) * _growth(node.operation, shapes, node))
        peaks.append(_peak(node.operation, shapes, node, [peaks[place] for place in before]))
        total[-1] += 2 * terms + own_terms
    ours = max(total) + 4 * len(graph.nodes) + 2 * max(math.prod(shape) for shape in shapes)
    if ours > MOST_ROUNDINGS:
        raise InputError(f"bounding the network sums up {ours} terms on one path; the limit is {MOST_ROUNDINGS}")
    stages = tuple(map(functools.partial(_stage, form), counts, depths, growths, peaks))
    return Rounded(
        graph,
        stages,
        tuple(node.operation.mapped(np.abs) if isinstance(node.operation, AffineMap) else None for node in graph.nodes),
        tuple(_bias(node) for node in graph.nodes),
        4.0 * gamma(ours, UNIT_ROUNDOFF_64),
        form,
    )


def _stage(form: Format, operations: int, depth: int, growth: float, peak: tuple[float, float]) -> Stage:
    layers = max(depth, 1)
    underflow = 10.0 * (layers + 1) * form.underflow * growth
    return Stage(form.relative(operations, layers), underflow, peak[0] + underflow, peak[1])


def _bias(node: Node) -> Floats | None:
    bias = node.operation.bias(node.shape) if isinstance(node.operation, AffineMap) else None
    return None if bias is None else bias.reshape(-1).copy()


def _growth(operation: AffineMap, shapes: Sequence[Shape], node: Node) -> float:
    """The largest row sum of ``max(1, |coefficient|)``, at least one so that later values bound earlier ones."""
    ones = [np.ones((1, *shapes[place])) for place in node.operands]
    return max(1.0, float(operation.mapped(at_least_one)(*ones).max())) * INFLATE


def _peak(
    operation: AffineMap, shapes: Sequence[Shape], node: Node, before: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """``Q`` of an operation's result, from its operands'."""
    magnitudes = operation.mapped(np.abs)
    largest = max(1.0, float(magnitudes.linear(*(np.ones((1, *shapes[place])) for place in node.operands)).max()))
    bias = magnitudes.bias(node.shape)
    added = 0.0 if bias is None else float(bias.max(initial=0.0))
    peaks, shifts = zip(*before, strict=True)
    return largest * max(peaks) * INFLATE, (largest * max(shifts) + added) * INFLATE


def _terms(operation: AffineMap, shapes: Sequence[Shape], node: Node) -> int:
    """The most terms that one coefficient of the adjoint sums up."""
    count = operation.mapped(lambda values: (values != 0.0).astype(np.float64))
    parts = count.adjoint(np.ones((1, *node.shape)), [shapes[place] for place in node.operands])
    return int(max(np.abs(part).max() for part in parts))
