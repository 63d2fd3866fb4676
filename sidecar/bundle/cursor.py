"""Reading a binary section from its beginning to its end, nothing left over, nothing allocated on trust."""

import dataclasses
import math
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from sidecar.errors import BundleError, Reason

COUNT: Final = np.dtype("<u4")
"""How counts and lengths stand in binary sections."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


def count_bytes(count: int) -> bytes:
    """A count as :meth:`Cursor.count` reads it. Raises OverflowError beyond 32 bits."""
    return count.to_bytes(COUNT.itemsize, "little")


@dataclasses.dataclass
class Cursor:
    """A place in a section's payload.

    Args:
        payload: the whole section.
        where: the section's name, for messages.
        reason: why the bundle is refused when the payload does not hold what it should.
    """

    payload: bytes
    where: str
    reason: Reason
    at: int = 0

    def count(self, at_most: int) -> int:
        """A number of things to follow, within the limit."""
        count = int.from_bytes(self.take(COUNT.itemsize), "little")
        if count > at_most:
            raise self.error(f"a count of {count} at byte {self.at - COUNT.itemsize}, expected at most {at_most}")
        return count

    def array(self, dtype: type[_Scalar], *shape: int) -> npt.NDArray[_Scalar]:
        """An array in C order, copied to the machine's own byte order and read-only."""
        wire = np.dtype(dtype).newbyteorder("<")
        size = math.prod(shape) * wire.itemsize
        array = np.frombuffer(self.take(size), dtype=wire).reshape(shape).astype(dtype)
        array.setflags(write=False)
        return array

    def take(self, size: int) -> bytes:
        """The next bytes."""
        left = len(self.payload) - self.at
        if size > left:
            raise self.error(f"{left} bytes left at byte {self.at}, expected {size}")
        self.at += size
        return self.payload[self.at - size : self.at]

    def finish(self) -> None:
        """Raises unless everything was read."""
        if self.at != len(self.payload):
            raise self.error(f"{len(self.payload) - self.at} bytes beyond its end, expected none")

    def error(self, got: str) -> BundleError:
        """Got and expected, with where and what to do."""
        return BundleError(self.reason, f"{self.where}: got {got}; compile the bundle again")
