"""Reshape, Flatten, Squeeze and Unsqueeze: the same values in another shape; Identity and Dropout: no change at all."""

import dataclasses
import math
from collections.abc import Sequence

from sidecar.network.operators.application import Application, Flow, NodeError, normal_axis
from sidecar.network.operators.operation import AffineMap, Floats, Shape


@dataclasses.dataclass(frozen=True)
class Reshape(AffineMap):
    """The same values, another shape."""

    target: Shape

    @property
    def operations(self) -> int:
        """Nothing is computed."""
        return 0

    def shape(self, *shapes: Shape) -> Shape:
        """The target."""
        return self.target

    def linear(self, *tensors: Floats) -> Floats:
        """The values."""
        return tensors[0].reshape(len(tensors[0]), *self.target)

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The form."""
        return (form.reshape(len(form), *shapes[0]),)


def _reshaped(flow: Flow, shape: Shape) -> list[Reshape]:
    """The batch dimension stays first and alone."""
    if math.prod(shape) != flow.size:
        raise NodeError(f"gives shape {shape} to a tensor of shape {flow.shape}; the sizes differ")
    if flow.batched and (not shape or shape[0] != 1):
        raise NodeError(f"gives shape {shape} to a single row, so it mixes the batch with other dimensions")
    return [Reshape(shape)]


def read_identity(application: Application) -> list[Reshape]:
    """Identity."""
    application.only()
    return []


def read_dropout(application: Application) -> list[Reshape]:
    """Dropout, which changes nothing outside training."""
    application.only(0)
    training = application.constant(2)
    if training is not None and training.any():
        raise NodeError("is in training mode; expected inference")
    return []


def read_flatten(application: Application) -> list[Reshape]:
    """Flatten to a matrix."""
    flow = application.only()
    axis = int(application.attributes.get("axis", 1))
    if not -len(flow.shape) <= axis <= len(flow.shape):
        raise NodeError(f"has axis {axis} for a tensor of shape {flow.shape}")
    axis += len(flow.shape) if axis < 0 else 0
    if flow.batched and axis != 1:
        raise NodeError(f"has axis {axis} on a batch; expected 1, which keeps the rows apart")
    return _reshaped(flow, (math.prod(flow.shape[:axis]), math.prod(flow.shape[axis:])))


def read_reshape(application: Application) -> list[Reshape]:
    """Reshape to a constant shape."""
    flow, target = application.only(), application.constant(1)
    if application.position != 0 or target is None or target.ndim != 1:
        raise NodeError("needs a constant shape as its second operand")
    wanted = [int(size) for size in target]
    if application.flag("allowzero") and 0 in wanted:
        raise NodeError(f"asks for an empty tensor, shape {wanted}")
    if flow.batched and (not wanted or wanted[0] not in (0, -1)):
        raise NodeError(f"asks for shape {wanted} on a batch; expected 0 or -1 in front, which keeps the rows apart")
    return _reshaped(flow, _resolved(wanted, flow))


def _resolved(wanted: list[int], flow: Flow) -> Shape:
    """A Reshape's target with 0 (copied) and -1 (whatever is left) replaced by numbers."""
    if any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        raise NodeError(f"asks for shape {wanted}; expected sizes, 0 for a copied one and at most one -1")
    if any(size == 0 and index >= len(flow.shape) for index, size in enumerate(wanted)):
        raise NodeError(f"copies a dimension that a tensor of shape {flow.shape} does not have, shape {wanted}")
    sizes = [flow.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    known = math.prod(size for size in sizes if size != -1)
    return tuple(flow.size // known if size == -1 else size for size in sizes)


def _axes(application: Application) -> list[int] | None:
    """The axes of Squeeze or Unsqueeze: an attribute up to opset 12, an operand from 13."""
    if application.position != 0 or len(application.flows) > 1:
        raise NodeError("has computed axes; expected constant ones")
    operand = application.constant(1)
    if operand is not None:
        return [int(axis) for axis in operand.reshape(-1)]
    axes = application.attributes.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


def read_squeeze(application: Application) -> list[Reshape]:
    """Squeeze."""
    flow, axes = application.flow, _axes(application)
    if axes is None:
        if flow.batched:
            raise NodeError("squeezes every dimension of size one, a batch of one row too; expected axes")
        axes = [index for index, size in enumerate(flow.shape) if size == 1]
    gone = {normal_axis(axis, len(flow.shape)) for axis in axes}
    if any(flow.shape[axis] != 1 for axis in gone) or (flow.batched and 0 in gone):
        raise NodeError(f"squeezes axes {sorted(gone)} of a tensor of shape {flow.shape}; expected size one")
    return _reshaped(flow, tuple(size for index, size in enumerate(flow.shape) if index not in gone))


def read_unsqueeze(application: Application) -> list[Reshape]:
    """Unsqueeze."""
    flow, axes = application.flow, _axes(application)
    if axes is None:
        raise NodeError("needs axes")
    rank = len(flow.shape) + len(axes)
    new = {normal_axis(axis, rank) for axis in axes}
    if len(new) != len(axes) or (flow.batched and 0 in new):
        raise NodeError(
            f"inserts axes {axes} into a tensor of shape {flow.shape}; expected distinct ones after the batch"
        )
    old = iter(flow.shape)
    return _reshaped(flow, tuple(1 if index in new else next(old) for index in range(rank)))
