"""The gated tensors of a request or a response as rows, and changed rows back into tensors.

Requests and responses lay tensors out alike, so one reader serves both; whose fault a defect is, and
under which reason it is reported, is theirs to say. A model's other tensors are not looked at here.

Contents are raw (one bytes entry for each tensor of the message, in order) or typed (in the tensor), for
the whole message. FP16 and BF16 have no typed contents. Datatypes of fewer than 32 bits share those of 32 bits, and
servers make different things of a value that is beyond the datatype there (Triton cuts off its upper bytes, NumPy
refuses it or does the same, by version): a gated tensor with such a value is refused. So is a boolean that is neither
0 nor 1, and a 64-bit integer beyond 2**53, where float64 no longer holds every one.

Source: Open Inference Protocol v2, "Tensor Data".
"""

import enum
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.tensors import (
    INTEGER_RANGES,
    Datatype,
    Rows,
    TensorSpec,
    decode_raw,
    encode_raw,
    exact_integers,
    item_size,
)

Tensor: TypeAlias = pb.ModelInferRequest.InferInputTensor | pb.ModelInferResponse.InferOutputTensor


class Defect(enum.Enum):
    """What is wrong with a message's tensors."""

    MISSING = enum.auto()
    DUPLICATE = enum.auto()
    DATATYPE = enum.auto()
    SHAPE = enum.auto()
    CONTENTS = enum.auto()


class TensorDefect(Exception):
    """The gated tensors cannot be read. Request and response readers turn it into an error of theirs."""

    def __init__(self, defect: Defect, message: str) -> None:
        super().__init__(message)
        self.defect = defect
        self.message = message


TYPED_FIELD: Final[dict[Datatype, str]] = {
    Datatype.BOOL: "bool_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
}
"""Of the datatypes that have typed contents: where they are."""

_FIELD_DTYPE: Final[dict[str, npt.DTypeLike]] = {
    "bool_contents": np.bool_,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float64,
    "fp64_contents": np.float64,
}
"""In which dtype NumPy holds a field's values exactly."""

_SHARED_MEMORY_KEYS: Final = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


