"""The windows that convolutions and pools look through."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np

from sidecar.network.operators.application import Application, NodeError
from sidecar.network.operators.operation import Floats, Shape

_MOST_SPATIAL = 2**26
"""Places of a padded tensor along its spatial dimensions together; what is larger is refused."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Positions of a window, each entry per spatial dimension.

    Args:
        kernel: how many places a window has. strides, dilations: as ONNX has them.
        before, after: padding.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    before: Shape
    after: Shape

    def places(self, spatial: Shape) -> Shape:
        """How many windows fit. Raises ValueError where none does."""
        if len(spatial) != len(self.kernel):
            raise ValueError(f"a window of shape {self.kernel} over dimensions {spatial}")
        reach = ((size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True))
        room = self._padded(spatial)
        result = tuple((s - r) // stride + 1 for s, r, stride in zip(room, reach, self.strides, strict=True))
        if min(result) < 1:
            raise ValueError(f"no window of shape {self.kernel} fits into dimensions {spatial}, padded to {room}")
        return result

    def unfold(self, tensor: Floats, padding: float = 0.0) -> Floats:
        """What each window sees: (n, channel, *spatial) to (n, channel, place in the window, *window)."""
        spatial = tensor.shape[2:]
        places = self.places(spatial)
        padded = np.full((*tensor.shape[:2], *self._padded(spatial)), padding)
        padded[self._inside(spatial)] = tensor
        seen = np.empty((*tensor.shape[:2], math.prod(self.kernel), *places))
        for index, where in enumerate(self._looks(places)):
            seen[:, :, index] = padded[where]
        return seen

    def fold(self, seen: Floats, spatial: Shape) -> Floats:
        """The adjoint of :meth:`unfold`: (n, channel, place in the window, *window) to (n, channel, *spatial)."""
        padded = np.zeros((*seen.shape[:2], *self._padded(spatial)))
        for index, where in enumerate(self._looks(seen.shape[3:])):
            padded[where] += seen[:, :, index]
        return padded[self._inside(spatial)]

    def _padded(self, spatial: Shape) -> Shape:
        return tuple(sum(sizes) for sizes in zip(self.before, spatial, self.after, strict=True))

    def _inside(self, spatial: Shape) -> tuple[slice, ...]:
        inside = (slice(before, before + size) for before, size in zip(self.before, spatial, strict=True))
        return (slice(None), slice(None), *inside)

    def _looks(self, places: Shape) -> Iterator[tuple[slice, ...]]:
        """For each place in the window where it lies in the padded tensor, for all windows."""
        for offset in itertools.product(*map(range, self.kernel)):
            starts = (index * dilation for index, dilation in zip(offset, self.dilations, strict=True))
            seen = (
                slice(start, start + (count - 1) * stride + 1, stride)
                for start, count, stride in zip(starts, places, self.strides, strict=True)
            )
            yield slice(None), slice(None), *seen


def read_windows(application: Application, kernel: Shape, spatial: Shape) -> Windows:
    """The windows that a node's attributes describe, over a tensor's spatial dimensions."""
    rank = len(spatial)
    strides = tuple(application.integers("strides", [1] * rank))
    dilations = tuple(application.integers("dilations", [1] * rank))
    pads = application.integers("pads", [0] * (2 * rank))
    if not len(kernel) == len(strides) == len(dilations) == rank == len(pads) // 2 or rank == 0:
        raise NodeError(
            f"has kernel {kernel}, strides {strides}, dilations {dilations} and pads {pads} for {rank} dimensions"
        )
    if min((*kernel, *strides, *dilations)) < 1 or min(pads) < 0:
        raise NodeError(
            f"has kernel {kernel}, strides {strides}, dilations {dilations} and pads {pads}; expected positive ones,"
            " and pads of zero or more"
        )
    before, after = _padding(application, kernel, spatial, strides, dilations, pads)
    if math.prod(map(sum, zip(before, spatial, after, strict=True))) > _MOST_SPATIAL:
        raise NodeError(f"pads {spatial} by {before} and {after}, beyond {_MOST_SPATIAL} places")
    return Windows(kernel, strides, dilations, before, after)


def _padding(
    application: Application, kernel: Shape, spatial: Shape, strides: Shape, dilations: Shape, pads: list[int]
) -> tuple[Shape, Shape]:
    automatic = bytes(application.attributes.get("auto_pad", b"NOTSET")).decode()
    rank = len(spatial)
    if automatic == "NOTSET":
        return tuple(pads[:rank]), tuple(pads[rank:])
    if automatic == "VALID":
        return (0,) * rank, (0,) * rank
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise NodeError(f"has auto_pad {automatic!r}; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    missing = [
        max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        for size, stride, length, dilation in zip(spatial, strides, kernel, dilations, strict=True)
    ]
    less, more = tuple(each // 2 for each in missing), tuple(-(-each // 2) for each in missing)
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def spatial_of(application: Application) -> Shape:
    """The spatial dimensions of an image (n, channel, *spatial), which the node's first operand is."""
    flow = application.only(0)
    if len(flow.shape) < 3:
        raise NodeError(f"has an operand of shape {flow.shape}; expected (n, channels, spatial dimensions)")
    return flow.shape[2:]


def by_image(tensor: Floats) -> Floats:
    """(row, n, ...) as (row * n, ...)."""
    return tensor.reshape(-1, *tensor.shape[2:])


def read_pool(application: Application) -> tuple[Windows, Shape]:
    """A pool's windows, and the spatial dimensions of what they look at."""
    spatial = spatial_of(application)
    windows = read_windows(application, tuple(application.integers("kernel_shape", [])), spatial)
    windows.places(spatial)  # raises where they do not fit
    _refuse_ceiling(application, windows, spatial)
    return windows, spatial


def _refuse_ceiling(application: Application, windows: Windows, spatial: Shape) -> None:
    """Pools that round the number of windows up are understood where that makes no difference."""
    if not application.flag("ceil_mode"):
        return
    further = dataclasses.replace(
        windows, after=tuple(after + stride - 1 for after, stride in zip(windows.after, windows.strides, strict=True))
    )
    if further.places(spatial) != windows.places(spatial):
        raise NodeError(
            f"has ceil_mode = 1 with windows that reach beyond dimensions {spatial}; expected ceil_mode = 0"
        )
