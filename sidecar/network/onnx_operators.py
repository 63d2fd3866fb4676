"""What each supported ONNX operator means, as layers of a network.

A *flow* is a tensor computed from the model's input: its shape and the layers that lead to it. Each rule
takes one flow and constants to the next flow. A linear rule finds its exact matrix by applying the operator
to every unit tensor, where all products are with one or zero and therefore exact in float64. Source: the
operator reference of the ONNX specification, opsets 7 to 25.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.network.values import Affine, Layer, Relu

Constant: TypeAlias = npt.NDArray[Any]
"""A constant of the model file, in its own dtype."""

Floats: TypeAlias = npt.NDArray[np.float64]

_LIMIT_WEIGHTS = 2**26
"""Entries of one dense weight matrix (512 MiB of float64); beyond it a model is refused."""


class NodeError(Exception):
    """A node cannot be understood; the message says got and expected, the reader adds where."""


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """A tensor computed from the model's input.

    Args:
        shape: its shape; the first dimension is 1 when it counts rows (``batched``).
        batched: the first dimension is symbolic and must go through the model untouched.
        layers: what computes it.
    """

    shape: tuple[int, ...]
    batched: bool
    layers: tuple[Layer, ...] = ()

    @property
    def size(self) -> int:
        """Number of values in one row."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Application:
    """One operator applied to one flow.

    Args:
        attributes: the node's attributes by name, strings decoded.
        operands: the node's operands by position; None for the flow and for one left out.
        flow: the operand that is computed.
        position: where the flow stands among the operands.
    """

    attributes: Mapping[str, Any]
    operands: tuple[Constant | None, ...]
    flow: Flow
    position: int

    def constant(self, position: int) -> Constant | None:
        """The constant operand at a position, None where there is none."""
        return self.operands[position] if position < len(self.operands) else None


Rule: TypeAlias = Callable[[Application], Flow]


def _then(flow: Flow, shape: tuple[int, ...], *layers: Layer) -> Flow:
    return Flow(shape, flow.batched, flow.layers + layers)


def _linear(flow: Flow, operation: Callable[[Floats], Floats]) -> tuple[Floats, tuple[int, ...]]:
    """The matrix of a linear operation on the flow (out, in), and the shape of its result."""
    if flow.size > _LIMIT_WEIGHTS:
        raise NodeError(f"has {flow.size} values to compute with; the limit is {_LIMIT_WEIGHTS}")
    shape = _apply(operation, np.zeros(flow.shape)).shape
    if math.prod(shape) * flow.size > _LIMIT_WEIGHTS:
        raise NodeError(f"needs a dense matrix of {math.prod(shape)} x {flow.size}; the limit is {_LIMIT_WEIGHTS}")
    if flow.batched and (not shape or shape[0] != 1):
        raise NodeError(f"gives shape {shape} for a single row, so it mixes the batch with other dimensions")
    weight, unit = np.empty((math.prod(shape), flow.size)), np.zeros(flow.size)
    for column in range(flow.size):
        unit[column] = 1.0
        weight[:, column] = operation(unit.reshape(flow.shape)).reshape(-1)
        unit[column] = 0.0
    return weight, shape


def _apply(operation: Callable[[Floats], Floats], value: Floats) -> Floats:
    try:
        return operation(value)
    except ValueError as error:
        raise NodeError(f"has shapes that do not fit: {error}") from error


def _floats(constant: Constant) -> Floats:
    if constant.dtype not in (np.float32, np.float64):
        raise NodeError(f"has a constant of type {constant.dtype}; expected float32 or float64")
    if not np.isfinite(constant).all():
        raise NodeError("has a constant that is NaN or infinite; expected finite weights")
    return constant.astype(np.float64)


def _only_constant(application: Application) -> Floats:
    constant = application.constant(1 - application.position)
    if constant is None:
        raise NodeError("needs one constant operand")
    return _floats(constant)


def _broadcast_constant(application: Application) -> Floats:
    """The constant of an operator that broadcasts; one of higher rank would put dimensions before the batch."""
    constant, flow = _only_constant(application), application.flow
    if flow.batched and constant.ndim > len(flow.shape):
        raise NodeError(f"has a constant of shape {constant.shape}, which reaches beyond the batch dimension")
    return constant


