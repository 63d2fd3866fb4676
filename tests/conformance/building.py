"""How cases are written down: shorter than their bytes, and no cleverer."""

from sidecar.errors import Reason
from tests.conformance.expectations import Case, Corrected, Error, VeryBytes

NAN, INFINITY = float("nan"), float("inf")
UNTOUCHED, OUTSIDE, UNJUDGED = VeryBytes("untouched"), VeryBytes("outside"), VeryBytes("unjudged")


def case(name: str, asked, answered, expected) -> Case:
    """A case from messages or bytes; its name with dashes."""
    as_bytes = [m if isinstance(m, bytes) else m.SerializeToString() for m in (asked, answered)]
    return Case(name.replace(" ", "-"), *as_bytes, expected)


def refused(reason: Reason) -> Error:
    """Before the upstream saw anything."""
    return Error(reason)


def failed(reason: Reason) -> Error:
    """After the upstream answered."""
    return Error(reason, forwarded=True)


def projected(*y: float) -> Corrected:
    """One row of y."""
    return Corrected(y=(y,))
