"""Every silent and every violating leaf, proved again from the network and the requirement alone.

What a leaf claims: *silent*, at every point of its box each clause of the requirement has a literal that holds, or the
point is outside the region's cuts; *violating*, no point of its box is outside the cuts, and at each some clause has no
literal that holds. "Outside a cut" is one literal more in every clause, the cut's negation, and so both claims are
about clauses alone.

A silent piece is proved by a combination of each clause's literals, with factors that are not negative: where it is
positive, one of the literals is, and a positive literal holds whether it is strict or not. A violating piece is
proved by one clause: the negation of each of its literals is positive. (So one proof serves both ways to read a tie.)

A leaf's box follows from the tree: rows with ``x[feature] <= threshold`` go left. Both sides of a split, and the pieces
that a leaf is divided into, are taken with their boundaries, so together they leave nothing of the leaf out; that the
tree's leaves leave nothing of the region's box out, acceptance has checked (``coverage_rules``).
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.certificate.bounds import Enclosure, Floats, Indices, Rows, Staged, enclose, lower_bound
from sidecar.certificate.values import PIECE, LeafProofs
from sidecar.gates.values import Box, Clause, Literal, Region, Requirement, Terms
from sidecar.network.values import Network
from sidecar.numerics import largest_finite, largest_not_above, smallest_not_below
from sidecar.tensors import Datatype

Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class Demand:
    """A requirement on a region's box as float64 rows.

    Args:
        literals: one row each, clause by clause.
        clauses: which rows are whose.
    """

    literals: Rows
    clauses: tuple[slice, ...]

    @property
    def widest(self) -> int:
        """Literals of the longest clause."""
        return max((clause.stop - clause.start for clause in self.clauses), default=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """Boxes, and what is claimed of each.

    Args:
        lower, upper: float64 (piece, input); the box with its boundary.
        silent: bool (piece,); else violating.
        weights, clause: the hints, see :class:`LeafProofs`.
        leaf: the tree's node.
    """

    lower: Floats
    upper: Floats
    silent: Flags
    weights: npt.NDArray[np.uint8]
    clause: npt.NDArray[np.int32]
    leaf: Indices

    def __len__(self) -> int:
        return len(self.leaf)

    def at(self, chosen: slice | Flags) -> "Pieces":
        """Some of them."""
        return Pieces(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def portions(self, size: int) -> list["Pieces"]:
        """All of them in order, so many at a time."""
        return [self.at(slice(start, start + size)) for start in range(0, len(self), size)]


def demand(requirement: Requirement, region: Region, network: Network) -> Demand:
    """What must hold on the whole box: each clause, or outside the cuts."""
    inputs, outputs = network.signature.input_size, network.signature.output_size
    outside = tuple(cut.negated() for cut in region.cuts)
    clauses: list[Clause] = [(*clause, *outside) for clause in requirement.clauses]
    ends = np.cumsum([0, *map(len, clauses)]).tolist()
    literals = [literal for clause in clauses for literal in clause]
    return Demand(_rows(literals, inputs, outputs), tuple(map(slice, ends[:-1], ends[1:])))


def _rows(literals: Sequence[Literal], inputs: int, outputs: int) -> Rows:
    output = _dense([literal.outputs for literal in literals], outputs)
    own = _dense([literal.inputs for literal in literals], inputs)
    offset = np.array([_nearest(literal.offset) for literal in literals])
    return Rows(output, own, offset, np.abs(output), np.abs(own), np.abs(offset))


def _dense(forms: Sequence[Terms], size: int) -> Floats:
    matrix = np.zeros((len(forms), size))
    for row, form in zip(matrix, forms, strict=True):
        for index, coefficient in form:
            row[index] = _nearest(coefficient)
    return matrix


def _nearest(number: Fraction) -> float:
    """The float64 nearest to a number; no number where it is too large, and nothing is proved with it."""
    return float(number) if abs(number) <= largest_finite(Datatype.FP64) else np.nan


def claims(tree: CoverageTree, box: Box) -> tuple[Floats, Floats, Indices]:
    """The boxes (leaf, input) of a tree's silent and violating leaves, and their nodes, ascending.

    The region's box is rounded outwards; where it exceeds float64 its bounds are infinite, and nothing is proved there.
    """
    lower, upper = (np.empty((len(tree.feature), len(box.lower))) for _ in range(2))
    lower[0], upper[0] = _outwards(box)
    nodes = np.zeros(1, dtype=np.intp)
    while len(nodes := nodes[tree.feature[nodes] != LEAF]):
        feature, left, right = tree.feature[nodes], tree.left[nodes], tree.right[nodes]
        for child in (left, right):
            lower[child], upper[child] = lower[nodes], upper[nodes]
        upper[left, feature] = lower[right, feature] = tree.threshold[nodes]
        nodes = np.concatenate([left, right]).astype(np.intp)
    claimed = np.flatnonzero((tree.label == Label.SILENT) | (tree.label == Label.VIOLATING))
    return lower[claimed], upper[claimed], claimed


def _outwards(box: Box) -> tuple[list[float], list[float]]:
    largest = largest_finite(Datatype.FP64)
    lower = [largest_not_above(low, Datatype.FP64) if abs(low) <= largest else -np.inf for low in box.lower]
    upper = [smallest_not_below(high, Datatype.FP64) if abs(high) <= largest else np.inf for high in box.upper]
    return lower, upper


def pieces(tree: CoverageTree, box: Box, wanted: Demand, proofs: LeafProofs) -> Pieces:
    """The pieces of a tree's claims. Raises ValueError where the proofs do not fit the tree."""
    lower, upper, leaf = claims(tree, box)
    whole: list[tuple[Floats, Floats, Indices]] = []
    at = divided = 0
    while len(leaf):
        feature = proofs.splits[at : at + len(leaf)]
        at += len(leaf)
        if len(feature) < len(leaf) or (feature < PIECE).any() or (feature >= len(box.lower)).any():
            raise ValueError(f"{len(proofs.splits)} divisions do not fit the tree's claims")
        piece = feature == PIECE
        whole.append((lower[piece], upper[piece], leaf[piece]))
        threshold = proofs.thresholds[divided : (divided := divided + int((~piece).sum()))]
        lower, upper, leaf = parts(lower[~piece], upper[~piece], leaf[~piece], feature[~piece], threshold)
    whole = whole or [(lower, upper, leaf)]
    lower, upper = (np.concatenate([each[place] for each in whole]) for place in range(2))
    leaf = np.concatenate([each[2] for each in whole])
    counts = len(proofs.splits), len(proofs.thresholds), proofs.weights.shape, len(proofs.clause)
    if counts != (at, divided, (len(leaf), len(wanted.literals.offset)), len(leaf)):
        raise ValueError(f"hints for {len(proofs.clause)} pieces, the tree's claims are divided into {len(leaf)}")
    return Pieces(lower, upper, tree.label[leaf] == Label.SILENT, proofs.weights, proofs.clause, leaf)


