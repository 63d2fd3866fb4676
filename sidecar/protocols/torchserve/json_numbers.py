"""The numbers of a JSON document: what they mean in a datatype, and how a value is written.

A JSON number is a decimal. Some readers round it to a datatype at once, others make a float64 of it first and round
that, and the two may differ: where the float64 lies exactly between two FP32 values, and the decimal does not. Such a
number is refused. It takes some 17 digits that hit one place in 2**29.

Source: RFC 8259, section 6; `NaN`, `Infinity` and `-Infinity` are what Python's writer adds to it.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.protocols.open_inference.contents import Defect, TensorDefect
from sidecar.tensors import Datatype

DATATYPES: Final = (Datatype.FP32, Datatype.FP64)
"""What a number can be read as. Readers differ in how they get to smaller ones."""

MAX_CHARACTERS: Final = 400
"""Of one number. Exact values of float64 with all their digits would be longer; nobody writes those."""

_OVERFLOW_HALFWAY: Final = 2.0**128 - 2.0**103
"""Between the largest FP32 value and what would follow it."""


def decode_numbers(texts: Sequence[str], datatype: Datatype) -> npt.NDArray[np.float64]:
    """Numbers as they stand in a document, as values of a datatype; float64, shape (number,).

    Raises:
        TensorDefect: one is too long, or readers differ about it.
    """
    longest = max(texts, key=len, default="")
    if len(longest) > MAX_CHARACTERS:
        raise TensorDefect(Defect.CONTENTS, f"a number of {len(longest)} characters, at most {MAX_CHARACTERS} are read")
    doubles = np.array([float(text) for text in texts], dtype=np.float64)
    if datatype is Datatype.FP64:
        return doubles
    with np.errstate(over="ignore", under="ignore"):
        singles = doubles.astype(np.float32)
    for index in np.flatnonzero(_halfway(doubles, singles)).tolist():
        if Fraction(texts[index]) != Fraction(float(doubles[index])):
            raise TensorDefect(
                Defect.CONTENTS,
                f"{texts[index]} is read as one of two {datatype} values, depending on the reader; write it otherwise",
            )
    return singles.astype(np.float64)


def _halfway(doubles: npt.NDArray[np.float64], singles: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which float64 values lie exactly in the middle between two neighbouring FP32 values.

    The differences are exact where it matters: a value in the middle and its neighbours are within a factor of two of
    one another, or one of them is zero.
    """
    nearest = singles.astype(np.float64)
    towards = np.where(doubles > nearest, np.inf, -np.inf).astype(np.float32)
    with np.errstate(all="ignore"):
        across = np.nextafter(singles, towards).astype(np.float64)
        middle = (doubles != nearest) & (doubles - nearest == across - doubles)
    return np.asarray(middle | (np.abs(doubles) == _OVERFLOW_HALFWAY))


def encode_number(value: float) -> str:
    """A finite value of FP32 or FP64, with as many digits as make every reader read this very value."""
    return repr(float(value))
