"""What literals, requirements and regions mean, in exact rational arithmetic.

The reference for everything else in this room: slow, short, and read straight off the definitions in
:mod:`sidecar.gates.values`. Rows are finite float64 values, each of which is a rational number. Only values
that a literal mentions are read; a non-finite one among them raises ValueError or OverflowError.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.gates.values import Clause, Literal, Region, Requirement

Row: TypeAlias = Sequence[float] | npt.NDArray[np.float64]
"""One row of inputs or outputs, by index."""


def sum_of_products(
    pairs: Iterable[tuple[Fraction | float, Fraction | float]], start: Fraction = Fraction(0)
) -> Fraction:
    """``start`` and the products of all pairs; in whole numbers over a common denominator, several times as fast as
    sums of fractions.
    """
    numerator, denominator = start.as_integer_ratio()
    for one, other in pairs:
        (top, bottom), (other_top, other_bottom) = one.as_integer_ratio(), other.as_integer_ratio()
        top, bottom = top * other_top, bottom * other_bottom
        if bottom == denominator:
            numerator += top
            continue
        common = math.lcm(denominator, bottom)
        numerator = numerator * (common // denominator) + top * (common // bottom)
        denominator = common
    return Fraction(numerator, denominator)


def literal_value(literal: Literal, inputs: Row, outputs: Row) -> Fraction:
    """``outputs . y + inputs . x + offset``."""
    pairs = [(coefficient, inputs[index]) for index, coefficient in literal.inputs]
    pairs += [(coefficient, outputs[index]) for index, coefficient in literal.outputs]
    return sum_of_products(pairs, literal.offset)


def literal_holds(literal: Literal, inputs: Row, outputs: Row) -> bool:
    """Whether the inequality holds; equality only satisfies a literal that is not strict."""
    value = literal_value(literal, inputs, outputs)
    return value > 0 if literal.strict else value >= 0


def clause_holds(clause: Clause, inputs: Row, outputs: Row) -> bool:
    """Whether some literal holds."""
    return any(literal_holds(literal, inputs, outputs) for literal in clause)


def requirement_holds(requirement: Requirement, inputs: Row, outputs: Row) -> bool:
    """Whether every clause holds."""
    return all(clause_holds(clause, inputs, outputs) for clause in requirement.clauses)


def region_contains(region: Region, inputs: Row) -> bool:
    """Whether a finite input row lies in the box and satisfies every cut."""
    values = [Fraction(value) for value in inputs]
    bounds = zip(region.box.lower, values, region.box.upper, strict=True)
    in_box = all(lower <= value <= upper for lower, value, upper in bounds)
    return in_box and all(literal_holds(cut, inputs, ()) for cut in region.cuts)
