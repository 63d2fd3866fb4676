"""Which parts of a box are proved silent, which violating, which stay open, of a network that is a graph.

The counterpart of :func:`sidecar.compiler.search.partition`. A box of few dimensions is halved, along whichever
promises most, until its parts are settled or too small; one of many dimensions stays whole, and the phases of neurons
are divided instead (:mod:`sidecar.compiler.phase_search`): its tree is one leaf.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.attack import Counterexamples
from sidecar.compiler.frontier import Boxes, Frontier, join
from sidecar.compiler.graph_attack import GraphAttack
from sidecar.compiler.graph_backward import Indices
from sidecar.compiler.graph_bounds import GraphBounds, bound_graph, prepare_graph
from sidecar.compiler.phase_search import search_phases
from sidecar.compiler.progress import Progress
from sidecar.compiler.search import Budget, Order, Partition, SearchLimits, StopReason, outward
from sidecar.compiler.softmax_last import without_softmax
from sidecar.compiler.split_tree import SplitTree
from sidecar.gates.values import Box, Requirement
from sidecar.network.graph import Graph
from sidecar.tensors import Rows

Labels: TypeAlias = npt.NDArray[Any]

MOST_HALVED: Final = 24
"""Dimensions of a box that is halved; in one of more, phases are divided."""

_NARROW: Final = 10**6
"""A dimension that many times as narrow as the widest one does not count."""

_BATCH_VALUES: Final = 2**18
_MOST_BOXES: Final = 64
"""Values of the widest tensor of a batch of boxes, and boxes, at most."""

_STARTS: Final = 64
"""Descents of the attack, before the search and after it."""

_LEAST_SHARE: Final = 0.05
"""Of the steepest dimension's slope: flatter ones count as that steep, so that every one is halved at last."""

_FLAT: Final = 1e-300
"""Slope where all are zero: then the widest dimension is halved."""

_SEED: Final = 0


def is_halved(box: Box) -> bool:
    """Whether a box has few enough dimensions to be halved; those that only widening to the wire has opened, and others
    that are as narrow beside the widest, do not count.
    """
    width = [high - low for low, high in zip(box.lower, box.upper, strict=True)]
    widest = max(width)
    return sum(each > 0 and each * _NARROW >= widest for each in width) <= MOST_HALVED


def partition_graph(
    graph: Graph,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
    ends: Callable[[Rows], bool] | None = None,
) -> Partition:
    """As :func:`sidecar.compiler.search.partition`; it works on one thread, and with phases there is one order."""
    if is_halved(box):
        return _Halving(graph, box, requirement, limits, ends).run(arithmetic, progress)
    found = search_phases(graph, box, requirement, arithmetic, limits, progress, ends)
    tree = _one_leaf(found.label)
    return Partition(tree, tree, found.regions, found.counterexamples, found.stopped_by)


def _one_leaf(label: Label) -> CoverageTree:
    tree = SplitTree()
    tree.settle(np.zeros(1, dtype=np.intp), label)
    return tree.finished()


