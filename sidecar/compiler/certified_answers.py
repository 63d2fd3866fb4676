"""Between which values the verified model's answer to an input lies, in real and in the declared arithmetic.

The bounds that prove regions, asked about single points: there hardly anything is left of them but the rounding that
:mod:`sidecar.compiler.rounding` allows. So an upstream that computes the verified model in the declared arithmetic, in
whatever order it adds up, answers within the interval, always; one that answers outside it computes something else.
"""

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.bounds import Prepared, bound, prepare
from sidecar.compiler.graph_bounds import bound_graph, prepare_graph
from sidecar.compiler.softmax_last import without_softmax
from sidecar.errors import InputError
from sidecar.gates.values import Literal, Requirement, terms
from sidecar.network.graph import Graph
from sidecar.network.values import AnyNetwork
from sidecar.tensors import Rows

Floats: TypeAlias = npt.NDArray[np.float64]


def certified_answers(network: AnyNetwork, arithmetic: Arithmetic, inputs: Rows) -> tuple[Rows, Rows]:
    """Bounds of each output, float64 (row, output) each; infinite, both, where an overflow is possible, or
    behind a softmax.

    ``inputs`` are finite wire values, (row, input).

    Soundness: see :mod:`sidecar.compiler.bounds`; a point is a box.

    Raises:
        InputError: the arithmetic does not speak about this network, see :func:`sidecar.compiler.rounding.staged`.
    """
    wanted = _each_output(network.signature.output_size)
    if isinstance(network, Graph):
        if not without_softmax(network, wanted, arithmetic)[2]:
            unknown = np.full((len(inputs), len(wanted.clauses)), np.inf)
            return -unknown, unknown
        graph = prepare_graph(network, wanted, arithmetic)
        bounds = [bound_graph(graph, row, row) for row in inputs[:, np.newaxis]]
        found = [_known(each.lower, each.upper) for each in bounds]
    else:
        prepared = prepare(network, wanted, arithmetic)
        found = [_at(prepared, row) for row in inputs[:, np.newaxis]]
    return np.concatenate([lower for lower, _ in found]), np.concatenate([upper for _, upper in found])


def _each_output(count: int) -> Requirement:
    """One literal for each output, in their order: the output itself."""
    return Requirement(
        tuple((Literal(terms({index: Fraction(1)}), (), Fraction(0), strict=False),) for index in range(count))
    )


def _at(prepared: Prepared, point: Rows) -> tuple[Floats, Floats]:
    bounds = bound(prepared, point, point, np.zeros((1, prepared.hidden), np.int8))
    return _known(bounds.lower, bounds.upper)


def _known(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(lower) & np.isfinite(upper)
    return np.where(known, lower, -np.inf), np.where(known, upper, np.inf)


def require_within(lower: Rows, outputs: Rows, upper: Rows) -> None:
    """That onnxruntime's answers are what the proof says they can be.

    Raises:
        InputError: one is not. Then what was proved speaks about another function or arithmetic than onnxruntime's.
    """
    outside = ~((lower <= outputs) & (outputs <= upper))
    if outside.any():
        row, column = (int(index) for index in np.argwhere(outside)[0])
        got, least, most = (float(each[row, column]) for each in (outputs, lower, upper))
        raise InputError(
            f"self-test vector {row}: onnxruntime answers {got!r} in output {column}, expected a value from {least!r} "
            f"to {most!r}, which is proved of the model in the declared arithmetic; it computes another function than "
            "was read from the file, and a proof would say nothing about it: please report this model"
        )
