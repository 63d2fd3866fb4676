"""What an operation of a graph is, by kind.

Arrays have the axes (row, *shape*): one row is one evaluation of the whole model, and a shape is what the model file
says, a batch dimension of 1 included. All arithmetic is float64.
"""

import abc
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]
Change: TypeAlias = Callable[[Floats], Floats]


class AffineMap(abc.ABC):
    """``bias`` plus a linear map of one or several tensors.

    Its coefficients are the model file's numbers, or what float64 makes of a quotient or root of them; then their
    relative error is among the ``operations``.
    """

    @property
    @abc.abstractmethod
    def operations(self) -> int:
        """The longest chain of roundings that one value suffers in the served arithmetic, at least; that is, an upper
        bound on the number of terms summed into it, or of products.
        """

    @abc.abstractmethod
    def shape(self, *shapes: Shape) -> Shape:
        """The result's shape. Raises ValueError where the operands' do not fit."""

    @abc.abstractmethod
    def linear(self, *tensors: Floats) -> Floats:
        """The map without its bias."""

    @abc.abstractmethod
    def adjoint(self, form: Floats, shapes: Sequence[Shape]) -> tuple[Floats, ...]:
        """A linear form in the result, (row, *shape), as one in each operand: ``form . linear(h) = adjoint . h``."""

    def bias(self, shape: Shape) -> Floats | None:
        """What is added, for a result of this shape; None for nothing."""
        return None

    def mapped(self, change: Change) -> "AffineMap":
        """The same with every coefficient changed; ``abs`` gives the magnitudes of what is summed."""
        return self

    def __call__(self, *tensors: Floats) -> Floats:
        """The operation's result."""
        result = self.linear(*tensors)
        bias = self.bias(result.shape[1:])
        return result if bias is None else result + bias


class Elementwise(abc.ABC):
    """A function of each value."""

    @abc.abstractmethod
    def __call__(self, values: Floats) -> Floats:
        """The function."""

    @abc.abstractmethod
    def slope(self, values: Floats) -> Floats:
        """A derivative, for descent; one of several where it has none."""


def spread(tensor: Floats, rank: int) -> Floats:
    """A tensor with dimensions of one in front of its shape, so that it broadcasts with shapes of that rank."""
    missing = rank - (tensor.ndim - 1)
    return tensor.reshape(tensor.shape[0], *(1,) * missing, *tensor.shape[1:])


def gathered(form: Floats, shape: Shape) -> Floats:
    """The adjoint of broadcasting: sums over what was broadcast to, back to ``shape``."""
    extra = form.ndim - 1 - len(shape)
    form = form.sum(axis=tuple(range(1, 1 + extra)))
    ones = tuple(axis + 1 for axis, size in enumerate(shape) if size == 1 and form.shape[axis + 1] != 1)
    return np.asarray(form.sum(axis=ones, keepdims=True) if ones else form)
