"""The compiled step, from a cache on disk where there is one.

Compiling takes tens of seconds, loading a fraction of one. The cache is keyed by the sources of all kernels (numba
itself looks at the file of one function only), kept in ``NUMBA_CACHE_DIR`` or else in the user's cache folder. Where
that cannot be written to, each process compiles for itself. ``python -m sidecar.compiler.compiled`` fills it.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np

from sidecar.bundle.values import Arithmetic
from sidecar.compiler import bounds, flat, jit, kernel_step, kernels, lanes, rounding
from sidecar.gates.values import Literal, Requirement
from sidecar.network.values import Affine, Network
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

_SOURCES: Final = (jit, lanes, kernels, kernel_step, flat, bounds, rounding)


@functools.cache
def compiled_step() -> Callable[..., None]:
    """``kernel_step.step`` as machine code; compiled at its first call where no cache has it."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(kernel_step.step)
    folder = _folder()
    if folder is not None:
        config: Any = numba.config
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            dispatcher.enable_caching()
        finally:
            config.CACHE_DIR = before
    step: Callable[..., None] = dispatcher
    return step


def _folder() -> Path | None:
    """Where this version of the kernels is cached; None where nothing can be written."""
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or _user_cache() / "gate-sidecar")
    folder = root / f"kernels-{kernels_digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def kernels_digest() -> str:
    """Of the sources of all kernels."""
    content = b"".join(Path(str(module.__file__)).read_bytes() for module in _SOURCES)
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def load_kernels() -> None:
    """Compile, or load, the step for the types that all searches share. Before the clock of a time limit runs: with
    nothing cached it takes longer than many limits are.
    """
    one = Affine(np.ones((1, 1)), np.zeros(1), 2)
    tensors = TensorSpec("x", Datatype.FP32, (1,)), TensorSpec("y", Datatype.FP32, (1,))
    network = Network(ModelSignature(tensors[:1], tensors[1:], None), (one,))
    positive = Literal(((0, Fraction(1)),), (), Fraction(0), True)
    prepared = bounds.prepare(network, Requirement(((positive,),)), Arithmetic.IEEE32)
    problem = flat.flat_problem(prepared, np.ones(1, dtype=np.bool_), np.ones(1))
    room = kernels.new_work(problem), kernel_step.new_forms(problem)
    box = np.ones((1, 1))
    batch = flat.flat_step(problem, box, box, np.zeros((1, 0), dtype=np.int8), np.ones(1, dtype=np.bool_))
    compiled_step()(problem, *room, batch, 0, 1, True)


if __name__ == "__main__":
    load_kernels()
