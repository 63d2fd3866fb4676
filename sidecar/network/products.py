"""Matrix products that BLAS does not share out among threads."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_BLAS_ALONE: Final = 2**18
"""Multiplications in one matrix product up to which OpenBLAS stays on one thread."""

_SHORTEST: Final = 16
"""Rows or columns of a product that is cut to be small enough, where its other sizes leave that much."""


def product(rows: Floats, matrix: Floats) -> Floats:
    """``rows @ matrix``, (row, in) and (in, out), in slices of rows that are too small to be shared out.

    For the small matrices of a search sharing costs more than it gains (a factor of 20 was seen), and it would let the
    last bit depend on the number of processors.
    """
    step = _BLAS_ALONE // max(1, matrix.size)
    if step < _SHORTEST < len(rows):
        turned: Floats = stacked(matrix.T[None], rows.T[None, None])[0, 0].T
        return turned
    step = max(1, step)
    result = np.empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), step):
        np.matmul(rows[start : start + step], matrix, out=result[start : start + step])
    return result


def stacked(matrices: Floats, columns: Floats) -> Floats:
    """``matrices @ columns``, (group, out, in) and (n, group, in, column), likewise in slices."""
    count, groups, inner, width = columns.shape
    result = np.empty((count, groups, matrices.shape[1], width))
    narrow = min(width, max(1, _BLAS_ALONE // (inner * _SHORTEST)))
    step = max(1, _BLAS_ALONE // (inner * narrow))
    for start in range(0, matrices.shape[1], step):
        part = np.ascontiguousarray(matrices[:, start : start + step])
        for left in range(0, width, narrow):
            here = slice(left, left + narrow)
            result[:, :, start : start + step, here] = part @ columns[..., here]
    return result