def _bias_of(constant: Floats, shape: tuple[int, ...]) -> Floats:
    return np.broadcast_to(constant, shape).reshape(-1).copy()


def _shifted(application: Application, sign: float, constant: Floats) -> Flow:
    """``sign * flow + constant``, element-wise."""
    weight, shape = _linear(application.flow, lambda value: sign * value + np.zeros(constant.shape))
    return _then(application.flow, shape, Affine(weight, _bias_of(constant, shape), operations=2))


def _add(application: Application) -> Flow:
    return _shifted(application, 1.0, _broadcast_constant(application))


def _sub(application: Application) -> Flow:
    constant = _broadcast_constant(application)
    return _shifted(application, 1.0, -constant) if application.position == 0 else _shifted(application, -1.0, constant)


def _mul(application: Application) -> Flow:
    constant = _broadcast_constant(application)
    weight, shape = _linear(application.flow, lambda value: value * constant)
    return _then(application.flow, shape, Affine(weight, np.zeros(len(weight)), operations=1))


def _matmul(application: Application) -> Flow:
    constant, flow = _broadcast_constant(application), application.flow
    if flow.batched and len(flow.shape) < (2 if application.position == 0 else 3):
        raise NodeError("multiplies over the batch dimension")

    def product(value: Floats) -> Floats:
        return np.asarray(value @ constant if application.position == 0 else constant @ value)

    weight, shape = _linear(flow, product)
    terms = flow.shape[-1] if application.position == 0 else constant.shape[-1]
    return _then(flow, shape, Affine(weight, np.zeros(len(weight)), operations=terms))


