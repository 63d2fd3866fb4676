"""What a certificate says besides "all that the bundle claims is true": what makes that easy to see.

Nothing here is believed. A wrong hint lets a true claim go unproved; it cannot make a false one pass.
"""

import dataclasses
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic

PIECE = -1
"""In ``LeafProofs.splits``: this box is not divided further."""


@dataclasses.dataclass(frozen=True, eq=False)
class LeafProofs:
    """How the claims of one region's coverage tree are proved: its leaves in pieces, and a hint for each piece.

    The silent and the violating leaves, in the order of their nodes, are the first round of boxes. Each is a piece, or
    divided at a threshold of a feature; the lower parts of a round's divided boxes and then the upper parts, both in
    their parents' order, are the next round.

    Args:
        splits: int32; for each box of each round the feature that it is divided along, or ``PIECE``.
        thresholds: float64; for each box that is divided, in the same order.
        weights: uint8 (piece, literal), literals as the requirement's clauses list them; a silent piece's weighted
        sum of
            each clause's literals is positive all over it.
        clause: int32 (piece,); which clause has no literal that holds anywhere in a violating piece.
    """

    splits: npt.NDArray[np.int32]
    thresholds: npt.NDArray[np.float64]
    weights: npt.NDArray[np.uint8]
    clause: npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Divide:
    """The cell in two; what follows is about the lower part, then about the upper, both with the threshold."""

    feature: int
    threshold: Fraction


@dataclasses.dataclass(frozen=True)
class Answer:
    """These output values satisfy, all over the cell, whatever must be satisfied together there."""

    outputs: tuple[Fraction, ...]


@dataclasses.dataclass(frozen=True)
class Apart:
    """Regions that have no common point in the cell: what their boxes share there is nothing, or a positive
    combination of their cuts is negative all over it.

    What follows is the cell without the first of them, then without the second and so on.

    Args:
        nodes: (gate, region) pairs.
        cuts: (gate, region, cut, factor) of each cut that is combined.
    """

    nodes: tuple[tuple[int, int], ...]
    cuts: tuple[tuple[int, int, int, Fraction], ...]


Step: TypeAlias = Divide | Answer | Apart


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """A certificate's contents.

    Args:
        bundle_digest: of the bundle that it is about, as it was sealed; SHA-256, lower-case hex.
        model_digest: of the model's file, likewise.
        arithmetic: that the proofs are for, besides real arithmetic.
        meeting: how required answers exist wherever regions meet; see :mod:`sidecar.certificate.meeting`.
        leaves: per gate, one entry per region of its domain.
    """

    bundle_digest: str
    model_digest: str
    arithmetic: Arithmetic
    meeting: tuple[Step, ...]
    leaves: tuple[tuple[LeafProofs, ...], ...]
