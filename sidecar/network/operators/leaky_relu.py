"""LeakyRelu."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import Elementwise, Floats


@dataclasses.dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """``h`` where it is positive, else ``alpha * h``; ``0 <= alpha <= 1``."""

    alpha: float

    def __call__(self, values: Floats) -> Floats:
        """The function."""
        return np.where(values > 0.0, values, self.alpha * values)

    def slope(self, values: Floats) -> Floats:
        """One where positive, else ``alpha``."""
        return np.where(values > 0.0, 1.0, self.alpha)


def read_leaky_relu(application: Application) -> list[LeakyRelu]:
    """LeakyRelu that is convex."""
    application.only()
    alpha = float(application.attributes.get("alpha", np.float32(0.01)))
    if not 0.0 <= alpha <= 1.0:
        raise NodeError(f"has alpha = {alpha}; expected a number from 0 to 1")
    return [LeakyRelu(alpha)]
