"""Tensors as the wire knows them: datatypes, specifications of a model's inputs and outputs, raw contents.

A *row* is what gates judge: the concatenation of a model's gated tensors for one batch entry, each
flattened in C order, as float64. FP16, BF16, FP32 and FP64 values convert to float64 exactly, so a row
*is* the values on the wire. Rounding a real number to a datatype lives in :mod:`sidecar.numerics`.
"""

import dataclasses
import enum
import math
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.float64]
"""float64, axes (row, feature)."""


class Datatype(enum.StrEnum):
    """Datatypes of the Open Inference Protocol v2, by their names on the wire."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


FLOATING_DATATYPES = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)
"""What can be gated: every value is a float64 exactly."""

_RAW_DTYPE: dict[Datatype, np.dtype[np.generic]] = {
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype("<u2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Args:
        name: the tensor's name in the protocol.
        datatype: one of ``FLOATING_DATATYPES``.
        row_shape: the shape of one row, i.e. the wire shape without the batch axis; every dimension >= 1.
    """

    name: str
    datatype: Datatype
    row_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tensor needs a name")
        if self.datatype not in FLOATING_DATATYPES:
            raise ValueError(f"tensor {self.name!r} is {self.datatype}; gates judge {', '.join(FLOATING_DATATYPES)}")
        if any(size < 1 for size in self.row_shape):
            raise ValueError(f"tensor {self.name!r} has shape {self.row_shape}; every dimension must be at least 1")

    @property
    def row_size(self) -> int:
        """Number of values in one row."""
        return math.prod(self.row_shape)


@dataclasses.dataclass(frozen=True)
class ModelSignature:
    """The inputs and outputs of a model, in the order in which a row concatenates them.

    Args:
        inputs: at least one, names distinct.
        outputs: at least one, names distinct.
        batch_axis: 0 when the first dimension on the wire counts rows (wire shape ``(rows, *row_shape)``),
            None when a message holds exactly one row (wire shape ``row_shape``).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_axis: int | None

    def __post_init__(self) -> None:
        if self.batch_axis not in (None, 0):
            raise ValueError(f"batch_axis is {self.batch_axis}; it must be 0 or none")
        for side, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"a model needs {side} with distinct names, got {names}")

    @property
    def input_size(self) -> int:
        """Length of an input row."""
        return sum(spec.row_size for spec in self.inputs)

    @property
    def output_size(self) -> int:
        """Length of an output row."""
        return sum(spec.row_size for spec in self.outputs)

    def input_datatypes(self) -> tuple[Datatype, ...]:
        """The datatype of each value of an input row."""
        return tuple(spec.datatype for spec in self.inputs for _ in range(spec.row_size))

    def output_datatypes(self) -> tuple[Datatype, ...]:
        """The datatype of each value of an output row."""
        return tuple(spec.datatype for spec in self.outputs for _ in range(spec.row_size))

    def with_batch_axis(self, batch_axis: int | None) -> Self:
        """The same tensors with another reading of the first dimension."""
        return dataclasses.replace(self, batch_axis=batch_axis)


def item_size(datatype: Datatype) -> int:
    """Bytes per value in raw contents. Raises KeyError for a datatype that cannot be gated."""
    return _RAW_DTYPE[datatype].itemsize


def decode_raw(raw: bytes, datatype: Datatype) -> npt.NDArray[np.float64]:
    """Raw little-endian contents as exact float64 values, shape (count,).

    Raises:
        ValueError: the length is no multiple of the item size.
    """
    values = np.frombuffer(raw, dtype=_RAW_DTYPE[datatype])
    if datatype is Datatype.BF16:
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    # A signalling NaN makes the conversion raise the "invalid" flag; it stays a NaN, which is what matters.
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def encode_raw(values: npt.NDArray[np.float64], datatype: Datatype) -> bytes:
    """Values that the datatype represents exactly, as raw little-endian contents.

    Raises:
        ValueError: a value is not representable; round it first (``numerics.round_to_datatype``).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if datatype is Datatype.BF16:
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
            raw = (bits >> np.uint32(16)).astype("<u2").tobytes()
        else:
            raw = values.astype(_RAW_DTYPE[datatype]).tobytes()
    if not np.array_equal(decode_raw(raw, datatype), values, equal_nan=True):
        raise ValueError(f"values are not representable as {datatype}: {values!r}")
    return raw
