"""Clip."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import Elementwise, Floats


@dataclasses.dataclass(frozen=True)
class Clip(Elementwise):
    """The nearest value from ``least`` to ``most``, which may be infinite; exact, but for rounding of these."""

    least: float
    most: float

    def __call__(self, values: Floats) -> Floats:
        """The function."""
        return values.clip(self.least, self.most)

    def slope(self, values: Floats) -> Floats:
        """One inside."""
        return ((values > self.least) & (values < self.most)).astype(np.float64)


def read_clip(application: Application) -> list[Clip]:
    """Clip between constants: attributes up to opset 10, operands from 11; either may be left out."""
    application.only(0)
    least, most = _bound(application, 1, "min", -np.inf), _bound(application, 2, "max", np.inf)
    if not least <= most:
        raise NodeError(f"clips to [{least}, {most}]; expected numbers in order")
    return [Clip(least, most)]


def _bound(application: Application, position: int, name: str, default: float) -> float:
    operand = application.constant(position)
    if operand is None:
        return float(application.attributes.get(name, default))
    if operand.size != 1 or operand.dtype not in (np.float32, np.float64):
        raise NodeError(f"has a bound of shape {operand.shape} and type {operand.dtype}; expected one number")
    return float(operand.reshape(-1)[0])
