"""MaxPool: the largest of what each window sees."""

import dataclasses

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import Floats, Shape
from sidecar.network.operators.windows import Windows, by_image, read_pool


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """The largest value that each window of (n, channel, *spatial) sees; padding is not looked at."""

    windows: Windows

    def shape(self, *shapes: Shape) -> Shape:
        """(n, channel, *window)."""
        return (*shapes[0][:2], *self.windows.places(shapes[0][2:]))

    def seen(self, tensor: Floats, padding: float = -np.inf) -> Floats:
        """What each window sees: (row * n, channel, place in the window, *window)."""
        return self.windows.unfold(by_image(tensor), padding)

    def __call__(self, tensor: Floats) -> Floats:
        """The largest values."""
        largest: Floats = self.seen(tensor).max(axis=2)
        return largest.reshape(*tensor.shape[:2], *largest.shape[1:])


def read_max_pool(application: Application) -> list[MaxPool]:
    """MaxPool with one result."""
    windows, spatial = read_pool(application)
    if (windows.unfold(np.zeros((1, 1, *spatial)), -np.inf).max(axis=2) < 0.0).any():
        raise NodeError("has windows that see nothing but padding; expected less padding")
    return [MaxPool(windows)]
