"""Numbers of property files, read exactly: 0.1 is one tenth, and 1/150 is what it says.

All numbers have a bounded size, so that no file can make exact arithmetic slow.
"""

import re
from fractions import Fraction
from typing import Final

from sidecar.properties.source import Complaint, shown

MAX_NUMBER_CHARACTERS: Final = 1000
"""Length of one written number; every float64 value written out in full fits."""

MAX_EXPONENT: Final = 400
"""Size of a written decimal exponent."""

MAX_MAGNITUDE: Final = Fraction(2) ** 1000
"""Beyond any sensible quantity, and well inside the range of float64, which other rooms compute in."""

MAX_BITS: Final = 3400
"""Bits in the numerator and in the denominator of any number; 1024 decimal digits, what a bundle holds."""

DECIMAL: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""Regular expression for a decimal number without its sign."""

_SIGNED = re.compile(rf"[+-]?{DECIMAL}")
_RATIONAL = re.compile(rf"({_SIGNED.pattern})(?:\s*/\s*({DECIMAL}))?")


def decimal(text: str) -> Fraction:
    """The exact value of a decimal number such as ``-0.5``, ``3`` or ``1e-3``.

    Raises:
        Complaint: not such a number, or longer or larger than the limits above.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise Complaint(f"a number of {len(text)} characters; at most {MAX_NUMBER_CHARACTERS} are read")
    if not _SIGNED.fullmatch(text):
        raise Complaint(f"expected a number such as 0.5 or -3e2, got {shown(text)}")
    exponent = re.split("[eE]", text)[1:]
    if exponent and abs(int(exponent[0])) > MAX_EXPONENT:
        raise Complaint(f"{shown(text)}: an exponent beyond {MAX_EXPONENT}; use another unit")
    return bounded(Fraction(text))


def rational(text: str) -> Fraction:
    """The exact value of a decimal number, or of one divided by another, such as ``-1/150``.

    Raises:
        Complaint: not such a number, a division by zero, or beyond the limits above.
    """
    match = _RATIONAL.fullmatch(text) if len(text) <= 2 * MAX_NUMBER_CHARACTERS else None
    if match is None:
        raise Complaint(f"expected a number such as 0.5, -3e2 or 1/150, got {shown(text)}")
    denominator = decimal(match[2] or "1")
    if denominator == 0:
        raise Complaint(f"division by zero in {shown(text)}")
    return bounded(decimal(match[1]) / denominator)


def bounded(value: Fraction) -> Fraction:
    """The same value, if it is small enough to compute with.

    Raises:
        Complaint: beyond ``MAX_MAGNITUDE`` or ``MAX_BITS``.
    """
    if abs(value) > MAX_MAGNITUDE:
        raise Complaint("a number beyond 1e301 in magnitude; use another unit")
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Complaint(f"a number that takes more than {MAX_BITS} bits to write exactly; use fewer digits")
    return value
