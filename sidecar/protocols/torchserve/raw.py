"""A payload of bare values: little-endian, row after row. How many rows there are, its length says."""

import dataclasses

import numpy as np
import numpy.typing as npt

from sidecar.protocols.open_inference.contents import Defect, TensorDefect, replace_raw
from sidecar.protocols.torchserve.side import check_rows, decode
from sidecar.tensors import Rows, TensorSpec, encode_raw, item_size


@dataclasses.dataclass(frozen=True)
class RawSide:
    """One tensor's values.

    Args:
        spec: the tensor; of any datatype.
        is_batched: whether there may be several rows.
    """

    spec: TensorSpec
    is_batched: bool

    def read(self, payload: bytes) -> Rows:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        row_bytes = self.spec.row_size * item_size(self.spec.datatype)
        if len(payload) % row_bytes:
            raise TensorDefect(
                Defect.CONTENTS,
                f"tensor {self.spec.name!r} has {len(payload)} bytes, expected a multiple of {row_bytes}: rows of "
                f"{self.spec.row_size} {self.spec.datatype} values",
            )
        count = len(payload) // row_bytes
        check_rows(count, self.spec, self.is_batched)
        return decode(payload, self.spec).reshape(count, self.spec.row_size)

    def replace(self, payload: bytes, changed: npt.NDArray[np.bool_], rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        return replace_raw(payload, changed.reshape(-1), rows, self.spec.datatype)

    def write(self, rows: Rows) -> bytes:
        """See :class:`~sidecar.protocols.torchserve.side.Side`."""
        return encode_raw(rows.reshape(-1), self.spec.datatype)
