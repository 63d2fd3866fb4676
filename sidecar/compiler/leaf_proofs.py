"""Hints that let the checker prove a coverage tree's leaves; what it cannot prove of a leaf becomes open.

The checker's own bounds decide here too, with more charged for rounding than it charges itself, so that what passes
here passes on every machine. They are looser than the search's, so a leaf as the search settled it may have to be
divided into pieces; and the leaves of the bundle's tree, merged from those, always are. Nothing here is trusted.
"""

import dataclasses
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.certificate.bounds import Enclosure, Staged, enclose, lower_form
from sidecar.certificate.leaves import Demand, Pieces, claims, combined, parts, proved_within
from sidecar.certificate.processes import PORTION_BATCHES, Processes
from sidecar.certificate.values import PIECE, LeafProofs
from sidecar.compiler.split_tree import NODE, Nodes, merged
from sidecar.gates.values import Box

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.intp]

CARE: Final = 3.0
"""What is charged here for the checker's own rounding, as a multiple of what it charges."""

MOST_HALVINGS: Final = 8
"""How often a leaf is halved before what is not proved of it becomes open."""

_CHEAP: Final = 2**18
"""Weights of a stage up to which a leaf is halved that often."""

_FACTORS: Final = np.linspace(0.0, 1.0, 17)


@dataclasses.dataclass(frozen=True, eq=False)
class Proved:
    """A tree whose claims are provable, and how.

    Args:
        tree: merged.
        proofs: for its claims.
        opened: number of leaves of which a part became open; opened_volume: those parts' share of the region's box.
    """

    tree: CoverageTree
    proofs: LeafProofs
    opened: int
    opened_volume: float


def prove_leaves(
    network: Staged,
    wanted: Demand,
    unmerged: CoverageTree,
    box: Box,
    processes: Processes,
    progress: Callable[[int], None],
) -> Proved:
    """Find hints for the leaves of a search's tree, merge them, and arrange the hints as the merged tree needs them.

    Args:
        network: staged with ``CARE``.
        wanted: of the region.
        unmerged: the region's tree, each leaf as it was settled.
        box: the region's.
        processes: that look for hints.
        progress: told how many boxes have been bounded.
    """
    literals = len(wanted.literals.offset)
    divisions = _Divisions(unmerged, literals)
    lower, upper, leaf = claims(unmerged, box)
    node, bounded = leaf, 0
    halvings, hints, size = _halvings(network), _Hints(network, wanted), network.batch * PORTION_BATCHES
    for halving in range(halvings + 1):
        proved, feature = [np.zeros(0, np.bool_)], [np.zeros(0, np.intp)]
        portions = _blank(lower, upper, unmerged.label[leaf] == Label.SILENT, node, literals).portions(size)
        for portion, found in zip(portions, processes.map(hints.of, portions), strict=True):
            divisions.hint(portion.leaf, found)
            proved.append(found.proved)
            feature.append(found.along)
            progress(bounded := bounded + len(found.proved))
        left = np.flatnonzero(~np.concatenate(proved))
        if halving == halvings:
            break
        along = np.concatenate(feature)[left].astype(np.int32)
        middle = lower[left, along] + (upper[left, along] - lower[left, along]) * 0.5
        lower, upper, leaf = parts(lower[left], upper[left], leaf[left], along, middle)
        node = divisions.divide(node[left], along, middle)
    volume = _shares(lower[left], upper[left], box)
    moved = np.bincount(unmerged.label[leaf[left]], weights=volume, minlength=len(unmerged.volume))
    volumes = np.maximum(unmerged.volume - moved, 0.0)
    volumes[Label.OPEN] += moved.sum()
    tree = merged(divisions.opened(node[left], leaf[left]), volumes)
    return Proved(tree, divisions.proofs(tree), len(np.unique(leaf[left])), float(moved.sum()))


def _halvings(network: Staged) -> int:
    """Fewer where bounding one box is dear, so that a leaf never costs more than a few hundred small ones."""
    dearest: int = max(stage.weight.size for stage in network.stages)
    return max(0, MOST_HALVINGS - max(0, dearest.bit_length() - _CHEAP.bit_length()))


def _shares(lower: Floats, upper: Floats, box: Box) -> Floats:
    width = np.array([float(high - low) for low, high in zip(box.lower, box.upper, strict=True)])
    return np.asarray(np.where(width > 0.0, (upper - lower) / np.where(width > 0.0, width, 1.0), 1.0).prod(axis=1))


