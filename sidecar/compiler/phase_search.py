"""Branch and bound over the phases of neurons, for boxes of many dimensions.

The box stays whole: it is proved silent or violating, or open. Literals that the whole box's bounds do not prove are
looked at clause by clause; of each, parts of the trajectories (:mod:`sidecar.compiler.phase_bounds`) wait to be
bounded, the worst first, and those that are not proved are divided by the phase of the neuron that promises most.
Beside it the box is attacked. The clock is looked at between batches; with ``max_regions`` instead the search is
repeated exactly.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable
from typing import Final

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.attack import Counterexamples
from sidecar.compiler.graph_attack import GraphAttack
from sidecar.compiler.graph_backward import Indices, Known
from sidecar.compiler.graph_bounds import Ranges, enclose, literal_bounds, prepare_graph
from sidecar.compiler.phase_bounds import Bounded, Parts, PhaseBounds
from sidecar.compiler.phase_targets import literal_targets, sharpen
from sidecar.compiler.progress import Progress
from sidecar.compiler.rounding import Floats
from sidecar.compiler.search import Budget, SearchLimits, StopReason, outward
from sidecar.compiler.softmax_last import without_softmax
from sidecar.gates.values import Box, Requirement
from sidecar.network.graph import Graph
from sidecar.tensors import Rows

_INNER_STEPS: Final = 10
_FIRST_STEPS: Final = 30
_LATER_STEPS: Final = 8
_LAST_STEPS: Final = 100
"""Steps of slopes and multipliers: for values inside the network, and over the whole box; over parts of it; over a part
that cannot be divided further."""

_FIRST_STARTS: Final = 16
_LATER_STARTS: Final = 128
"""Descents of the attack before anything is bounded, and for what the whole box's bounds leave."""

_CANDIDATES: Final = 3
"""Values that are tried when a part is divided."""

_BATCH_VALUES: Final = 2**18
_MOST_PARTS: Final = 64
"""Values of all tensors of a batch of parts, and parts, at most."""

_MOST_WAITING_VALUES: Final = 2**26
"""Values with phases of all parts that wait, at most (17 bytes each); then what is worst is given up."""

_SEED: Final = 0


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseResult:
    """What was found out about a box.

    Args:
        label: of the whole box.
        regions: parts bounded.
        counterexamples: see ``Partition``.
        stopped_by: why it ended.
    """

    label: Label
    regions: int
    counterexamples: Rows
    stopped_by: StopReason


def search_phases(
    graph: Graph,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
    ends: Callable[[Rows], bool] | None,
) -> PhaseResult:
    """Prove the requirement on the whole box, or its violation; see :func:`sidecar.compiler.search.partition`."""
    search = _PhaseSearch(graph, box, requirement, limits, ends)
    label, stopped_by = search.run(arithmetic)
    silent, violating, still_open = (float(label is each) for each in (Label.SILENT, Label.VIOLATING, Label.OPEN))
    progress(Progress(search.regions, silent, violating, still_open, 0))
    return PhaseResult(label, search.regions, search.counterexamples.chosen(), stopped_by)


class _Stopped(Exception):
    """The search is over."""

    def __init__(self, reason: StopReason) -> None:
        self.reason = reason


