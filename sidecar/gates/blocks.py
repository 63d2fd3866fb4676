"""Bounded memory: rows are judged in blocks, however many a request holds."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sidecar.gates.limits import BLOCK_VALUES


def in_blocks(rows: int, width: int, judge: Callable[[slice], npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    """Judge consecutive slices of the rows, and join the results.

    Args:
        rows: how many there are.
        width: intermediate values per row.
        judge: gets a slice of the rows, gives one result per row along axis 0.
    """
    step = max(1, BLOCK_VALUES // width)
    if rows <= step:
        return judge(slice(0, rows))
    return np.concatenate([judge(slice(start, start + step)) for start in range(0, rows, step)])
