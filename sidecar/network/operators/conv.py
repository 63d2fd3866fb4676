"""Conv: convolution, in any number of dimensions, with strides, padding, dilations and groups."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape
from sidecar.network.operators.windows import Windows, by_image, read_windows, spatial_of
from sidecar.network.products import stacked


@dataclasses.dataclass(frozen=True, eq=False)
class Conv(AffineMap):
    """A convolution of (n, channel, *spatial) by matrix products over what the windows see.

    Args:
        weight: float64 (group, out channel of the group, in channel of the group * place in the window).
        added: float64 (out channel,), or None for nothing.
        windows: where it looks.
    """

    weight: Floats
    added: Floats | None
    windows: Windows

    @property
    def operations(self) -> int:
        """One for each product, and for the bias."""
        return int(self.weight.shape[2]) + (self.added is not None)

    def shape(self, *shapes: Shape) -> Shape:
        """(n, out channel, *windows)."""
        (images, channels, *spatial), (groups, out, seen) = shapes[0], self.weight.shape
        if channels * math.prod(self.windows.kernel) != groups * seen:
            raise ValueError(f"{channels} channels, where the weights are for {groups * seen} values in a window")
        return (images, groups * out, *self.windows.places(tuple(spatial)))

    def linear(self, *tensors: Floats) -> Floats:
        """The convolution."""
        groups, out, inner = self.weight.shape
        seen = self.windows.unfold(by_image(tensors[0]))
        result = stacked(self.weight, seen.reshape(len(seen), groups, inner, -1))
        return result.reshape(*tensors[0].shape[:2], groups * out, *seen.shape[3:])

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The transposed convolution."""
        groups, out, _ = self.weight.shape
        channels, spatial = shapes[0][1], shapes[0][2:]
        images = by_image(form).reshape(form.shape[0] * form.shape[1], groups, out, -1)
        seen = stacked(np.swapaxes(self.weight, 1, 2), images)
        seen = seen.reshape(len(images), channels, math.prod(self.windows.kernel), *form.shape[3:])
        return (self.windows.fold(seen, spatial).reshape(form.shape[0], *shapes[0]),)

    def bias(self, shape: Shape) -> Floats | None:
        """Each channel's number."""
        if self.added is None:
            return None
        return np.broadcast_to(self.added.reshape(-1, *(1,) * (len(shape) - 2)), shape)

    def mapped(self, change: Change) -> "Conv":
        """With other weights."""
        added = None if self.added is None else change(self.added)
        return dataclasses.replace(self, weight=change(self.weight), added=added)


def read_conv(application: Application) -> list[Conv]:
    """Conv with constant weights."""
    spatial, weight, flow = spatial_of(application), application.floats(1), application.flow
    added = None if application.operand(2) is None else application.floats(2)
    groups = int(application.attributes.get("group", 1))
    kernel = tuple(application.integers("kernel_shape", [*weight.shape[2:]]))
    fits = weight.ndim == len(flow.shape) and kernel == weight.shape[2:] and groups >= 1
    if not fits or weight.shape[0] % groups or weight.shape[1] * groups != flow.shape[1]:
        raise NodeError(
            f"has weights of shape {weight.shape} in {groups} groups, kernel {kernel}, for a tensor of shape"
            f" {flow.shape}; they do not fit"
        )
    if added is not None and added.shape != weight.shape[:1]:
        raise NodeError(f"has a bias of shape {added.shape}; expected {weight.shape[:1]}")
    windows = read_windows(application, kernel, spatial)
    return [Conv(weight.reshape(groups, weight.shape[0] // groups, -1), added, windows)]