class _PhaseSearch:
    def __init__(
        self,
        graph: Graph,
        box: Box,
        requirement: Requirement,
        limits: SearchLimits,
        ends: Callable[[Rows], bool] | None,
    ) -> None:
        self._graph, self._box, self._requirement, self._ends = graph, box, requirement, ends
        self._budget = Budget(limits)
        self.counterexamples = Counterexamples(graph, box, requirement)
        self._attack = GraphAttack(self.counterexamples, graph, _SEED)
        self.regions = 0

    def run(self, arithmetic: Arithmetic) -> tuple[Label, StopReason]:
        """What the box is, and why the search ended."""
        try:
            return self._run(arithmetic), StopReason.FINISHED
        except _Stopped as stopped:
            return Label.OPEN, stopped.reason

    def _run(self, arithmetic: Arithmetic) -> Label:
        core, wanted, equivalent = without_softmax(self._graph, self._requirement, arithmetic)
        prepared = prepare_graph(core, wanted, arithmetic)
        attacked = list(range(len(self.counterexamples.rows.clauses)))
        self._attacked(attacked, _FIRST_STARTS)
        lower, upper = outward(self._box)
        self._in_time()
        enclosure = enclose(prepared, lower[None], upper[None], self._in_time, self._sharpened)
        bounds = literal_bounds(prepared, enclosure)
        self.regions += 1
        if equivalent and prepared.rows.one_lacks(bounds.upper < 0.0)[0]:
            return Label.VIOLATING
        proved, clauses = bounds.lower[0] > 0.0, prepared.rows.clauses
        left = [number for number, clause in enumerate(clauses) if not proved[clause].any()]
        worst_first = sorted(left, key=lambda number: bounds.lower[0, clauses[number]].max())
        phases = PhaseBounds(enclosure.known, enclosure.ranges, literal_targets(prepared, enclosure))
        self._attacked(worst_first if equivalent else attacked, _LATER_STARTS)
        for number in worst_first:
            if not self._proved(phases, np.array(clauses[number])):
                return Label.OPEN
        return Label.SILENT

    def _sharpened(self, known: Known, ranges: Ranges, place: int) -> None:
        sharpen(known, ranges, place, _INNER_STEPS, self._in_time)

    def _attacked(self, clauses: list[int], starts: int) -> None:
        if self._ends is None:  # a bundle is the same for the same number of regions, whenever the clock stops it
            self._attack.round(clauses, starts)
        else:
            self._attack.round(clauses, starts, self._in_time)
        self._confirmed()

    def _confirmed(self) -> None:
        if self._ends is not None and self._ends(self.counterexamples.new()):
            raise _Stopped(StopReason.COUNTEREXAMPLE)

    def _proved(self, phases: PhaseBounds, literals: Indices) -> bool:
        """Whether one of the literals is positive on all trajectories, or each part has one that is."""
        found = phases.bound(phases.whole(literals), _FIRST_STEPS, self._in_time)
        self._looked(found)
        best = int(found.lower.argmax())
        if found.lower[best] > 0.0:
            return True
        return self._divided(phases, found, best)

    def _looked(self, found: Bounded) -> None:
        self.regions += len(found.lower)
        if not self.counterexamples.enough:
            self.counterexamples.look_at(found.points)
            self._confirmed()
        self._in_time()

    def _in_time(self) -> None:
        reason = self._budget.spent(self.regions)
        if reason is not None:
            raise _Stopped(reason)

    def _divided(self, phases: PhaseBounds, found: Bounded, best: int) -> bool:
        """Branch and bound on the most promising literal."""
        order, values = itertools.count(), found.score.shape[1]
        batch = int(np.clip(_BATCH_VALUES // self._graph_widest, 2, _MOST_PARTS))
        waiting: list[tuple[float, int, Parts, Indices]] = []

        def push(some: Bounded) -> bool:
            for index in np.flatnonzero(~(some.lower > 0.0)):
                one = some.parts.at(np.array([index]))
                if not some.score[index].any():  # every phase is known
                    if not phases.bound(one, _LAST_STEPS, self._in_time).lower[0] > 0.0:
                        return False
                    continue
                heapq.heappush(waiting, (float(some.lower[index]), next(order), one, _promising(some.score[index])))
            return bool(len(waiting) * values <= _MOST_WAITING_VALUES)

        keep = np.array([best])
        if not push(Bounded(found.lower[keep], found.parts.at(keep), found.score[keep], found.points[keep])):
            return False
        while waiting:
            taken = [heapq.heappop(waiting) for _ in range(min(len(waiting), max(1, batch // 2)))]
            children = self._best_children(phases, [part for _, _, part, _ in taken], [each for *_, each in taken])
            bounded = phases.bound(children, _LATER_STEPS, self._in_time)
            self._looked(bounded)
            if not push(bounded):
                return False
        return True

    def _best_children(self, phases: PhaseBounds, parts: list[Parts], candidates: list[Indices]) -> Parts:
        """Each part divided by the candidate whose worse child is bounded best where nothing is improved."""
        repeated = [part for part, values in zip(parts, candidates, strict=True) for _ in values]
        tried = phases.bound(_children(repeated, np.concatenate(candidates)), 0, self._in_time).lower
        worse = np.split(np.minimum(*tried.reshape(2, -1)), np.cumsum([len(values) for values in candidates])[:-1])
        chosen = [values[least.argmax()] for values, least in zip(candidates, worse, strict=True)]
        return _children(parts, np.array(chosen))

    @property
    def _graph_widest(self) -> int:
        return max(int(np.prod(shape)) for shape in self._graph.shapes)


def _promising(score: Floats) -> Indices:
    """The values with the highest scores."""
    count = min(_CANDIDATES, int(np.count_nonzero(score)))
    return np.argpartition(-score, count - 1)[:count]


def _children(parts: list[Parts], values: Indices) -> Parts:
    """Each part with either phase of a value: first all that are at least zero, then all at most zero."""
    fields = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts] * 2)
        for field in dataclasses.fields(Parts)
    }
    phases, each = fields["phases"], np.arange(len(parts))
    phases[each, values], phases[each + len(parts), values] = 1, -1
    return Parts(**fields)
