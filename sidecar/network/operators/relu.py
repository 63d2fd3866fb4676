"""Relu."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application
from sidecar.network.operators.operation import Elementwise, Floats


@dataclasses.dataclass(frozen=True)
class Relu(Elementwise):
    """``h`` where it is positive, else zero; exact in any arithmetic."""

    def __call__(self, values: Floats) -> Floats:
        """The function."""
        return np.maximum(values, 0.0)

    def slope(self, values: Floats) -> Floats:
        """One where positive."""
        return (values > 0.0).astype(np.float64)


def read_relu(application: Application) -> list[Relu]:
    """Relu."""
    application.only()
    return [Relu()]
