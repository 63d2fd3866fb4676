"""AveragePool and GlobalAveragePool: the mean of what each window sees."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape
from sidecar.network.operators.windows import Windows, by_image, read_pool, spatial_of


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePool(AffineMap):
    """The sum of what each window of (n, channel, *spatial) sees, times a number for each window.

    Args:
        windows: where it looks.
        share: float64 (*window); one over how many places are counted, rounded.
    """

    windows: Windows
    share: Floats

    @property
    def operations(self) -> int:
        """The sum, and a division or a product with a rounded reciprocal."""
        return math.prod(self.windows.kernel) + 4

    def shape(self, *shapes: Shape) -> Shape:
        """(n, channel, *window)."""
        return (*shapes[0][:2], *self.windows.places(shapes[0][2:]))

    def linear(self, *tensors: Floats) -> Floats:
        """The means."""
        means: Floats = self.windows.unfold(by_image(tensors[0])).sum(axis=2) * self.share
        return means.reshape(*tensors[0].shape[:2], *means.shape[1:])

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """Each window's share to all that it sees."""
        shared = by_image(form * self.share)[:, :, None]
        seen = np.broadcast_to(shared, (*shared.shape[:2], math.prod(self.windows.kernel), *shared.shape[3:]))
        return (self.windows.fold(seen, shapes[0][2:]).reshape(form.shape[0], *shapes[0]),)

    def mapped(self, change: Change) -> "AveragePool":
        """With other shares; what is summed up unweighted counts as a product with one."""
        return dataclasses.replace(self, share=change(self.share))


def read_average_pool(application: Application) -> list[AveragePool]:
    """AveragePool; padding counts where ``count_include_pad`` says so."""
    windows, spatial = read_pool(application)
    counted = windows.unfold(np.ones((1, 1, *spatial)), float(application.flag("count_include_pad"))).sum(axis=2)[0, 0]
    return [AveragePool(windows, 1.0 / np.maximum(counted, 1.0))]


def read_global_average_pool(application: Application) -> list[AveragePool]:
    """GlobalAveragePool: one window that sees all."""
    spatial = spatial_of(application)
    ones, zeros = (1,) * len(spatial), (0,) * len(spatial)
    return [AveragePool(Windows(spatial, ones, ones, zeros, zeros), np.full(ones, 1.0 / math.prod(spatial)))]
