"""What a message means to everybody else: read with tritonclient's generated code and numpy, the product not asked.

Only what can be decoded without doubt is a meaning; everything else is None, and the product must refuse it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tritonclient.grpc as triton
from google.protobuf.message import DecodeError, Message

from tests.fuzz.wire import DELIMITED, spans

pb = triton.service_pb2

RAW = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
TYPED = {"FP32": ("fp32_contents", "<f4"), "FP64": ("fp64_contents", "<f8")}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor's name, datatype, and shape, its values as float64 in C order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray


def parsed(type_: type[Message], content: bytes) -> Message | None:
    """The message, or None where the bytes are none."""
    try:
        return type_.FromString(content)
    except DecodeError:
        return None


def tensor(tensors: Sequence[Message], raw: Sequence[bytes], name: str) -> Tensor | None:
    """The one tensor of this name; None where there is not exactly one, or its contents do not fit its shape."""
    places = [index for index, each in enumerate(tensors) if each.name == name]
    if len(places) != 1:
        return None
    found = tensors[places[0]]
    shape = tuple(found.shape)
    if len(shape) > 32 or any(size < 0 or size > 1 << 20 for size in shape):
        return None
    values = _raw_values(found, raw, places[0], len(tensors)) if raw else _typed_values(found)
    if values is None or values.size != np.prod([int(size) for size in shape], dtype=object):
        return None
    return Tensor(name, found.datatype, shape, values)


def _raw_values(found: Message, raw: Sequence[bytes], place: int, count: int) -> np.ndarray | None:
    if len(raw) != count or found.contents.ByteSize():
        return None
    content = raw[place]
    if found.datatype == "BF16" and len(content) % 2 == 0:
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    dtype = RAW.get(found.datatype)
    if dtype is None or len(content) % np.dtype(dtype).itemsize:
        return None
    return np.frombuffer(content, dtype).astype(np.float64)


def _typed_values(found: Message) -> np.ndarray | None:
    if found.datatype not in TYPED:
        return None
    field, dtype = TYPED[found.datatype]
    if [each.name for each, _ in found.contents.ListFields()] != [field]:
        return None
    return np.array(getattr(found.contents, field), dtype).astype(np.float64)


def parameter_keys(content: bytes, number: int) -> set[str]:
    """The keys of the parameters in this field, read off the wire itself: an entry counts whatever else is in it.

    Not read with the protobuf runtime, which is the product's too and sets entries with unknown fields aside.
    """
    keys = set()
    for span in spans(content):
        if (span.number, span.wire_type) == (number, DELIMITED):
            entry = content[span.payload : span.end]
            named = [entry[f.payload : f.end] for f in spans(entry) if (f.number, f.wire_type) == (1, DELIMITED)]
            keys.add(named[-1].decode() if named else "")
    return keys


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal value for value, zeros' signs included, any NaN as good as any other."""
    one, other = (np.ascontiguousarray(np.where(np.isnan(each), np.nan, each)) for each in (one, other))
    return one.shape == other.shape and one.tobytes() == other.tobytes()