class _Divisions:
    """The search's tree, its leaves divided further, with the hints of all pieces."""

    def __init__(self, tree: CoverageTree, literals: int) -> None:
        self._feature, self._threshold = tree.feature.astype(np.int32), tree.threshold
        self._left, self._label = tree.left.astype(np.intp), tree.label
        self._leaf = np.arange(len(tree.feature))
        self._weights = np.zeros((len(tree.feature), literals), dtype=np.uint8)
        self._clause = np.full(len(tree.feature), PIECE, dtype=np.int32)

    def hint(self, node: Indices, found: "_Found") -> None:
        """Keep what was found for some leaves."""
        self._weights[node], self._clause[node] = found.weights, found.clause

    def divide(self, node: Indices, feature: npt.NDArray[np.int32], threshold: Floats) -> Indices:
        """Divide leaves; their lower parts, then their upper parts."""
        count = len(node)
        left = len(self._feature) + 2 * np.arange(count)
        self._feature[node], self._threshold = feature, np.concatenate([self._threshold, np.zeros(2 * count)])
        self._threshold[node], self._left[node] = threshold, left
        self._feature = np.concatenate([self._feature, np.full(2 * count, LEAF, dtype=np.int32)])
        self._left = np.concatenate([self._left, np.zeros(2 * count, np.intp)])
        self._label = np.concatenate([self._label, np.repeat(self._label[node], 2)])
        self._leaf = np.concatenate([self._leaf, np.repeat(self._leaf[node], 2)])
        self._weights = np.concatenate([self._weights, np.zeros((2 * count, self._weights.shape[1]), np.uint8)])
        self._clause = np.concatenate([self._clause, np.full(2 * count, PIECE, dtype=np.int32)])
        return np.concatenate([left, left + 1])

    def opened(self, failed: Indices, leaf: Indices) -> Nodes:
        """The search's tree, the leaves of which something failed divided as here, and that open."""
        nodes = np.zeros(len(self._feature), dtype=NODE)
        inner = (self._feature != LEAF) & ((self._label == Label.OUTSIDE) | np.isin(self._leaf, leaf))
        nodes["feature"] = np.where(inner, self._feature, LEAF)
        nodes["threshold"], nodes["left"] = self._threshold, self._left
        nodes["label"] = np.where(inner, Label.OUTSIDE, self._label)
        nodes["label"][failed] = Label.OPEN
        return nodes

    def proofs(self, tree: CoverageTree) -> LeafProofs:
        """For the claims of a tree that came from this one by merging."""
        node = self._counterparts(tree)[(tree.label == Label.SILENT) | (tree.label == Label.VIOLATING)]
        rounds = []
        while len(node):
            rounds.append(node)
            node = node[self._feature[node] != LEAF]
            node = np.concatenate([self._left[node], self._left[node] + 1])
        every = np.concatenate([np.zeros(0, np.intp), *rounds])
        splits = self._feature[every]
        piece = every[splits == LEAF]
        return LeafProofs(
            splits=np.where(splits == LEAF, np.int32(PIECE), splits),
            thresholds=self._threshold[every[splits != LEAF]],
            weights=self._weights[piece],
            clause=self._clause[piece],
        )

    def _counterparts(self, tree: CoverageTree) -> Indices:
        """For each of a merged tree's nodes the one here."""
        counterpart = np.zeros(len(tree.feature), dtype=np.intp)
        nodes = np.zeros(1, dtype=np.intp)
        while len(nodes := nodes[tree.feature[nodes] != LEAF]):
            counterpart[tree.left[nodes]] = self._left[counterpart[nodes]]
            counterpart[tree.right[nodes]] = self._left[counterpart[nodes]] + 1
            nodes = np.concatenate([tree.left[nodes], tree.right[nodes]]).astype(np.intp)
        return counterpart


def _blank(lower: Floats, upper: Floats, silent: Flags, leaf: Indices, literals: int) -> Pieces:
    """Boxes for which hints are looked for."""
    count = len(leaf)
    return Pieces(
        lower, upper, silent, np.zeros((count, literals), np.uint8), np.full(count, PIECE, dtype=np.int32), leaf
    )


class _Found(NamedTuple):
    """Hints for some boxes, whether they do, and along which feature a box is best halved."""

    weights: npt.NDArray[np.uint8]
    clause: npt.NDArray[np.int32]
    proved: Flags
    along: Indices


@dataclasses.dataclass(frozen=True, eq=False)
class _Hints:
    """Hints for one region's leaves, to be found anywhere."""

    network: Staged
    wanted: Demand

    def of(self, asked: Pieces) -> _Found:
        """For a portion, a batch after the other."""
        batches = map(self._batch, asked.portions(self.network.batch))
        return _Found(*map(np.concatenate, zip(*batches, strict=True)))

    def _batch(self, asked: Pieces) -> _Found:
        known, wanted, silent = enclose(self.network, asked.lower, asked.upper), self.wanted, asked.silent
        weights, clause, sensitivity = asked.weights.copy(), asked.clause.copy(), np.ones_like(asked.lower)
        if weights.shape[1] and silent.any():
            weights[silent], sensitivity[silent] = _weights(known, wanted, np.flatnonzero(silent))
        if weights.shape[1] and not silent.all():
            clause[~silent], sensitivity[~silent] = _clauses(known, wanted, np.flatnonzero(~silent))
        hinted = dataclasses.replace(asked, weights=weights, clause=clause)
        # How strongly what is to be proved varies along each input, over the box.
        change = np.nan_to_num(sensitivity, nan=1.0) * (asked.upper - asked.lower)
        return _Found(weights, clause, proved_within(known, wanted, hinted), change.argmax(axis=1))


