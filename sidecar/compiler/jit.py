"""How the kernels are compiled, with types that survive it.

``strict`` leaves every rounding where the source has it. ``in_any_order`` lets a sum be taken in any order and a
product and a sum be rounded once (``reassoc``, ``contract``); NaN, infinities and signed zeros are honoured there too.
Both are for functions that compiled ones call: wrappers for Python would take a third of the time of compiling.
"""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import numba
import numba.extending

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_INNER: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def strict(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compiled, each operation rounded as it stands."""
    compiled: Callable[Parameters, Result] = numba.njit(**_INNER)(function)
    return compiled


def in_any_order(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compiled, sums in any order, products and sums fused."""
    compiled: Callable[Parameters, Result] = numba.njit(**_INNER, fastmath={"contract", "reassoc"})(function)
    return compiled


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose machine code its body generates; called without the first parameter, the typing context."""
    generated: Callable[..., Any] = numba.extending.intrinsic(function)
    return generated
