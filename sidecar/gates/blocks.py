"""Bounded memory: rows are judged in blocks, however many a request holds."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 1 << 20
"""Intermediate values held at once (8 MiB of float64), whatever the batch; a single row may take more."""


def in_blocks(
    rows: int, width: int, judge: Callable[[slice], npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """``judge`` over consecutive slices of the rows, its results joined along axis 0.

    Args:
        rows: how many there are.
        width: intermediate values per row.
    """
    step = max(1, BLOCK_VALUES // width)
    if rows <= step:
        return judge(slice(0, rows))
    return np.concatenate([judge(slice(start, start + step)) for start in range(0, rows, step)])
