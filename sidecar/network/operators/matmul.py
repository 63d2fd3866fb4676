"""MatMul and Gemm with one constant factor."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from sidecar.network.operators.application import (
    Application,
    Flow,
    NodeError,
    broadcast_constant,
    floats,
    one_flow,
)
from sidecar.network.operators.operation import AffineMap, Change, Floats, Shape, gathered, spread
from sidecar.network.operators.reshape import Reshape
from sidecar.network.operators.scale import Scale
from sidecar.network.operators.shift import Shift
from sidecar.network.operators.transpose import Transpose
from sidecar.network.products import product


@dataclasses.dataclass(frozen=True, eq=False)
class MatMul(AffineMap):
    """``h @ weight + added``, or ``weight @ h + added`` where the weight is on the left.

    Args:
        weight: float64, of rank two or more; in front of the last two its dimensions broadcast.
        left: where it stands.
        added: float64 that broadcasts to the result; None for nothing.
        terms: one for each product, and for the bias.
    """

    weight: Floats
    left: bool
    added: Floats | None
    terms: int

    @property
    def operations(self) -> int:
        """The terms."""
        return self.terms

    def shape(self, *shapes: Shape) -> Shape:
        """As numpy has it; operands of rank two or more."""
        (own,), weight = shapes, self.weight.shape
        first, second = (weight, own) if self.left else (own, weight)
        if first[-1] != second[-2]:
            raise ValueError(f"{first} times {second}")
        return (*np.broadcast_shapes(first[:-2], second[:-2]), first[-2], second[-1])

    def linear(self, *tensors: Floats) -> Floats:
        """The product."""
        if self._plain:
            return _rows_times(tensors[0], self.weight)
        tensor = spread(tensors[0], max(self.weight.ndim, tensors[0].ndim - 1))
        return np.asarray(self.weight @ tensor if self.left else tensor @ self.weight)

    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """The product with the transposed weight."""
        turned = np.swapaxes(self.weight, -1, -2)
        if self._plain:
            return (_rows_times(form, turned),)
        return (gathered(turned @ form if self.left else form @ turned, shapes[0]),)

    @property
    def _plain(self) -> bool:
        return self.weight.ndim == 2 and not self.left

    def bias(self, shape: Shape) -> Floats | None:
        """What is added."""
        return None if self.added is None else np.broadcast_to(self.added, shape)

    def mapped(self, change: Change) -> "MatMul":
        """With other weights."""
        added = None if self.added is None else change(self.added)
        return MatMul(change(self.weight), self.left, added, self.terms)


def _rows_times(tensor: Floats, matrix: Floats) -> Floats:
    return product(tensor.reshape(-1, len(matrix)), matrix).reshape(*tensor.shape[:-1], matrix.shape[1])


def read_matmul(application: Application) -> list[MatMul | Reshape]:
    """MatMul; vectors become matrices of one row or column before, and lose it again after."""
    flow, constant, position = broadcast_constant(application)
    if flow.batched and len(flow.shape) < (2 if position == 0 else 3):
        raise NodeError("multiplies over the batch dimension")
    left = position == 1
    if not flow.shape or not constant.ndim:
        raise NodeError("multiplies by a number; expected matrices")
    matrix = constant if constant.ndim > 1 else constant[None, :] if left else constant[:, None]
    vector = (flow.shape[0], 1) if left else (1, flow.shape[0])
    own = flow.shape if len(flow.shape) > 1 else vector
    product = MatMul(matrix, left, None, matrix.shape[-1 if left else -2])
    whole = list(product.shape(own))
    gone = {-1 if left else -2} if len(flow.shape) == 1 else set()
    gone |= {-2 if left else -1} if constant.ndim == 1 else set()
    result = tuple(size for axis, size in enumerate(whole, -len(whole)) if axis not in gone)
    return [
        *([Reshape(own)] if own != flow.shape else []),
        product,
        *([Reshape(result)] if gone else []),
    ]


def read_gemm(application: Application) -> list[MatMul | Scale | Shift | Transpose]:
    """``alpha * A' @ B' + beta * C``; one step when both factors are one, else one per operation."""
    if isinstance(application.operand(2), Flow):
        raise NodeError("adds a computed tensor; expected the computed tensor as first or second operand")
    flow, constant, position = one_flow(application)
    trans = application.flag("transA"), application.flag("transB")
    if len(flow.shape) != 2 or constant.ndim != 2:
        raise NodeError(f"has operands of shapes {flow.shape} and {constant.shape}; expected two matrices")
    if flow.batched and (trans[0] or position == 1):
        raise NodeError("multiplies over the batch dimension")
    turned = trans[position]
    matrix = constant.T if trans[1 - position] else constant
    product = MatMul(matrix, position == 1, None, matrix.shape[1 if position else 0])
    shape = product.shape(flow.shape[::-1] if turned else flow.shape)
    alpha, beta = (float(application.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise NodeError(f"has factors alpha = {alpha}, beta = {beta}; expected finite ones")
    added = _scaled_bias(application, beta, shape)
    before = [Transpose((1, 0))] if turned else []
    if alpha == 1.0 and (added is None or beta == 1.0):
        whole = dataclasses.replace(product, added=added, terms=product.terms + (added is not None))
        return [*before, whole]
    after = [] if added is None else [Shift(added, operations=3)]
    return [*before, product, Scale(np.array(alpha)), *after]


def _scaled_bias(application: Application, beta: float, shape: Shape) -> Floats | None:
    constant = application.constant(2)
    if constant is None:
        return None
    values = floats(constant)
    if application.flow.batched and values.ndim == 2 and values.shape[0] != 1:
        raise NodeError(f"has a bias of shape {values.shape}, one row of it per row of the batch")
    try:
        np.broadcast_to(values, shape)
    except ValueError as error:
        raise NodeError(f"has a bias of shape {values.shape}; expected one that broadcasts to {shape}") from error
    with np.errstate(over="ignore"):
        scaled = np.asarray(beta * values)
    if not np.isfinite(scaled).all() or any(
        Fraction(beta) * Fraction(value) != Fraction(product)
        for value, product in zip(values.flat, scaled.flat, strict=True)
    ):
        raise NodeError(f"scales its bias by beta = {beta}, which float64 cannot hold exactly; expected beta = 1")
    return scaled
