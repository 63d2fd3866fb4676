"""Matrix products that BLAS does not share out among threads."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_BLAS_ALONE: Final = 2**18
"""Multiplications in one matrix product up to which OpenBLAS stays on one thread."""


def product(rows: Floats, matrix: Floats) -> Floats:
    """``rows @ matrix``, (row, in) and (in, out), in slices of rows that are too small to be shared out.

    For the small matrices of a search sharing costs more than it gains (a factor of 20 was seen), and it would let the
    last bit depend on the number of processors.
    """
    step = max(1, _BLAS_ALONE // matrix.size)
    result = np.empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), step):
        np.matmul(rows[start : start + step], matrix, out=result[start : start + step])
    return result
