"""Which of a bundle's vectors the upstream is probed with, and what its answers show: pure.

The tolerance is no guess: the bundle has the bounds between which every evaluation of the verified model in the
declared arithmetic lies. So a mismatch is never a false alarm; the upstream computes another function, or in another
arithmetic. A match shows little, for probing is sampling: it is no proof that the model is the same.
"""

import dataclasses
import enum
import math
from fractions import Fraction
from typing import Final

import numpy as np

from sidecar.bundle.values import SelfTestVectors
from sidecar.numerics import round_to_datatype
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.tensors import Datatype, ModelSignature, Rows

MAX_ROWS: Final = 32
"""In one probe, each a request of its own. Different models differ nearly everywhere."""


class ProbeResult(enum.StrEnum):
    """What a probe showed; a metric label."""

    MATCH = "match"
    MISMATCH = "mismatch"
    UNASKED = "unasked"  # no answers: nothing is shown


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a probe showed.

    Args:
        result: see :class:`ProbeResult`.
        detail: in words, for who operates the sidecar.
        rows: how many answers were compared.
    """

    result: ProbeResult
    detail: str
    rows: int = 0


NOTHING_CERTIFIED: Final = Verdict(
    ProbeResult.UNASKED,
    "the bundle does not say how the verified model answers, so there is nothing to compare with; set probe: report or "
    "off, or compile it from a model that can be proved",
)


def probed_rows(vectors: SelfTestVectors, turn: int) -> list[int]:
    """The vectors for the ``turn``-th probe: at most ``MAX_ROWS``, spread over all; turns go round through them."""
    known = np.flatnonzero(vectors.certified)
    step = max(1, -(-len(known) // MAX_ROWS))
    return [int(row) for row in known[turn % step :: step]]


def mismatch(bundle: ActiveBundle, row: int, got: Rows) -> Verdict | None:
    """What is wrong with the upstream's answer to a vector, float64 (output,); None where nothing is.

    NaN lies in no interval; where nothing is known, anything may be answered.
    """
    lower, upper = (
        _as_read(bundle, bounds[row]) for bounds in (bundle.bundle.vectors.lower, bundle.bundle.vectors.upper)
    )
    wrong = np.flatnonzero(np.isfinite(lower) & ~((lower <= got) & (got <= upper)))
    if not len(wrong):
        return None
    column = int(wrong[0])
    name = _output_name(bundle.signature, column)
    return another_model(
        bundle,
        row,
        f"output {name} is {float(got[column])!r}, expected from {float(lower[column])!r} to {float(upper[column])!r}",
    )


def _as_read(bundle: ActiveBundle, bounds: Rows) -> Rows:
    """Bounds of what clients read, float64 (output,): rounding keeps the order, so it takes bounds to bounds."""
    if bundle.signature == bundle.bundle.manifest.signature:
        return bounds
    datatypes = bundle.signature.output_datatypes()
    return np.array([_rounded(bound, kind) for bound, kind in zip(bounds.tolist(), datatypes, strict=True)])


def _rounded(bound: float, datatype: Datatype) -> float:
    try:
        return round_to_datatype(Fraction(bound), datatype)
    except OverflowError:  # it is infinite, or reads as infinity
        return math.copysign(math.inf, bound)


def another_model(bundle: ActiveBundle, row: int, what: str) -> Verdict:
    """The upstream's answer to a vector cannot be the verified model's."""
    manifest = bundle.bundle.manifest
    return Verdict(
        ProbeResult.MISMATCH,
        f"vector {row}: {what}; the upstream serves another model than the verified one (sha256 "
        f"{manifest.model_digest[:12]}...), or in another arithmetic than {manifest.arithmetic}: serve that one, with "
        "reduced precision (TF32, FP16) off, or compile a bundle for this one, with --arithmetic if it is that",
    )


def _output_name(signature: ModelSignature, column: int) -> str:
    names = [f"{spec.name}[{index}]" for spec in signature.outputs for index in range(spec.row_size)]
    return names[column]
