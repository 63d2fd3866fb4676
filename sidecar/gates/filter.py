"""The float64 filter: decides most literals on whole arrays of rows, and never wrongly.

For a literal with n terms (the constant among them) let ``V = sum c_k z_k`` be its real value, ``v`` the float64
sum of the float64 products of the rounded coefficients, and ``s`` the float64 sum of the products' magnitudes. With
``u = 2**-53``, and in any order of summation,

    |v - V| <= gamma(2 n + 8) * s + (2 n + 8 + sum |c_k|) * 2**-1022

where the first term collects, per product, the coefficient's rounding and the product's; n - 1 additions; the
n - 1 additions inside s; and the rounding of the bound itself. The second covers underflow, flush-to-zero included.
A coefficient outside float64's normal range makes the bound NaN, and so does overflow: NaN decides nothing.

Some literals need no bound: one or two terms whose products are exact (a value of FP16, BF16, FP32 or an integer
datatype times plus or minus one, or a float64 constant): the sign of a sum of two float64 numbers is always right.
Comparisons of two scores and of a score with a constant are of this kind, so ties among them are decided here.

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 4.2.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sidecar.gates.values import Literal
from sidecar.numerics import SMALLEST_NORMAL_64, gamma, round_to_datatype, smallest_not_below
from sidecar.tensors import Datatype, ModelSignature, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class LiteralTable:
    """Literals as flat arrays, over the columns of an extended row (:mod:`sidecar.gates.prepare`).

    Args:
        offsets: int64 (literal + 1,); literal i has the terms ``[offsets[i], offsets[i + 1])``, never none.
        columns: int64 (term,).
        coefficients: float64 (term,); rounded to nearest.
        strict: bool (literal,).
        relative: float64 (literal,); factor of the sum of magnitudes in the error bound; 0 where the sign is exact.
        absolute: float64 (literal,); absolute part of the error bound; NaN where the filter must not decide.
    """

    offsets: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    coefficients: npt.NDArray[np.float64]
    strict: npt.NDArray[np.bool_]
    relative: npt.NDArray[np.float64]
    absolute: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _ErrorBound:
    relative: float
    absolute: float


def literal_table(literals: Sequence[Literal], signature: ModelSignature) -> LiteralTable:
    """Literals whose indices fit the signature, as arrays. An empty sequence gives empty arrays."""
    rows = [_extended_terms(literal, signature.input_size) for literal in literals]
    datatypes = (None, *signature.input_datatypes(), *signature.output_datatypes())
    bounds = [_error_bound(row, datatypes) for row in rows]
    terms = [term for row in rows for term in row]
    return LiteralTable(
        offsets=np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64),
        columns=np.array([column for column, _ in terms], dtype=np.int64),
        coefficients=np.array([_nearest(coefficient) for _, coefficient in terms], dtype=np.float64),
        strict=np.array([literal.strict for literal in literals], dtype=np.bool_),
        relative=np.array([bound.relative for bound in bounds], dtype=np.float64),
        absolute=np.array([bound.absolute for bound in bounds], dtype=np.float64),
    )


def filter_literals(table: LiteralTable, extended: Rows) -> npt.NDArray[np.bool_]:
    """What is known of each literal on each row.

    Args:
        table: at least one literal.
        extended: float64 (row, column); any values, the non-finite ones decide nothing.

    Returns:
        bool (2, row, literal): ``[0]`` certainly holds, ``[1]`` possibly holds. Exact evaluation lies between.
    """
    terms = np.empty((2, len(extended), len(table.columns)))
    known = np.empty((2, len(extended), len(table.strict)), dtype=np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(extended[:, table.columns], table.coefficients, out=terms[0])
        np.abs(terms[0], out=terms[1])
        # One call for both: the same order of summation, so that v cannot overflow where s does not.
        value, magnitude = np.add.reduceat(terms, table.offsets[:-1], axis=2)
        error = table.relative * magnitude + table.absolute
        error += magnitude - magnitude  # NaN on overflow
        known[0] = np.where(table.strict, value > error, value >= error)
        known[1] = ~np.where(table.strict, value <= -error, value < -error)
    return known


def _extended_terms(literal: Literal, input_size: int) -> list[tuple[int, Fraction]]:
    """(column, coefficient) pairs; the constant only where it is not zero or nothing else is there."""
    terms = [(1 + index, value) for index, value in literal.inputs]
    terms += [(1 + input_size + index, value) for index, value in literal.outputs]
    return [(0, literal.offset), *terms] if literal.offset or not terms else terms


def _error_bound(terms: list[tuple[int, Fraction]], datatypes: Sequence[Datatype | None]) -> _ErrorBound:
    if any(value and not _is_normal(value) for _, value in terms):
        return _ErrorBound(relative=0.0, absolute=np.nan)
    if len(terms) <= 2 and all(_product_is_exact(value, datatypes[column]) for column, value in terms):
        return _ErrorBound(relative=0.0, absolute=0.0)
    operations = 2 * len(terms) + 8
    weight = operations + sum(abs(Fraction(_nearest(value))) for _, value in terms)
    absolute = weight * Fraction(SMALLEST_NORMAL_64)
    return _ErrorBound(gamma(operations), smallest_not_below(absolute, Datatype.FP64))


def _is_normal(value: Fraction) -> bool:
    """Whether a nonzero coefficient rounds to float64 with a relative error of at most u."""
    return Fraction(SMALLEST_NORMAL_64) <= abs(value) <= Fraction(np.finfo(np.float64).max)


def _product_is_exact(coefficient: Fraction, datatype: Datatype | None) -> bool:
    """Whether coefficient times column is free of rounding, flush-to-zero included; None is the constant column."""
    if datatype is None:
        return Fraction(_nearest(coefficient)) == coefficient
    return abs(coefficient) == 1 and datatype is not Datatype.FP64


def _nearest(coefficient: Fraction) -> float:
    """The float64 nearest to a coefficient; zero where there is none (its error bound is NaN then)."""
    try:
        return round_to_datatype(coefficient, Datatype.FP64)
    except OverflowError:
        return 0.0
