"""An ONNX node as a reading rule sees it, and what rules have in common.

A rule takes an :class:`Application` to the steps that it means, one after the other: the first one's operands are the
node's computed tensors, each later one's is the step before. Source: the operator reference of the ONNX specification,
opsets 7 to 25.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.network.operators.operation import Floats, Shape

Constant: TypeAlias = npt.NDArray[Any]
"""A constant of the model file, in its own dtype."""


class NodeError(Exception):
    """A node cannot be understood; the message says got and expected, the reader adds where."""


@dataclasses.dataclass(frozen=True)
class Flow:
    """A tensor computed from the model's input.

    Args:
        place: which tensor of the graph it is.
        shape: its shape; the first dimension is 1 when it counts rows (``batched``).
        batched: the first dimension is symbolic and must go through the model untouched.
    """

    place: int
    shape: Shape
    batched: bool

    @property
    def size(self) -> int:
        """Number of values in one row."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Application:
    """One operator applied to computed tensors and constants.

    Args:
        attributes: the node's attributes by name, strings as bytes.
        operands: by position; None for one left out.
        opset: version of the standard operator set.
    """

    attributes: Mapping[str, Any]
    operands: tuple[Flow | Constant | None, ...]
    opset: int

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The computed operands, in their order; at least one."""
        return tuple(operand for operand in self.operands if isinstance(operand, Flow))

    @property
    def flow(self) -> Flow:
        """The computed operand, where there is exactly one."""
        return self.flows[0]

    @property
    def position(self) -> int:
        """Where the first computed operand stands."""
        return next(index for index, operand in enumerate(self.operands) if isinstance(operand, Flow))

    def only(self, position: int | None = None) -> Flow:
        """The one computed operand. Raises NodeError where there are several, or it stands elsewhere."""
        if len(self.flows) != 1:
            raise NodeError(f"combines {len(self.flows)} computed tensors; expected one, and constants")
        if position is not None and not isinstance(self.operand(position), Flow):
            raise NodeError(f"computes with operand {self.position}; expected a constant there")
        return self.flow

    def operand(self, position: int) -> Flow | Constant | None:
        """An operand, None where there is none."""
        return self.operands[position] if position < len(self.operands) else None

    def constant(self, position: int) -> Constant | None:
        """The constant operand at a position, None where there is none."""
        operand = self.operand(position)
        return None if isinstance(operand, Flow) else operand

    def floats(self, position: int) -> Floats:
        """The constant operand at a position in float64, where it cannot be left out."""
        constant = self.constant(position)
        if constant is None:
            raise NodeError(f"needs a constant as operand {position}")
        return floats(constant)

    def integers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that lists integers."""
        return [int(value) for value in self.attributes.get(name, default)]

    def flag(self, name: str) -> bool:
        """An attribute that is zero or one, zero unless given."""
        return bool(self.attributes.get(name, 0))


Rule: TypeAlias = Callable[[Application], list[Any]]


def floats(constant: Constant) -> Floats:
    """A constant's numbers in float64, exactly. Raises NodeError unless they are finite floating-point numbers."""
    if constant.dtype not in (np.float32, np.float64):
        raise NodeError(f"has a constant of type {constant.dtype}; expected float32 or float64")
    if not np.isfinite(constant).all():
        raise NodeError("has a constant that is NaN or infinite; expected finite weights")
    return constant.astype(np.float64)


def one_flow(application: Application) -> tuple[Flow, Floats, int]:
    """Of an operator with two operands the computed one, the constant one, and where the computed one stands."""
    flow = application.only()
    position = application.position
    constant = application.constant(1 - position) if position < 2 else None
    if constant is None:
        raise NodeError("needs one constant operand")
    return flow, floats(constant), position


def broadcast_constant(application: Application) -> tuple[Flow, Floats, int]:
    """As :func:`one_flow`, for operators that broadcast; a constant of higher rank would put dimensions before the
    batch.
    """
    flow, constant, position = one_flow(application)
    if flow.batched and constant.ndim > len(flow.shape):
        raise NodeError(f"has a constant of shape {constant.shape}, which reaches beyond the batch dimension")
    return flow, constant, position


def normal_axis(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises NodeError where the tensor has none such."""
    if not -rank <= axis < rank:
        raise NodeError(f"has axis {axis} for rank {rank}")
    return axis % rank
