"""A softmax that stands last, taken off: what its operands must satisfy so that its results satisfy the requirement.

Sufficient, not necessary, and meant for proofs of *silent* only. With operands ``z``, ``n`` results ``y``, and a served
softmax whose relative error is at most ``e``, where values below ``tiny`` may become anything up to ``(1 + e) tiny``:

- ``y_i > y_k`` where ``z_i - z_k > 4 e``, and all of ``z_i - z_m > -D``. For then ``y_k < y_i exp(-4 e)``, and
  ``exp(-4 e) (1 + e) < 1 - e``; and ``y_i >= exp(-D) / n >= 2 tiny``, so that no ``y_k`` below ``tiny`` gets there.
- ``y_i > c`` where all of ``z_i - z_m > log((n - 1) c' / (1 - c')) + 4 e`` with ``c' = (1 + 4 e) max(c, 2 tiny)``:
  since ``y_i = 1 / (1 + sum of exp(z_m - z_i))`` it is more than ``c'``, and ``c' (1 - e) > c``.
- ``y_i < c`` where one of ``z_m - z_i > log((1 - c') / c') + 4 e`` with ``c' = (1 - 4 e) c``: since ``y_i <= 1 / (1 +
  exp(z_m - z_i))`` it is less than ``c'``, and ``c' (1 + e) < c``; ``tiny`` must be less than ``c`` too.

The shift by ``4 e`` makes up for the logarithm's rounding in the last two. A literal in inputs alone stays as it is. Of
any other kind nothing is proved.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from sidecar.bundle.values import Arithmetic
from sidecar.errors import InputError
from sidecar.gates.values import Clause, Literal, Requirement, terms
from sidecar.network.graph import Graph
from sidecar.network.operators.softmax import Softmax
from sidecar.numerics import SOFTMAX_ERROR, UNIT_ROUNDOFF_16, UNIT_ROUNDOFF_BF16

_MOST_VALUES: Final = 1000


@dataclasses.dataclass(frozen=True)
class _Served:
    """A softmax as it is served.

    Args:
        error: ``e``, at most 2**-7.
        tiny: below it, values may become anything from zero to there.
    """

    error: Fraction
    tiny: Fraction

    @property
    def shift(self) -> Fraction:
        """``4 e``."""
        return 4 * self.error

    def deepest(self, size: int) -> Fraction:
        """``D`` for so many values, rounded down."""
        return Fraction(math.floor(math.log(1 / (2 * float(self.tiny) * size)) * 16 - 1), 16)


_FLOAT32: Final = _Served(Fraction(SOFTMAX_ERROR), Fraction(1, 2**126))
_SERVED: Final[Mapping[Arithmetic, _Served]] = MappingProxyType(
    {
        Arithmetic.IEEE32: _FLOAT32,
        Arithmetic.IEEE64: _FLOAT32,
        Arithmetic.TF32: _FLOAT32,
        Arithmetic.BF16: _Served(2 * Fraction(UNIT_ROUNDOFF_BF16), Fraction(1, 2**126)),
        Arithmetic.FP16: _Served(2 * Fraction(UNIT_ROUNDOFF_16), Fraction(1, 2**14)),
    }
)
"""Those with results in 16 bits compute in float32 and round then, whose error is far less than a unit of theirs."""

_NEVER: Final = Literal((), (), Fraction(-1), strict=True)
"""Does not hold anywhere."""


def without_softmax(graph: Graph, requirement: Requirement, arithmetic: Arithmetic) -> tuple[Graph, Requirement, bool]:
    """The graph without a softmax at its end, a requirement on what is left that implies the given one, and whether the
    two say the same, as they do where no softmax is.

    Raises:
        InputError: of a softmax in the declared arithmetic nothing is known.
    """
    if not graph.nodes or not isinstance(graph.nodes[-1].operation, Softmax):
        return graph, requirement, True
    before, place = graph.nodes[:-1], graph.nodes[-1].operands[0]
    if place != len(before):
        raise ValueError("the softmax's operand is not what is computed before it")
    served = _SERVED.get(arithmetic)
    if served is None:
        raise InputError(
            f"the model ends in a softmax, and of one whose exponentials and sum are computed in {arithmetic} nothing "
            "is proved: declare fp16, if the server computes its softmax in float32, or verify the model without it"
        )
    size = graph.signature.output_size
    clauses = itertools.chain.from_iterable(_implying(clause, size, served) for clause in requirement.clauses)
    return dataclasses.replace(graph, nodes=before), Requirement(tuple(dict.fromkeys(clauses))), False


def _implying(clause: Clause, size: int, served: _Served) -> list[Clause]:
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
                alternatives.append(_difference(larger, smaller, served.shift))
                others = (index for index in range(size) if index != larger)
                conditions.extend((_difference(larger, index, -served.deepest(size)),) for index in others)
            elif len(outputs) == 1:
                alternatives.extend(_below(outputs, literal.offset, size, served))
                if len(clause) == 1 and (above := _above(outputs, literal.offset, size, served)):
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


def _above(outputs: dict[int, Fraction], offset: Fraction, size: int, served: _Served) -> list[Clause]:
    """Clauses that imply ``a y_i + b > 0`` where ``a > 0``; none where there are none such."""
    ((index, factor),) = outputs.items()
    share = (1 + 4 * served.error) * max(-offset / factor, 2 * served.tiny)
    if factor < 0 or share >= 1 or size == 1:
        return []
    least = _log((size - 1) * share / (1 - share)) + served.shift
    return [(_difference(index, other, least),) for other in range(size) if other != index]


def _below(outputs: dict[int, Fraction], offset: Fraction, size: int, served: _Served) -> list[Literal]:
    """Literals of which each implies ``a y_i + b > 0`` where ``a < 0``."""
    ((index, factor),) = outputs.items()
    bound = -offset / factor
    share = (1 - 4 * served.error) * bound
    if factor > 0 or bound <= 2 * served.tiny or share >= 1:
        return []
    least = _log((1 - share) / share) + served.shift
    return [_difference(other, index, least) for other in range(size) if other != index]


def _log(value: Fraction) -> Fraction:
    """The logarithm, but for far less than a shift; of numbers of any size."""
    return Fraction(math.log(value.numerator) - math.log(value.denominator))
