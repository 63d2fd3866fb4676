"""Sigmoid."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application
from sidecar.network.operators.operation import Elementwise, Floats


@dataclasses.dataclass(frozen=True)
class Sigmoid(Elementwise):
    """``1 / (1 + exp(-h))``, in half tangents, which do not overflow."""

    def __call__(self, values: Floats) -> Floats:
        """The function."""
        return 0.5 + 0.5 * np.tanh(0.5 * values)

    def slope(self, values: Floats) -> Floats:
        """The derivative."""
        result = self(values)
        return result * (1.0 - result)


def read_sigmoid(application: Application) -> list[Sigmoid]:
    """Sigmoid."""
    application.only()
    return [Sigmoid()]
