"""Tanh."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application
from sidecar.network.operators.operation import Elementwise, Floats


@dataclasses.dataclass(frozen=True)
class Tanh(Elementwise):
    """The hyperbolic tangent."""

    def __call__(self, values: Floats) -> Floats:
        """The function."""
        return np.tanh(values)

    def slope(self, values: Floats) -> Floats:
        """The derivative."""
        return 1.0 - np.tanh(values) ** 2


def read_tanh(application: Application) -> list[Tanh]:
    """Tanh."""
    application.only()
    return [Tanh()]
