"""One side of a model's payloads, inputs or outputs: from bytes to rows, and changed rows back into bytes.

Raw values, a .npy file and a JSON document are the three implementations.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from sidecar.protocols.open_inference.contents import Defect, TensorDefect
from sidecar.tensors import Rows, TensorSpec, decode_raw


class Side(Protocol):
    """How the tensors of one side are laid out in a payload. Rows are float64 (row, feature)."""

    def read(self, payload: bytes) -> Rows:
        """The rows, at least one; may hold NaN and infinity.

        Raises:
            TensorDefect: the payload is something else, or two readers might read it differently.
        """

    def replace(self, payload: bytes, changed: npt.NDArray[np.bool_], rows: Rows) -> bytes:
        """A payload that was read, with the changed values replaced and all else as it was.

        Args:
            payload: as it was read.
            changed: bool (row, feature).
            rows: what it is to read as; changed values are representable in their datatype.
        """

    def write(self, rows: Rows) -> bytes:
        """A payload of our own with these rows, which are representable in their datatypes."""


def check_rows(count: int, spec: TensorSpec, is_batched: bool) -> None:
    """Refuse a number of rows that the model does not take.

    Raises:
        TensorDefect: none, or several where the model takes one.
    """
    if count < 1 or (count > 1 and not is_batched):
        expected = "1 or more" if is_batched else "1"
        raise TensorDefect(Defect.SHAPE, f"tensor {spec.name!r} has {count} rows, expected {expected}")


def decode(raw: bytes, spec: TensorSpec) -> npt.NDArray[np.float64]:
    """Little-endian values of a tensor, flat.

    Raises:
        TensorDefect: one cannot be judged.
    """
    try:
        return decode_raw(raw, spec.datatype)
    except ValueError as error:
        raise TensorDefect(Defect.CONTENTS, f"tensor {spec.name!r}: {error}") from error