def parts(
    lower: Floats, upper: Floats, leaf: Indices, feature: npt.NDArray[np.int32], threshold: Floats
) -> tuple[Floats, Floats, Indices]:
    """Boxes divided: all lower parts, then all upper ones, both with the threshold.

    Raises ValueError where a threshold does not lie in its box, or there is none.
    """
    each = np.arange(len(leaf))
    if (
        len(threshold) != len(leaf)
        or not ((lower[each, feature] <= threshold) & (threshold <= upper[each, feature])).all()
    ):
        raise ValueError("a leaf is divided outside of itself")
    lowered, raised = upper.copy(), lower.copy()
    lowered[each, feature] = raised[each, feature] = threshold
    return np.concatenate([lower, raised]), np.concatenate([lowered, upper]), np.concatenate([leaf, leaf])


def established(network: Staged, wanted: Demand, some: Pieces) -> Flags:
    """Which pieces' claims are proved, bool (piece,). Sound: True is a theorem; False says nothing."""
    return proved_within(enclose(network, some.lower, some.upper), wanted, some)


def proved_within(known: Enclosure, wanted: Demand, some: Pieces) -> Flags:
    """:func:`established`, with the pieces' enclosure at hand."""
    proved = some.silent.copy()
    (silent,) = some.silent.nonzero()
    for number, clause in enumerate(wanted.clauses):
        factors = some.weights[silent, clause].astype(np.float64)
        proved[silent] &= lower_bound(known, combined(wanted, clause, factors), silent) > 0.0
        (violating,) = (~some.silent & (some.clause == number)).nonzero()
        proved[violating] = True
        for literal in range(clause.start, clause.stop):
            refuting = combined(wanted, slice(literal, literal + 1), np.full((len(violating), 1), -1.0))
            proved[violating] &= lower_bound(known, refuting, violating) > 0.0
    return proved


def combined(wanted: Demand, literals: slice, factors: Floats) -> Rows:
    """One row per row of ``factors`` (row, literal): that combination of some literals."""
    all_rows, size = wanted.literals.at(literals), np.abs(factors)
    return Rows(
        outputs=factors @ all_rows.outputs,
        inputs=factors @ all_rows.inputs,
        offset=factors @ all_rows.offset,
        output_magnitude=size @ all_rows.output_magnitude,
        input_magnitude=size @ all_rows.input_magnitude,
        offset_magnitude=size @ all_rows.offset_magnitude,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One region's proofs, to be done anywhere."""

    network: Staged
    wanted: Demand

    def proved(self, some: Pieces) -> Flags:
        """As :func:`established`, a batch after the other."""
        batches = some.portions(self.network.batch)
        return np.concatenate(
            [np.ones(0, np.bool_), *(established(self.network, self.wanted, each) for each in batches)]
        )


def described(some: Pieces, place: int) -> str:
    """A piece in words, for who must look at it."""
    shown = zip(some.lower[place].tolist()[:8], some.upper[place].tolist()[:8], strict=True)
    box = ", ".join(f"[{low!r}, {high!r}]" for low, high in shown)
    more = ", ..." if some.lower.shape[1] > 8 else ""
    claim = "silent" if some.silent[place] else "violating"
    return f"leaf {int(some.leaf[place])}, {claim}: not proved on the box {box}{more}"
