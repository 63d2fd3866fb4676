"""Steps along gradients, of Adam's kind. Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014)."""

import numpy as np

from sidecar.compiler.rounding import Floats

_FIRST, _SECOND, _LITTLE = 0.9, 0.999, 1e-12
"""Adam's constants."""


class Climb:
    """Steps of unit length."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._first, self._second, self._count = np.zeros(shape), np.zeros(shape), 0

    def step(self, gradient: Floats) -> Floats:
        """The next step; what is no number counts as zero."""
        gradient, self._count = np.nan_to_num(gradient), self._count + 1
        self._first = _FIRST * self._first + (1.0 - _FIRST) * gradient
        self._second = _SECOND * self._second + (1.0 - _SECOND) * gradient**2
        first, second = self._first / (1.0 - _FIRST**self._count), self._second / (1.0 - _SECOND**self._count)
        return np.asarray(first / (np.sqrt(second) + _LITTLE))