class TensorReader:
    """Reads the gated tensors of one message.

    Args:
        tensors: all tensors of the message, in order, gated or not.
        raw: all raw contents of the message, in order.
        empty_beside_raw: whether typed contents without anything in them may stand beside raw ones, as in MLServer's
            raw responses.

    Raises:
        TensorDefect: raw and typed contents are mixed, or raw contents do not align with the tensors.
    """

    def __init__(self, tensors: Sequence[Tensor], raw: Sequence[bytes], *, empty_beside_raw: bool = False) -> None:
        self._tensors = tensors
        self._raw = raw
        if not raw:
            return
        if len(raw) != len(tensors):
            raise TensorDefect(Defect.CONTENTS, f"got {len(raw)} raw contents for {len(tensors)} tensors")
        for tensor in tensors:
            if tensor.HasField("contents") and not (empty_beside_raw and tensor.contents.ByteSize() == 0):
                raise TensorDefect(
                    Defect.CONTENTS,
                    f"tensor {reprlib.repr(tensor.name)} has typed contents in a message with raw contents",
                )

    @property
    def is_raw(self) -> bool:
        """Whether the message carries its contents raw."""
        return bool(self._raw)

    def positions(self, specs: Sequence[TensorSpec]) -> tuple[int, ...]:
        """Where each gated tensor stands in the message.

        Raises:
            TensorDefect: one is missing or is there twice.
        """
        if len(specs) == len(self._tensors) == 1 and self._tensors[0].name == specs[0].name:  # mostly
            return (0,)
        wanted = {spec.name for spec in specs}
        found: dict[str, int] = {}
        for index, tensor in enumerate(self._tensors):
            if tensor.name in found:
                raise TensorDefect(Defect.DUPLICATE, f"tensor {tensor.name!r} is there twice")
            if tensor.name in wanted:
                found[tensor.name] = index
        for name in (spec.name for spec in specs if spec.name not in found):
            others = reprlib.repr([tensor.name for tensor in self._tensors])
            raise TensorDefect(Defect.MISSING, f"tensor {name!r} is missing; got {others}")
        return tuple(found[spec.name] for spec in specs)

    def row_count(self, position: int, spec: TensorSpec, batch_axis: int | None) -> int:
        """How many rows a gated tensor's shape declares; at least 1.

        Raises:
            TensorDefect: the datatype is another one, or the shape does not fit.
        """
        tensor = self._tensors[position]
        if tensor.datatype != spec.datatype:
            got = reprlib.repr(tensor.datatype)
            raise TensorDefect(Defect.DATATYPE, f"tensor {spec.name!r} has datatype {got}, expected {spec.datatype}")
        # One dimension too many is enough to see: there may be millions.
        shape = tuple(tensor.shape[: len(spec.row_shape) + 2])
        rows, row_shape = (1, shape) if batch_axis is None else (shape[0] if shape else 0, shape[1:])
        if rows < 1 or row_shape != spec.row_shape:
            expected = list(spec.row_shape) if batch_axis is None else ["rows >= 1", *spec.row_shape]
            more = ", and more" if len(tensor.shape) > len(shape) else ""
            raise TensorDefect(Defect.SHAPE, f"tensor {spec.name!r} has shape {list(shape)}{more}, expected {expected}")
        return rows

    def rows(self, position: int, spec: TensorSpec, count: int) -> Rows:
        """A gated tensor's values, shape (count, spec.row_size).

        Raises:
            TensorDefect: the contents are in another form, of another length than the shape says, or hold a value that
                cannot be judged.
        """
        read = self._raw_values if self.is_raw else self._typed_values
        try:
            return read(position, spec, count * spec.row_size).reshape(count, spec.row_size)
        except ValueError as error:
            raise TensorDefect(Defect.CONTENTS, f"tensor {spec.name!r}: {error}") from error

    def _raw_values(self, position: int, spec: TensorSpec, size: int) -> npt.NDArray[np.float64]:
        raw = self._raw[position]
        expected = size * item_size(spec.datatype)
        if len(raw) != expected:  # looked at first: decoding takes up to eight times the memory
            raise TensorDefect(
                Defect.CONTENTS, f"tensor {spec.name!r} has {len(raw)} raw bytes, its shape says {expected}"
            )
        return decode_raw(raw, spec.datatype)

    def _typed_values(self, position: int, spec: TensorSpec, size: int) -> npt.NDArray[np.float64]:
        filled = [descriptor.name for descriptor, _ in self._tensors[position].contents.ListFields()]
        expected = TYPED_FIELD.get(spec.datatype)
        if filled != [expected]:
            raise TensorDefect(
                Defect.CONTENTS,
                f"tensor {spec.name!r} of datatype {spec.datatype} has typed contents {filled or 'none'}, "
                f"expected {expected or 'raw contents'}",
            )
        values = getattr(self._tensors[position].contents, filled[0])
        if len(values) != size:
            raise TensorDefect(
                Defect.CONTENTS, f"tensor {spec.name!r} holds {len(values)} values, its shape says {size}"
            )
        flat = np.array(values, dtype=_FIELD_DTYPE[filled[0]])
        return exact_integers(flat, spec.datatype) if spec.datatype in INTEGER_RANGES else flat


def side_by_side(tensors: Sequence[Rows]) -> Rows:
    """Tensors of equally many rows as the rows that gates judge."""
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors, axis=1)


def changed_values(before: Rows, after: Rows) -> npt.NDArray[np.bool_]:
    """Where values differ; two NaN count as equal, whatever their bits. Flat, in C order."""
    is_number = (before == before) | (after == after)
    return np.asarray((before != after) & is_number).reshape(-1)


def replace_raw(raw: bytes, changed: npt.NDArray[np.bool_], values: Rows, datatype: Datatype) -> bytes:
    """Raw contents with the changed values replaced; all other values keep their very bits.

    Raises:
        ValueError: a changed value is not representable in the datatype.
    """
    items = np.frombuffer(bytearray(raw), dtype=f"V{item_size(datatype)}")
    items[changed] = np.frombuffer(encode_raw(values.reshape(-1)[changed], datatype), dtype=items.dtype)
    return items.tobytes()


def replace_typed(tensor: Tensor, changed: npt.NDArray[np.bool_], values: Rows, datatype: Datatype) -> None:
    """Replace the changed values of a tensor's typed contents in place; all others keep their very bits."""
    field = getattr(tensor.contents, TYPED_FIELD[datatype])
    number = python_number(datatype)
    flat = values.reshape(-1)
    for index in np.flatnonzero(changed):
        field[int(index)] = number(flat[index])


def python_number(datatype: Datatype) -> Callable[[Any], bool | int | float]:
    """What the protobuf runtime takes for a value of the datatype."""
    if datatype is Datatype.BOOL:
        return bool
    return int if datatype in INTEGER_RANGES else float


def shared_memory_keys(parameters: Mapping[str, pb.InferParameter]) -> list[str]:
    """The parameters that put a tensor outside the message."""
    return [key for key in _SHARED_MEMORY_KEYS if key in parameters]