class _Halving:
    def __init__(
        self,
        graph: Graph,
        box: Box,
        requirement: Requirement,
        limits: SearchLimits,
        ends: Callable[[Rows], bool] | None,
    ) -> None:
        self._graph, self._box, self._requirement, self._limits, self._ends = graph, box, requirement, limits, ends
        self._budget = Budget(limits)
        self._counterexamples = Counterexamples(graph, box, requirement)
        self._attack = GraphAttack(self._counterexamples, graph, _SEED)
        self._settled = dict.fromkeys((Label.SILENT, Label.VIOLATING, Label.OPEN), 0.0)
        self._tree, self._regions = SplitTree(), 0

    def run(self, arithmetic: Arithmetic, progress: Callable[[Progress], None]) -> Partition:
        """Go on until nothing waits, a limit is reached, or a counterexample suffices."""
        core, wanted, equivalent = without_softmax(self._graph, self._requirement, arithmetic)
        prepared = prepare_graph(core, wanted, arithmetic)
        lower, upper = outward(self._box)
        nodes, phases = np.zeros(1, dtype=np.intp), np.zeros((1, 0), dtype=np.int8)
        frontier = Frontier(
            Boxes(lower[None], upper[None], nodes, np.ones(1), phases),
            smallest_first=self._limits.order is Order.SMALLEST_FIRST,
        )
        batch = int(np.clip(_BATCH_VALUES // prepared.rounded.widest, 1, _MOST_BOXES))
        enough = self._attacked()
        stopped_by = StopReason.COUNTEREXAMPLE if enough else self._stopped_by(len(frontier))
        while stopped_by is None:
            most = self._limits.max_regions
            boxes = frontier.take(batch if most is None else min(batch, most - self._regions))
            self._regions += len(boxes)
            bounds = bound_graph(prepared, boxes.lower, boxes.upper)
            label = np.where(prepared.rows.all_have(bounds.lower > 0.0), Label.SILENT, Label.OUTSIDE)
            label = np.where(prepared.rows.one_lacks(bounds.upper < 0.0) & equivalent, Label.VIOLATING, label)
            self._counterexamples.look_at((boxes.lower + boxes.upper) * 0.5)
            enough = self._is_enough()
            self._divide(frontier, boxes, bounds, label)
            progress(self._progress(len(frontier)))
            stopped_by = StopReason.COUNTEREXAMPLE if enough else self._stopped_by(len(frontier))
        undecided = len(frontier) > 0 or self._settled[Label.VIOLATING] + self._settled[Label.OPEN] > 0.0
        if undecided and not enough and self._attacked():
            stopped_by = StopReason.COUNTEREXAMPLE
        progress(self._progress(len(frontier)))
        return Partition(
            self._tree.finished(),
            self._tree.unmerged(),
            self._regions,
            self._counterexamples.chosen(),
            stopped_by,
        )

    def _attacked(self) -> bool:
        self._attack.round(list(range(len(self._counterexamples.rows.clauses))), _STARTS)
        return self._is_enough()

    def _is_enough(self) -> bool:
        return self._ends is not None and self._ends(self._counterexamples.new())

    def _stopped_by(self, waiting: int) -> StopReason | None:
        return StopReason.FINISHED if waiting == 0 else self._budget.spent(self._regions)

    def _divide(self, frontier: Frontier, boxes: Boxes, bounds: GraphBounds, label: Labels) -> None:
        """Settle what is proved or cannot be divided, halve the rest."""
        feature = _steepest(bounds, boxes)
        each = np.arange(len(boxes))
        low, high = boxes.lower[each, feature], boxes.upper[each, feature]
        middle = low + (high - low) * 0.5
        inside = (low < middle) & (middle < high) & (boxes.size > self._limits.minimum_volume)
        label = np.where((label == Label.OUTSIDE) & ~inside, Label.OPEN, label)
        for settled in (Label.SILENT, Label.VIOLATING, Label.OPEN):
            nodes = boxes.node[label == settled]
            self._tree.settle(nodes, settled)
            self._settled[settled] += float(self._tree.shares(nodes).sum())
        halved = np.flatnonzero(label == Label.OUTSIDE)
        if len(halved):
            rest, feature, middle = boxes.at(halved), feature[halved], middle[halved]
            left, right = self._tree.split(rest.node, feature, middle, np.full(len(halved), 0.5))
            left_upper, right_lower = rest.upper.copy(), rest.lower.copy()
            each = np.arange(len(halved))
            left_upper[each, feature] = right_lower[each, feature] = middle
            size = rest.size * 0.5
            frontier.push(
                join(
                    [
                        Boxes(rest.lower, left_upper, left, size, rest.phases),
                        Boxes(right_lower, rest.upper, right, size, rest.phases),
                    ]
                )
            )

    def _progress(self, waiting: int) -> Progress:
        silent, violating, still_open = (self._settled[each] for each in (Label.SILENT, Label.VIOLATING, Label.OPEN))
        return Progress(self._regions, silent, violating, still_open, waiting)


def _steepest(bounds: GraphBounds, boxes: Boxes) -> Indices:
    """The dimension along which the literals' forms change most over each box."""
    steepness = np.abs(np.nan_to_num(bounds.slope)).sum(axis=1)
    least = steepness.max(axis=1, keepdims=True) * _LEAST_SHARE
    change = np.maximum(np.maximum(steepness, least), _FLAT) * (boxes.upper - boxes.lower)
    return np.asarray(change.argmax(axis=1))
