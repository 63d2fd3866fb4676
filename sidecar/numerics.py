"""Every tolerance, rounding rule and error bound, each with its unit and its reason.

Helpers for rounding real (rational) numbers to wire datatypes live here too.
"""

from fractions import Fraction
from typing import Final

DEFAULT_MARGIN: Final = Fraction(0)
"""How far inside a requirement `project` aims, in units of a literal's value, where the property does not say.

Zero moves an answer as little as possible: strict literals are then met by the rounding rule alone
(the margin grows until the values rounded to the wire datatype satisfy exactly)."""

UNIT_ROUNDOFF_64: Final = 2.0**-53
"""Largest relative error of one float64 operation, rounding to nearest."""

UNIT_ROUNDOFF_32: Final = 2.0**-24
"""Largest relative error of one float32 operation, rounding to nearest."""
