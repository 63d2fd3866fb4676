"""A requirement's literals as float64 rows, its clauses as index lists, for many inputs or boxes at once.

The conversion from exact rationals rounds each coefficient once; whoever bounds with the rows charges for that. A
coefficient beyond float64's range becomes infinite, and every bound that uses it unknown.
"""

import dataclasses
import math
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.gates.values import Requirement, Terms

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class LiteralRows:
    """The distinct literals of a requirement.

    Args:
        outputs: float64 (literal, output). inputs: float64 (literal, input). offset: float64 (literal,).
        strict: bool (literal,); the literal demands ``> 0`` rather than ``>= 0``.
        clauses: for each clause the indices of its literals.
    """

    outputs: Floats
    inputs: Floats
    offset: Floats
    strict: Flags
    clauses: tuple[list[int], ...]

    def values(self, inputs: Floats, outputs: Floats) -> Floats:
        """Each literal's value (row, literal) in float64: a guide, not a bound."""
        return outputs @ self.outputs.T + inputs @ self.inputs.T + self.offset

    def best(self, values: Floats) -> Floats:
        """Per row and clause the largest value of its literals: (row, literal) to (row, clause)."""
        columns = [values[:, clause].max(axis=1) for clause in self.clauses]
        return np.stack(columns, axis=1) if columns else np.empty((len(values), 0))

    def all_have(self, proved: Flags) -> Flags:
        """Per row: has every clause a literal that is ``proved`` (row, literal)?"""
        columns = [proved[:, clause].any(axis=1) for clause in self.clauses]
        return np.all(columns, axis=0) if columns else np.ones(len(proved), dtype=np.bool_)

    def one_lacks(self, refuted: Flags) -> Flags:
        """Per row: is there a clause all of whose literals are ``refuted`` (row, literal)?"""
        columns = [refuted[:, clause].all(axis=1) for clause in self.clauses]
        return np.any(columns, axis=0) if columns else np.zeros(len(refuted), dtype=np.bool_)


def literal_rows(requirement: Requirement, input_size: int, output_size: int) -> LiteralRows:
    """The requirement's rows; a literal that stands in several clauses becomes one row."""
    literals = list(dict.fromkeys(literal for clause in requirement.clauses for literal in clause))
    index = {literal: position for position, literal in enumerate(literals)}
    return LiteralRows(
        outputs=_dense([literal.outputs for literal in literals], output_size),
        inputs=_dense([literal.inputs for literal in literals], input_size),
        offset=np.array([nearest(literal.offset) for literal in literals], dtype=np.float64),
        strict=np.array([literal.strict for literal in literals], dtype=np.bool_),
        clauses=tuple([index[literal] for literal in clause] for clause in requirement.clauses),
    )


def _dense(forms: list[Terms], size: int) -> Floats:
    matrix = np.zeros((len(forms), size))
    for row, form in zip(matrix, forms, strict=True):
        for index, coefficient in form:
            row[index] = nearest(coefficient)
    return matrix


def nearest(number: Fraction) -> float:
    """The float64 nearest to a rational; infinite where it is out of range."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
