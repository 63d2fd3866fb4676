"""A payload that is a .npy file with one array: rows first where the model has a batch axis, then the row's shape.

The header is a Python literal; it is matched against the one form that writers of such files use, and never
evaluated. Refused are arrays in Fortran order, of another datatype or byte order, and files with anything behind
the array: readers differ in what they make of that, or make something else of it.

Source: numpy's description of the .npy format, versions 1.0, 2.0 and 3.0.
"""

import dataclasses
import re
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.protocols.open_inference.contents import Defect, TensorDefect, replace_raw
from sidecar.protocols.torchserve.side import check_rows, decode
from sidecar.tensors import Datatype, Rows, TensorSpec, encode_raw, item_size

MAX_HEADER_BYTES: Final = 1024
"""numpy writes 118 for any shape that occurs, and accepts 10,000."""

DESCRIPTIONS: Final = {
    Datatype.BOOL: "|b1",
    Datatype.UINT8: "|u1",
    Datatype.UINT16: "<u2",
    Datatype.UINT32: "<u4",
    Datatype.UINT64: "<u8",
    Datatype.INT8: "|i1",
    Datatype.INT16: "<i2",
    Datatype.INT32: "<i4",
    Datatype.INT64: "<i8",
    Datatype.FP16: "<f2",
    Datatype.FP32: "<f4",
    Datatype.FP64: "<f8",
}
"""As numpy's headers name them. It knows no BF16."""

_MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
"""Of the header's length, by version."""

_HEADER: Final = re.compile(
    rb"\{'descr': '([^'\\]{1,16})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,12}(?:, ?|(?=\))))*)\),? ?\} *\n?"
)
_ALIGNMENT: Final = 64


@dataclasses.dataclass(frozen=True)
class NpySide:
    """One tensor's values.

    Args:
        spec: the tensor; of a datatype in :data:`DESCRIPTIONS`.
        is_batched: whether the array's first dimension counts rows.
    """

    spec: TensorSpec
    is_batched: bool

    def read(self, payload: bytes) -> Rows:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        start = _data_start(payload)
        count = self._row_count(payload[start - _header_length(payload) : start])
        values, expected = payload[start:], count * self.spec.row_size * item_size(self.spec.datatype)
        if len(values) != expected:
            raise self._defect(Defect.CONTENTS, f"{len(values)} bytes of values", f"{expected} by its shape")
        return decode(values, self.spec).reshape(count, self.spec.row_size)

    def replace(self, payload: bytes, changed: npt.NDArray[np.bool_], rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        start = _data_start(payload)
        return payload[:start] + replace_raw(payload[start:], changed.reshape(-1), rows, self.spec.datatype)

    def write(self, rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        shape = (len(rows), *self.spec.row_shape) if self.is_batched else self.spec.row_shape
        text = f"{{'descr': '{DESCRIPTIONS[self.spec.datatype]}', 'fortran_order': False, 'shape': {shape}, }}"
        before = len(_MAGIC) + 2 + 2
        padding = -(before + len(text) + 1) % _ALIGNMENT
        header = text.encode("ascii") + b" " * padding + b"\n"
        head = _MAGIC + b"\x01\x00" + len(header).to_bytes(2, "little")
        return head + header + encode_raw(rows.reshape(-1), self.spec.datatype)

    def _row_count(self, header: bytes) -> int:
        match = _HEADER.fullmatch(header)
        if match is None:
            raise self._defect(Defect.CONTENTS, f"a header {header[:80]!r}", "one as numpy.save writes it")
        description, order, sizes = match[1].decode("latin-1"), match[2], match[3]
        wanted = DESCRIPTIONS[self.spec.datatype]
        if description != wanted:
            raise self._defect(Defect.DATATYPE, f"datatype {description!r}", repr(wanted))
        if order != b"False":
            raise self._defect(Defect.CONTENTS, "Fortran order", "C order")
        return self._rows_of(tuple(int(size) for size in sizes.replace(b" ", b"").split(b",") if size))

    def _rows_of(self, shape: tuple[int, ...]) -> int:
        count, row_shape = 1, shape
        if self.is_batched:
            count, row_shape = next(iter(shape), 0), shape[1:]
        if row_shape != self.spec.row_shape:
            expected = (["rows"] if self.is_batched else []) + list(map(str, self.spec.row_shape))
            raise self._defect(Defect.SHAPE, f"shape {list(shape)}", f"[{', '.join(expected)}]")
        check_rows(count, self.spec, self.is_batched)
        return count

    def _defect(self, defect: Defect, got: str, expected: str) -> TensorDefect:
        return TensorDefect(defect, f"tensor {self.spec.name!r} has {got}, expected {expected}")


def _header_length(payload: bytes) -> int:
    """Bytes of the header, as the file says. The file is known to be one."""
    size = _LENGTH_BYTES[payload[6:8]]
    return int.from_bytes(payload[8 : 8 + size], "little")


def _data_start(payload: bytes) -> int:
    """Where the values start.

    Raises:
        TensorDefect: the payload is no .npy file of a known version, or ends within its header.
    """
    if payload[:6] != _MAGIC or payload[6:8] not in _LENGTH_BYTES:
        raise TensorDefect(Defect.CONTENTS, f"got {payload[:8]!r}, expected a .npy file of version 1.0, 2.0 or 3.0")
    length = _header_length(payload)
    start = 8 + _LENGTH_BYTES[payload[6:8]] + length
    if length > MAX_HEADER_BYTES or start > len(payload):
        raise TensorDefect(
            Defect.CONTENTS,
            f"a .npy header of {length} bytes in a file of {len(payload)}; expected at most {MAX_HEADER_BYTES}, whole",
        )
    return start