def _forms(known: Enclosure, wanted: Demand, sign: float, box: Indices) -> tuple[Floats, Floats]:
    """Lower forms of all literals, or of their negations: (box, literal, input) and (box, literal)."""
    count = len(wanted.literals.offset)
    rows = combined(wanted, slice(0, count), np.tile(np.eye(count) * sign, (len(box), 1)))
    of_row = np.repeat(box, count)
    with np.errstate(over="ignore", invalid="ignore"):
        forms = [lower_form(known, rows.at(part), of_row[part]) for part in known.network.blocks(len(of_row))]
        constant = np.concatenate([form.constant - form.charge for form in forms])
    slope = np.concatenate([form.slope for form in forms])
    return slope.reshape(len(box), count, -1), constant.reshape(len(box), count)


def _weights(known: Enclosure, wanted: Demand, box: Indices) -> tuple[npt.NDArray[np.uint8], Floats]:
    """For each box weights of all literals, and the sensitivity of what they leave unproved."""
    forms, constants = _forms(known, wanted, 1.0, box)
    centre, radius = (known.lower[box] + known.upper[box]) * 0.5, (known.upper[box] - known.lower[box]) * 0.5
    weights, sensitivity = np.zeros((len(box), forms.shape[1])), np.zeros_like(centre)
    for clause in wanted.clauses:
        weights[:, clause], form, least = _best(forms[:, clause], constants[:, clause], centre, radius)
        sensitivity += np.where(least > 0.0, 0.0, 1.0)[:, None] * np.abs(form)
    return np.rint(np.nan_to_num(weights) * 255.0).astype(np.uint8), sensitivity


def _best(forms: Floats, constants: Floats, centre: Floats, radius: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights (box, literal) of a combination whose least value over the box is large, the largest one; it; its least.

    The strongest literal, then twice the best share of another one.
    """
    each = np.arange(len(forms))
    least = _least(forms, constants, centre, radius)
    best = least.argmax(axis=1)
    weights = np.zeros(constants.shape)
    weights[each, best] = 1.0
    form, constant, value = forms[each, best], constants[each, best], least[each, best]
    for _ in range(min(2, forms.shape[1] - 1)):
        slopes, offsets = forms - form[:, None], constants - constant[:, None]
        tried = np.stack(
            [_least(form[:, None] + f * slopes, constant[:, None] + f * offsets, centre, radius) for f in _FACTORS],
            axis=2,
        )
        chosen = np.nan_to_num(tried, nan=-np.inf).reshape(len(forms), -1).argmax(axis=1)
        other, factor = np.divmod(chosen, len(_FACTORS))
        share = _FACTORS[factor]
        weights *= 1.0 - share[:, None]
        weights[each, other] += share
        form, constant = form + share[:, None] * slopes[each, other], constant + share * offsets[each, other]
        value = tried[each, other, factor]
    return weights / weights.max(axis=1, keepdims=True), form, value


def _least(forms: Floats, constants: Floats, centre: Floats, radius: Floats) -> Floats:
    """A guide, not a bound: (box, form)."""
    with np.errstate(over="ignore", invalid="ignore"):
        spread = (forms @ centre[:, :, None] - np.abs(forms) @ radius[:, :, None])[..., 0]
    return np.asarray(spread + constants)


def _clauses(known: Enclosure, wanted: Demand, box: Indices) -> tuple[npt.NDArray[np.int32], Floats]:
    """For each box the clause that is refuted best, and the sensitivity of its literals."""
    forms, constants = _forms(known, wanted, -1.0, box)
    centre, radius = (known.lower[box] + known.upper[box]) * 0.5, (known.upper[box] - known.lower[box]) * 0.5
    least = _least(forms, constants, centre, radius)
    worst = np.stack([least[:, clause].min(axis=1) for clause in wanted.clauses], axis=1)
    best = np.nan_to_num(worst, nan=-np.inf).argmax(axis=1)
    of_clause = np.zeros((len(wanted.clauses), len(wanted.literals.offset)))
    for number, clause in enumerate(wanted.clauses):
        of_clause[number, clause] = 1.0
    counted = of_clause[best] * np.where(least > 0.0, 0.0, 1.0)
    return best.astype(np.int32), np.einsum("bl,bli->bi", counted, np.abs(forms))
