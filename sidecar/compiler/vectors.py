"""Which rows a bundle is self-tested on, and later the upstream probed with.

Every gate is met from all sides: counterexamples, corners and centre of its boxes, points strewn over them, and
a point just outside. All rows are wire values; the choice is seeded, so the same inputs give the same vectors.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sidecar.gates.effective import wire_bounds
from sidecar.gates.values import Box, Gate
from sidecar.numerics import next_down, round_array
from sidecar.tensors import Datatype, Rows

COUNTEREXAMPLES_PER_GATE = 16
SAMPLES_PER_BOX = 8
BOXES_PER_GATE = 8


def vector_inputs(gates: Sequence[Gate], counterexamples: Sequence[Rows], datatypes: Sequence[Datatype]) -> Rows:
    """Input rows for the vectors, without repetitions.

    Args:
        gates: the bundle's gates.
        counterexamples: per gate, wire rows that were seen to violate.
        datatypes: of each value of an input row.

    Returns:
        float64 (vector, input), at least one row.
    """
    random = np.random.default_rng(0)
    groups: list[Rows] = []
    for gate, found in zip(gates, counterexamples, strict=True):
        groups.append(found[:COUNTEREXAMPLES_PER_GATE])
        groups.extend(_around(region.box, datatypes, random) for region in gate.domain[:BOXES_PER_GATE])
    return np.unique(np.concatenate(groups), axis=0)


def _around(box: Box, datatypes: Sequence[Datatype], random: np.random.Generator) -> Rows:
    lower, upper = wire_bounds(box, datatypes)
    corners = np.where(random.random((SAMPLES_PER_BOX, lower.size)) < 0.5, lower, upper)
    shares = random.random((SAMPLES_PER_BOX, lower.size))
    inside = np.concatenate([[lower / 2 + upper / 2], lower * (1 - shares) + upper * shares])
    rounded = np.clip([round_array([Fraction(v) for v in row], datatypes) for row in inside], lower, upper)
    return np.concatenate([[lower, upper], corners, rounded, _outside(lower, upper, datatypes)])


def _outside(lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64], datatypes: Sequence[Datatype]) -> Rows:
    """The corner's neighbour below the box in its first feature; none where the datatype ends there."""
    row = upper.copy()
    try:
        row[0] = next_down(float(lower[0]), datatypes[0])
    except OverflowError:
        return np.empty((0, row.size))
    return row[np.newaxis]
