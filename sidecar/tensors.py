"""Tensors as the wire knows them: datatypes, specifications of a model's inputs and outputs, raw contents.

A *row* is what gates judge: the concatenation of a model's gated tensors for one batch entry, each
flattened in C order, as float64. A row *is* the values on the wire: FP16, BF16, FP32 and FP64 convert to float64
exactly, and so do integers up to 2**53 in magnitude. A 64-bit integer beyond that is refused, never rounded, and a
boolean is zero or one. Rounding a real number to a datatype lives in :mod:`sidecar.numerics`.
"""

import dataclasses
import enum
import math
import struct
from typing import Any, Final, Self, TypeAlias

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
"""Every value is a float64 exactly."""

MAX_EXACT_INTEGER: Final = 2**53
"""Up to this magnitude float64 holds every integer; of the next two it cannot tell one from the other."""

INTEGER_RANGES: Final[dict[Datatype, tuple[int, int]]] = {
    Datatype.BOOL: (0, 1),
    Datatype.UINT8: (0, 2**8 - 1),
    Datatype.UINT16: (0, 2**16 - 1),
    Datatype.UINT32: (0, 2**32 - 1),
    Datatype.UINT64: (0, MAX_EXACT_INTEGER),
    Datatype.INT8: (-(2**7), 2**7 - 1),
    Datatype.INT16: (-(2**15), 2**15 - 1),
    Datatype.INT32: (-(2**31), 2**31 - 1),
    Datatype.INT64: (-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER),
}
"""The smallest and the largest value that can be judged, of the datatypes whose values are whole numbers."""

GATED_DATATYPES = (*INTEGER_RANGES, *FLOATING_DATATYPES)
"""What can be gated: all but BYTES, which has no numeric meaning."""

_RAW_DTYPE: dict[Datatype, np.dtype[np.generic]] = {
    # As bytes: of other values than 0 and 1, NumPy would make a boolean that is neither.
    Datatype.BOOL: np.dtype("u1"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype("<u2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
}


_STRUCT_LETTER: Final = {Datatype.FP32: "f", Datatype.FP64: "d"}
"""Of the struct module, for the commonest datatypes."""

_FEW_BYTES: Final = 128
"""Up to that many are read by the struct module, in a third of the time that NumPy's fixed costs take."""

_FEW_VALUES: Final = 64
"""Up to that many are looked at one by one, in less time than array operations take."""


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Args:
        name: the tensor's name in the protocol.
        datatype: one of ``GATED_DATATYPES``.
        row_shape: the shape of one row, i.e. the wire shape without the batch axis; every dimension >= 1.
    """

    name: str
    datatype: Datatype
    row_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tensor needs a name")
        if self.datatype not in GATED_DATATYPES:
            raise ValueError(
                f"tensor {self.name!r} is {self.datatype}, which has no numeric meaning that a gate could judge; leave"
                f" it out, what is not gated passes untouched (gates judge {', '.join(GATED_DATATYPES)})"
            )
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
        ValueError: the length is no multiple of the item size, or a value cannot be judged (:func:`exact_integers`).
    """
    if len(raw) <= _FEW_BYTES and datatype in _STRUCT_LETTER and not len(raw) % item_size(datatype):
        return np.array(struct.unpack(f"<{len(raw) // item_size(datatype)}{_STRUCT_LETTER[datatype]}", raw), np.float64)
    values = np.frombuffer(raw, dtype=_RAW_DTYPE[datatype])
    if datatype in INTEGER_RANGES:
        return exact_integers(values, datatype)
    if datatype is Datatype.BF16:
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    # A signalling NaN makes the conversion raise the "invalid" flag; it stays a NaN, which is what matters.
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def all_finite(values: npt.NDArray[np.float64]) -> bool:
    """Whether no value is NaN or infinite; any shape."""
    if values.size <= _FEW_VALUES:
        return all(map(math.isfinite, values.ravel().tolist()))
    return bool(np.isfinite(values).all())


def exact_integers(values: npt.NDArray[Any], datatype: Datatype) -> npt.NDArray[np.float64]:
    """Whole numbers as exact float64 values.

    Args:
        values: of an integer or boolean dtype, any shape.
        datatype: one of ``INTEGER_RANGES``.

    Raises:
        ValueError: a value lies outside the datatype's range in ``INTEGER_RANGES``.
    """
    smallest, largest = INTEGER_RANGES[datatype]
    outside = (values < smallest) | (values > largest)
    if outside.any():
        raise ValueError(
            f"{datatype} value {values[outside][0]} cannot be judged; expected whole numbers {smallest} to {largest}"
        )
    return values.astype(np.float64)


def encode_raw(values: npt.NDArray[np.float64], datatype: Datatype) -> bytes:
    """Values that the datatype represents exactly, as raw little-endian contents.

    Raises:
        ValueError: a value is not representable; round it first (``numerics.round_to_datatype``).
    """
    if datatype in INTEGER_RANGES:
        _require_integers(values, datatype)
        return values.astype(_RAW_DTYPE[datatype]).tobytes()
    if len(values) * item_size(datatype) <= _FEW_BYTES and datatype in _STRUCT_LETTER:
        return _encode_few(values.tolist(), datatype)
    with np.errstate(over="ignore", invalid="ignore"):
        if datatype is Datatype.BF16:
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
            raw = (bits >> np.uint32(16)).astype("<u2").tobytes()
        else:
            raw = values.astype(_RAW_DTYPE[datatype]).tobytes()
    if not np.array_equal(decode_raw(raw, datatype), values, equal_nan=True):
        raise ValueError(f"values are not representable as {datatype}: {values!r}")
    return raw


def _encode_few(values: list[float], datatype: Datatype) -> bytes:
    """As :func:`encode_raw`, in a third of the time that NumPy's fixed costs take."""
    layout = f"<{len(values)}{_STRUCT_LETTER[datatype]}"
    try:
        raw = struct.pack(layout, *values)
    except OverflowError as error:
        raise ValueError(f"values are not representable as {datatype}: {values!r}") from error
    for there, here in zip(struct.unpack(layout, raw), values, strict=True):
        if there != here and not math.isnan(here):
            raise ValueError(f"values are not representable as {datatype}: {values!r}")
    return raw


def _require_integers(values: npt.NDArray[np.float64], datatype: Datatype) -> None:
    # Before the conversion: what a float beyond an integer type's range becomes, the machine decides.
    smallest, largest = INTEGER_RANGES[datatype]
    if not ((values >= smallest) & (values <= largest) & (np.floor(values) == values)).all():
        raise ValueError(f"values are not representable as {datatype}: {values!r}")
