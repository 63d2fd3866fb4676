"""Tensor contents on the wire, and the arrays that onnxruntime takes and gives.

One table says how each datatype looks to the protocol, to NumPy and to onnxruntime. What is not in it
(BYTES, and BF16, which NumPy lacks) is not served. Nothing here knows a model or a transport.
"""

import dataclasses
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.errors import CallerError, Reason
from sidecar.protocols.generated import open_inference_pb2 as messages
from sidecar.tensors import Datatype

Array: TypeAlias = npt.NDArray[Any]
InputTensor: TypeAlias = messages.ModelInferRequest.InferInputTensor


@dataclasses.dataclass(frozen=True)
class WireForm:
    """How one datatype is carried: little-endian raw items, or a typed field (None: raw only)."""

    dtype: np.dtype[Any]
    typed_field: str | None


WIRE_FORMS: dict[Datatype, WireForm] = {
    Datatype.BOOL: WireForm(np.dtype("?"), "bool_contents"),
    Datatype.UINT8: WireForm(np.dtype("u1"), "uint_contents"),
    Datatype.UINT16: WireForm(np.dtype("<u2"), "uint_contents"),
    Datatype.UINT32: WireForm(np.dtype("<u4"), "uint_contents"),
    Datatype.UINT64: WireForm(np.dtype("<u8"), "uint64_contents"),
    Datatype.INT8: WireForm(np.dtype("i1"), "int_contents"),
    Datatype.INT16: WireForm(np.dtype("<i2"), "int_contents"),
    Datatype.INT32: WireForm(np.dtype("<i4"), "int_contents"),
    Datatype.INT64: WireForm(np.dtype("<i8"), "int64_contents"),
    Datatype.FP16: WireForm(np.dtype("<f2"), None),
    Datatype.FP32: WireForm(np.dtype("<f4"), "fp32_contents"),
    Datatype.FP64: WireForm(np.dtype("<f8"), "fp64_contents"),
}


def decode_tensor(tensor: InputTensor, datatype: Datatype, raw: bytes | None) -> Array:
    """The tensor's values in its stated shape, from raw contents or, where ``raw`` is None, typed ones.

    Raises:
        CallerError: the contents are in another form, do not fit the shape, or leave the datatype's range.
    """
    shape = tuple(tensor.shape)
    values = _from_typed(tensor, datatype) if raw is None else _from_raw(tensor, datatype, raw)
    if values.size != math.prod(shape):
        problem = f"holds {values.size} values; its shape {list(shape)} needs {math.prod(shape)}"
        raise _bad_contents(tensor, problem)
    return values.reshape(shape)


def _from_raw(tensor: InputTensor, datatype: Datatype, raw: bytes) -> Array:
    if tensor.HasField("contents"):
        raise _bad_contents(tensor, "has typed contents in a request with raw ones; use one form for all inputs")
    dtype = WIRE_FORMS[datatype].dtype
    if len(raw) % dtype.itemsize:
        raise _bad_contents(tensor, f"holds {len(raw)} bytes, no multiple of {datatype}'s {dtype.itemsize}")
    values = np.frombuffer(raw, dtype=dtype)
    # A byte other than 0 and 1 would be a boolean that no operator of onnxruntime expects.
    return np.frombuffer(raw, dtype=np.uint8) != 0 if datatype is Datatype.BOOL else values


def _from_typed(tensor: InputTensor, datatype: Datatype) -> Array:
    field, dtype = WIRE_FORMS[datatype].typed_field, WIRE_FORMS[datatype].dtype
    present = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if field is None:
        raise _bad_contents(tensor, f"is {datatype}, which has raw contents only")
    if any(name != field for name in present):
        raise _bad_contents(tensor, f"has {', '.join(present)}; {datatype} is carried in {field}")
    try:
        return np.array(getattr(tensor.contents, field), dtype=dtype)
    except OverflowError as error:
        raise _bad_contents(tensor, f"has a value outside {datatype}: {error}") from error


def _bad_contents(tensor: InputTensor, problem: str) -> CallerError:
    return CallerError(Reason.INPUT_CONTENTS, f"input {tensor.name!r} {problem}")


def append_output(response: messages.ModelInferResponse, name: str, datatype: Datatype, values: Array) -> None:
    """Adds one output to the response, in raw form."""
    response.outputs.add(name=name, datatype=datatype, shape=values.shape)
    response.raw_output_contents.append(values.astype(WIRE_FORMS[datatype].dtype, copy=False).tobytes())
