"""AveragePool and GlobalAveragePool: the mean of what each window sees."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application
from sidecar.network.operators.operation import AffineMap, Floats, Shape
from sidecar.network.operators.scale import Scale
from sidecar.network.operators.windows import Windows, by_image, read_pool, spatial_of


@dataclasses.dataclass(frozen=True, eq=False)
class WindowSum(AffineMap):
    """The sum of what each window of (n, channel, *spatial) sees: an operation by itself, for a server that adds up
    before it divides meets that number, which may be too large for its format where the mean is not.
    """

    windows: Windows

    @property
    def operations(self) -> int:
        """The terms."""
        return math.prod(self.windows.kernel)

    def shape(self, *shapes: Shape) -> Shape:
        """(n, channel, *window)."""
        return (*shapes[0][:2], *self.windows.places(shapes[0][2:]))

    def linear(self, *tensors: Floats) -> Floats:
        """The sums."""
        sums: Floats = self.windows.unfold(by_image(tensors[0])).sum(axis=2)
        return sums.reshape(*tensors[0].shape[:2], *sums.shape[1:])

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """Each window's coefficient to all that it sees."""
        shared = by_image(form)[:, :, None]
        seen = np.broadcast_to(shared, (*shared.shape[:2], self.operations, *shared.shape[3:]))
        return (self.windows.fold(seen, shapes[0][2:]).reshape(form.shape[0], *shapes[0]),)


def read_average_pool(application: Application) -> list[WindowSum | Scale]:
    """AveragePool; padding counts where ``count_include_pad`` says so."""
    windows, spatial = read_pool(application)
    counted = windows.unfold(np.ones((1, 1, *spatial)), float(application.flag("count_include_pad"))).sum(axis=2)[0, 0]
    return _means(windows, np.maximum(counted, 1.0))


def read_global_average_pool(application: Application) -> list[WindowSum | Scale]:
    """GlobalAveragePool: one window that sees all."""
    spatial = spatial_of(application)
    ones, zeros = (1,) * len(spatial), (0,) * len(spatial)
    return _means(Windows(spatial, ones, ones, zeros, zeros), np.full(ones, float(math.prod(spatial))))


def _means(windows: Windows, counted: Floats) -> list[WindowSum | Scale]:
    """Sums, then a division by the number of places that count, float64 (*window), or a product with its reciprocal."""
    return [WindowSum(windows), Scale(1.0 / counted, operations=4)]