def _gemm(application: Application) -> Flow:
    """``alpha * A' @ B' + beta * C``; one layer when both factors are one, else one per operation."""
    if application.position == 2:
        raise NodeError("adds a computed tensor; expected the computed tensor as first or second operand")
    constant, flow = _only_constant(application), application.flow
    trans_a, trans_b = (bool(application.attributes.get(name, 0)) for name in ("transA", "transB"))
    if len(flow.shape) != 2 or constant.ndim != 2:
        raise NodeError(f"has operands of shapes {flow.shape} and {constant.shape}; expected two matrices")
    if flow.batched and (trans_a or application.position == 1):
        raise NodeError("multiplies over the batch dimension")

    def product(value: Floats) -> Floats:
        a, b = (value, constant) if application.position == 0 else (constant, value)
        return (a.T if trans_a else a) @ (b.T if trans_b else b)

    weight, shape = _linear(flow, product)
    inner = constant.shape[int(trans_b)] if application.position == 0 else constant.shape[int(not trans_a)]
    alpha, beta = (float(application.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise NodeError(f"has factors alpha = {alpha}, beta = {beta}; expected finite ones")
    bias = _gemm_bias(application, beta, shape)
    if alpha == 1.0 and (bias is None or beta == 1.0):
        whole = Affine(weight, np.zeros(len(weight)) if bias is None else bias, inner + (bias is not None))
        return _then(flow, shape, whole)
    identity, zeros = np.eye(len(weight)), np.zeros(len(weight))
    layers = [Affine(weight, zeros, inner), Affine(alpha * identity, zeros, 1)]
    return _then(flow, shape, *layers, *([] if bias is None else [Affine(identity, bias, 3)]))


def _gemm_bias(application: Application, beta: float, shape: tuple[int, ...]) -> Floats | None:
    constant = application.constant(2)
    if constant is None:
        return None
    values = _floats(constant)
    if application.flow.batched and values.ndim == 2 and values.shape[0] != 1:
        raise NodeError(f"has a bias of shape {values.shape}, one row of it per row of the batch")
    try:
        spread = _bias_of(values, shape)
    except ValueError as error:
        raise NodeError(f"has a bias of shape {values.shape}; expected one that broadcasts to {shape}") from error
    with np.errstate(over="ignore"):
        scaled = beta * spread
    if not np.isfinite(scaled).all() or any(
        Fraction(beta) * Fraction(value) != Fraction(product) for value, product in zip(spread, scaled, strict=True)
    ):
        raise NodeError(f"scales its bias by beta = {beta}, which float64 cannot hold exactly; expected beta = 1")
    return scaled


def _relu(application: Application) -> Flow:
    return _then(application.flow, application.flow.shape, Relu())


def _identity(application: Application) -> Flow:
    return application.flow


def _reshaped(flow: Flow, shape: tuple[int, ...]) -> Flow:
    """The same values, another shape; the batch dimension stays first and alone."""
    if math.prod(shape) != flow.size:
        raise NodeError(f"gives shape {shape} to a tensor of shape {flow.shape}; the sizes differ")
    if flow.batched and (not shape or shape[0] != 1):
        raise NodeError(f"gives shape {shape} to a single row, so it mixes the batch with other dimensions")
    return _then(flow, shape)


def _flatten(application: Application) -> Flow:
    flow = application.flow
    axis = int(application.attributes.get("axis", 1))
    if not -len(flow.shape) <= axis <= len(flow.shape):
        raise NodeError(f"has axis {axis} for a tensor of shape {flow.shape}")
    axis += len(flow.shape) if axis < 0 else 0
    if flow.batched and axis != 1:
        raise NodeError(f"has axis {axis} on a batch; expected 1, which keeps the rows apart")
    return _reshaped(flow, (math.prod(flow.shape[:axis]), math.prod(flow.shape[axis:])))


def _reshape(application: Application) -> Flow:
    flow, target = application.flow, application.constant(1)
    if application.position != 0 or target is None or target.ndim != 1:
        raise NodeError("needs a constant shape as its second operand")
    wanted = [int(size) for size in target]
    if application.attributes.get("allowzero", 0) and 0 in wanted:
        raise NodeError(f"asks for an empty tensor, shape {wanted}")
    if flow.batched and (not wanted or wanted[0] not in (0, -1)):
        raise NodeError(f"asks for shape {wanted} on a batch; expected 0 or -1 in front, which keeps the rows apart")
    return _reshaped(flow, _resolved(wanted, flow))


def _resolved(wanted: list[int], flow: Flow) -> tuple[int, ...]:
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
    operand = application.constant(1)
    if application.position != 0:
        raise NodeError("has computed axes; expected constant ones")
    if operand is not None:
        return [int(axis) for axis in operand.reshape(-1)]
    axes = application.attributes.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


def _normal(axes: list[int], rank: int) -> set[int]:
    if any(not -rank <= axis < rank for axis in axes):
        raise NodeError(f"has axes {axes} for rank {rank}")
    return {axis % rank for axis in axes}


def _squeeze(application: Application) -> Flow:
    flow, axes = application.flow, _axes(application)
    if axes is None:
        if flow.batched:
            raise NodeError("squeezes every dimension of size one, a batch of one row too; expected axes")
        axes = [index for index, size in enumerate(flow.shape) if size == 1]
    gone = _normal(axes, len(flow.shape))
    if any(flow.shape[axis] != 1 for axis in gone) or (flow.batched and 0 in gone):
        raise NodeError(f"squeezes axes {sorted(gone)} of a tensor of shape {flow.shape}; expected size one")
    return _reshaped(flow, tuple(size for index, size in enumerate(flow.shape) if index not in gone))


def _unsqueeze(application: Application) -> Flow:
    flow, axes = application.flow, _axes(application)
    if axes is None:
        raise NodeError("needs axes")
    rank = len(flow.shape) + len(axes)
    new = _normal(axes, rank)
    if len(new) != len(axes) or (flow.batched and 0 in new):
        raise NodeError(
            f"inserts axes {axes} into a tensor of shape {flow.shape}; expected distinct ones after the batch"
        )
    old = iter(flow.shape)
    return _reshaped(flow, tuple(1 if index in new else next(old) for index in range(rank)))


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Add": _add,
        "Flatten": _flatten,
        "Gemm": _gemm,
        "Identity": _identity,
        "MatMul": _matmul,
        "Mul": _mul,
        "Relu": _relu,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
        "Sub": _sub,
        "Unsqueeze": _unsqueeze,
    }
)
