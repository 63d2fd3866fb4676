"""A softmax that stands last, taken off: what its operands must satisfy so that its results satisfy the requirement.

Sufficient, not necessary, and meant for proofs of *silent* only. With ``d = z_i - z_k`` for operands ``z``, results
``y``, and a served softmax whose relative error is ``e``:

- ``y_i > y_k`` where ``d > delta``, and all of ``z_i - z_m > -60``: then ``y_i`` is at least ``exp(-60) / 1000``, so
  that ``y_i (1 - e) - y_k (1 + e) >= y_i ((1 - e) - exp(-delta) (1 + e)) > 2**-126``: no rounding and no underflow
  turns the order round or makes a tie.
- ``y_i > c`` where all of ``z_i - z_m > log((n - 1) c / (1 - c)) + delta``, since ``y_i = 1 / (1 + sum of exp(-d))``.
- ``y_i < c`` where one of ``z_m - z_i > log((1 - c) / c) + delta``, since ``y_i <= 1 / (1 + exp(-d))``.

``delta`` is :data:`_DELTA`; a shift by it changes ``exp`` by far more than ``e``, and than the rounding of the
logarithm. A literal in inputs alone stays as it is. Of any other kind nothing is proved.
"""

import dataclasses
import itertools
import math
from fractions import Fraction
from typing import Final

from sidecar.gates.values import Clause, Literal, Requirement, terms
from sidecar.network.graph import Graph
from sidecar.network.operators.softmax import Softmax

_DELTA: Final = Fraction(1, 2**12)
_DEEPEST: Final = Fraction(60)
_MOST_VALUES: Final = 1000
_LEAST_SHARE: Final = Fraction(1, 2**100)

_NEVER: Final = Literal((), (), Fraction(-1), strict=True)
"""Does not hold anywhere."""


def without_softmax(graph: Graph, requirement: Requirement) -> tuple[Graph, Requirement, bool]:
    """The graph without a softmax at its end, a requirement on what is left that implies the given one, and whether the
    two say the same, as they do where no softmax is.
    """
    if not graph.nodes or not isinstance(graph.nodes[-1].operation, Softmax):
        return graph, requirement, True
    before, place = graph.nodes[:-1], graph.nodes[-1].operands[0]
    if place != len(before):
        raise ValueError("the softmax's operand is not what is computed before it")
    size = graph.signature.output_size
    clauses = itertools.chain.from_iterable(_implying(clause, size) for clause in requirement.clauses)
    return dataclasses.replace(graph, nodes=before), Requirement(tuple(dict.fromkeys(clauses))), False


def _implying(clause: Clause, size: int) -> list[Clause]:
    """Clauses that together imply this one."""
    alternatives: list[Literal] = []
    conditions: list[Clause] = []
    for literal in clause:
        outputs = dict(literal.outputs)
        if not outputs:
            alternatives.append(literal)
        elif not literal.inputs and size <= _MOST_VALUES:
            pair = _order(outputs, literal.offset)
            if pair is not None:
                larger, smaller = pair
                alternatives.append(_difference(larger, smaller, _DELTA))
                others = (index for index in range(size) if index != larger)
                conditions.extend((_difference(larger, index, -_DEEPEST),) for index in others)
            elif len(outputs) == 1:
                alternatives.extend(_below(outputs, literal.offset, size))
                if len(clause) == 1 and (above := _above(outputs, literal.offset, size)):
                    return above
    return [tuple(alternatives) or (_NEVER,), *conditions]


def _difference(first: int, second: int, least: Fraction) -> Literal:
    """``z_first - z_second > least``."""
    return Literal(terms({first: Fraction(1), second: Fraction(-1)}), (), -least, strict=True)


def _order(outputs: dict[int, Fraction], offset: Fraction) -> tuple[int, int] | None:
    """Of ``a y_i - a y_k + b``, where ``a > 0`` and ``b >= 0``, which is to be larger and which smaller."""
    if len(outputs) != 2 or sum(outputs.values()) != 0 or offset < 0:
        return None
    first, second = outputs
    return (first, second) if outputs[first] > 0 else (second, first)


def _above(outputs: dict[int, Fraction], offset: Fraction, size: int) -> list[Clause]:
    """Clauses that imply ``a y_i + b > 0`` where ``a > 0``; none where there are none such."""
    ((index, factor),) = outputs.items()
    share = -offset / factor
    if factor < 0 or share >= 1 or size == 1:
        return []
    share = max(share, _LEAST_SHARE)
    least = Fraction(math.log((size - 1) * share / (1 - share))) + _DELTA
    return [(_difference(index, other, max(least, -_DEEPEST)),) for other in range(size) if other != index]


def _below(outputs: dict[int, Fraction], offset: Fraction, size: int) -> list[Literal]:
    """Literals of which each implies ``a y_i + b > 0`` where ``a < 0``."""
    ((index, factor),) = outputs.items()
    share = -offset / factor
    if factor > 0 or not _LEAST_SHARE <= share < 1:
        return []
    least = Fraction(math.log((1 - share) / share)) + _DELTA
    return [_difference(other, index, least) for other in range(size) if other != index]
