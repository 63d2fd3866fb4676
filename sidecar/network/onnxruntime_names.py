"""What onnxruntime calls the datatypes of tensors."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.tensors import Datatype

ONNXRUNTIME_DATATYPES: Final[Mapping[str, Datatype]] = MappingProxyType(
    {
        "tensor(bool)": Datatype.BOOL,
        "tensor(uint8)": Datatype.UINT8,
        "tensor(uint16)": Datatype.UINT16,
        "tensor(uint32)": Datatype.UINT32,
        "tensor(uint64)": Datatype.UINT64,
        "tensor(int8)": Datatype.INT8,
        "tensor(int16)": Datatype.INT16,
        "tensor(int32)": Datatype.INT32,
        "tensor(int64)": Datatype.INT64,
        "tensor(float16)": Datatype.FP16,
        "tensor(float)": Datatype.FP32,
        "tensor(double)": Datatype.FP64,
    }
)
"""By name; strings, which have no numeric meaning, aside."""
