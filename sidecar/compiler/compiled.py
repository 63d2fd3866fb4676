"""The compiled step, from a cache on disk where there is one.

Compiling takes tens of seconds, loading a fraction of one. The cache is keyed by the sources of all kernels (numba itself
looks at the file of one function only), kept in ``NUMBA_CACHE_DIR`` or else in the user's cache folder. Where
neither can be written to, each process compiles for itself.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numba
import numba.core.caching

from sidecar.compiler import bounds, flat, kernel_step, kernels, lanes, rounding

_SOURCES: Final = (lanes, kernels, kernel_step, flat, bounds, rounding)


@functools.cache
def compiled_step() -> Callable[..., None]:
    """``kernel_step.step`` as machine code; compiled at its first call where no cache has it."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(kernel_step.step)
    folder = _folder()
    if folder is not None:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
        try:
            dispatcher.enable_caching()
        finally:
            numba.config.CACHE_DIR = before
    step: Callable[..., None] = dispatcher
    return step


def _folder() -> Path | None:
    """Where this version of the kernels is cached; None where nothing can be written."""
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or _user_cache() / "gate-sidecar")
    folder = root / f"kernels-{_digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def _digest() -> str:
    content = b"".join(Path(str(module.__file__)).read_bytes() for module in _SOURCES)
    return hashlib.sha256(content).hexdigest()[:16]
