"""Branch and bound over a gate's box: which parts are proved silent, which violating, which stay open.

Waiting boxes are looked at in batches, on all cores (:mod:`sidecar.compiler.workers`); a step over one box is
:mod:`sidecar.compiler.kernel_step`'s. A box is settled when its bounds prove it silent or violating, or when it is too
small to go on; else slabs that cannot violate are carved off its sides and the rest is halved. A carved slab is a
split like any other, so the result is a plain split tree. Beside it, points that could violate are tried
(:mod:`sidecar.compiler.attack`); they decide nothing.

The same network, box, requirement, order and region count give the same tree, whatever the number of threads. The clock
is looked at between batches only, and a batch's composition depends on what came before and on ``max_regions`` alone: a
search that the clock stopped after ``n`` boxes is repeated exactly by ``max_regions=n``. This holds on processors of
one kind: on another, compiled code may round the last bit of a sum differently.
"""

import dataclasses
import enum
import math
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.attack import Attack, Counterexamples
from sidecar.compiler.bounds import Prepared, prepare
from sidecar.compiler.flat import FlatStep, flat_problem, flat_step
from sidecar.compiler.frontier import Boxes, Frontier, join
from sidecar.compiler.literal_rows import nearest
from sidecar.compiler.progress import Progress
from sidecar.compiler.search_state import SearchState
from sidecar.compiler.split_tree import SplitTree
from sidecar.compiler.workers import Workers, cores
from sidecar.gates.values import Box, Requirement
from sidecar.network.values import Network
from sidecar.tensors import Rows

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

_BATCH: Final = 512
_BATCH_VALUES: Final = 2**22
"""Boxes per batch; their number times the widest layer's width squared, at most (it bounds the memory that the linear
forms of wide networks take)."""

_SECONDS_BETWEEN_REPORTS: Final = 0.25

_SEED: Final = 0

_LABELS: Final = (Label.SILENT, Label.VIOLATING, Label.OPEN)


class StopReason(enum.StrEnum):
    """Why a search ended; of an opaque model there is nothing to search."""

    FINISHED = "finished"
    TIME_LIMIT = "time_limit"
    MAX_REGIONS = "max_regions"
    OPAQUE = "opaque"
    COUNTEREXAMPLE = "counterexample"


class Order(enum.StrEnum):
    """Which waiting boxes come first.

    The largest settle as much volume as an interrupted search can; with the smallest few boxes wait.
    """

    LARGEST_FIRST = "largest_first"
    SMALLEST_FIRST = "smallest_first"


@dataclasses.dataclass(frozen=True)
class SearchLimits:
    """What a search may spend.

    Args:
        time_limit_seconds: looked at between batches only; None for no limit.
        max_regions: the number of boxes bounded at most; None for no limit. A search that a time limit
            stopped is repeated exactly by giving its region count here.
        minimum_volume: share of the box; what halving alone has made no larger than this, and is still undecided,
            stays open. (Carving may have made it smaller yet; it does not count, since it costs next to nothing.)
        order: see :class:`Order`.
        workers: threads; None for one on each processor that this process may use. The result does not depend on it.
    """

    time_limit_seconds: float | None = None
    max_regions: int | None = None
    minimum_volume: float = 1e-6
    order: Order = Order.LARGEST_FIRST
    workers: int | None = None


class Budget:
    """A search's limits, with its clock running from here on."""

    def __init__(self, limits: SearchLimits) -> None:
        seconds = limits.time_limit_seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._most = limits.max_regions

    def spent(self, regions: int) -> StopReason | None:
        """The limit that is reached with so many regions, if any. The clock comes last: of two the one that repeats."""
        if self._most is not None and regions >= self._most:
            return StopReason.MAX_REGIONS
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return StopReason.TIME_LIMIT
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """What a search found out about a box.

    Args:
        tree: covers the box; see :class:`CoverageTree`.
        unmerged: the same before leaves were merged: each leaf as it was settled.
        regions: boxes bounded; as ``max_regions`` it repeats the search exactly.
        counterexamples: float64 (point, input): wire-representable inputs inside the box whose float64
            outputs violate the requirement; distinct, at most a few dozen, possibly none.
        stopped_by: see :class:`StopReason`.
        state: to go on from, where it was asked for.
    """

    tree: CoverageTree
    unmerged: CoverageTree
    regions: int
    counterexamples: Rows
    stopped_by: StopReason
    state: SearchState | None = None


def partition(
    network: Network,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
    ends: Callable[[Rows], bool] | None = None,
    start: SearchState | None = None,
    keep_state: bool = False,
) -> Partition:
    """Split ``box`` until every part is settled, too small, or the limits are reached.

    Args:
        network: what is verified.
        box: the effective box, exact.
        requirement: what must hold in it.
        arithmetic: of the served model; what is proved holds in it and in real arithmetic.
        limits: see :class:`SearchLimits`.
        progress: called a few times a second at most, and once at the end.
        ends: asked about each lot of new counterexamples, as exact as those of the result, whether the search may end.
        start: where a search with the same arguments was stopped by its time limit; the result is that of one search.
        keep_state: whether the result says where it stopped, for which it holds on to all that waits.

    Raises:
        InputError: the arithmetic does not fit the model's datatypes, or a layer is too wide to bound.
    """
    budget = Budget(limits)
    prepared = prepare(network, requirement, arithmetic)
    attacked = Attack(Counterexamples(network, box, requirement), network, _SEED)
    search = _Search(prepared, box, limits, attacked, start)
    stopped_by = search.run(budget, progress, ends)
    state = search.state() if keep_state else None  # before the attack's last rounds, which are for the result only
    stopped_by = search.finish(stopped_by, progress, ends)
    tree, unmerged = search.tree.finished(), search.tree.unmerged()
    return Partition(tree, unmerged, search.regions, attacked.counterexamples.chosen(), stopped_by, state)


class _Search:
    """The state of one search: ``run``, then ``finish``; then ``tree`` and ``regions`` are the result."""

    def __init__(
        self, prepared: Prepared, box: Box, limits: SearchLimits, attack: Attack, start: SearchState | None
    ) -> None:
        self._limits, self._attack = limits, attack
        lower, upper = outward(box)
        splittable = np.array([low < high for low, high in zip(box.lower, box.upper, strict=True)])
        self._problem = flat_problem(prepared, splittable, upper - lower)
        self._size = int(np.clip(_BATCH_VALUES // prepared.widest**2, 1, _BATCH))
        whole = Boxes(
            lower=lower[None],
            upper=upper[None],
            node=np.zeros(1, dtype=np.intp),
            size=np.ones(1),
            phases=np.zeros((1, prepared.hidden), dtype=np.int8),
        )
        start = start or SearchState(SplitTree().nodes, [whole], 0, (0.0, 0.0, 0.0), False, attack.state())
        self._frontier = Frontier(whole.at(slice(0)), smallest_first=limits.order is Order.SMALLEST_FIRST)
        for part in start.waiting:
            self._frontier.push(part)
        self._settled, self._undecided = dict(zip(_LABELS, start.settled, strict=True)), start.undecided
        self.tree, self.regions = SplitTree(start.nodes), start.regions
        attack.resume(start.attack)

    def state(self) -> SearchState:
        """Where it is."""
        settled = tuple(self._settled[label] for label in _LABELS)
        waiting, attack = self._frontier.parts, self._attack.state()
        return SearchState(self.tree.nodes, waiting, self.regions, settled, self._undecided, attack)

    def run(
        self, budget: Budget, progress: Callable[[Progress], None], ends: Callable[[Rows], bool] | None
    ) -> StopReason:
        """Go on until nothing waits, a limit is reached, or a counterexample suffices: which of them."""
        reported = time.monotonic()
        with Workers(self._problem, self._limits.workers or cores()) as workers:
            while (stopped_by := self._stopped_by(budget)) is None:
                self._batch(workers, self._frontier.take(self._next_size()))
                if ends is not None and ends(self._attack.counterexamples.new()):
                    stopped_by = StopReason.COUNTEREXAMPLE
                    break
                if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                    reported = time.monotonic()
                    progress(self._progress())
        return stopped_by

    def finish(
        self, stopped_by: StopReason, progress: Callable[[Progress], None], ends: Callable[[Rows], bool] | None
    ) -> StopReason:
        """Attack what is not settled to the end."""
        # Who waits for a verdict has no time left; a partition's counterexamples do not depend on the clock.
        ended = stopped_by is StopReason.TIME_LIMIT and ends is not None
        if (self._undecided or len(self._frontier)) and not ended and stopped_by is not StopReason.COUNTEREXAMPLE:
            self._attack.finish()
            if ends is not None and ends(self._attack.counterexamples.new()):
                stopped_by = StopReason.COUNTEREXAMPLE
        progress(self._progress())
        return stopped_by

    def _next_size(self) -> int:
        maximum = self._limits.max_regions
        return self._size if maximum is None else min(self._size, maximum - self.regions)

    def _stopped_by(self, budget: Budget) -> StopReason | None:
        return StopReason.FINISHED if len(self._frontier) == 0 else budget.spent(self.regions)

    def _progress(self) -> Progress:
        return Progress(
            regions=self.regions,
            silent=self._settled[Label.SILENT],
            violating=self._settled[Label.VIOLATING],
            open=self._settled[Label.OPEN],
            pending=len(self._frontier),
        )

    def _batch(self, workers: Workers, boxes: Boxes) -> None:
        """Step over boxes, settle those that can be, carve and halve the others."""
        large = np.asarray(boxes.size > self._limits.minimum_volume)
        step = flat_step(self._problem, boxes.lower, boxes.upper, boxes.phases, large)
        workers.run(step, not self._attack.counterexamples.enough)
        self.regions += len(boxes)
        self._attack.look(self.regions, step.point[step.suspect])
        for label in _LABELS:
            self._settle(boxes.node[step.label == label], label)
        divided = np.flatnonzero(step.label == Label.OUTSIDE)
        if len(divided):
            node = boxes.node[divided]
            self._carve(boxes, step, divided, node)
            self._halve(step, divided, node, boxes.size[divided] * 0.5)

    def _settle(self, nodes: Indices, label: Label) -> None:
        self.tree.settle(nodes, label)
        self._settled[label] += float(self.tree.shares(nodes).sum())
        self._undecided |= label is not Label.SILENT and len(nodes) > 0

    def _carve(self, boxes: Boxes, step: FlatStep, divided: Indices, node: Indices) -> None:
        """Cut silent slabs off the boxes' sides, in the step's order; ``node`` becomes what remains, in place."""
        lower, upper = boxes.lower[divided], boxes.upper[divided]
        for order, threshold in enumerate(step.cut[divided].T):
            carved = np.flatnonzero(~np.isnan(threshold))
            if not len(carved):
                continue
            feature, above, at = order // 2, order % 2 == 0, threshold[carved]
            below_part = (at - lower[carved, feature]) / (upper[carved, feature] - lower[carved, feature])
            left, right = self.tree.split(node[carved], np.full(len(carved), feature), at, below_part)
            (upper if above else lower)[carved, feature] = at
            slab, node[carved] = (right, left) if above else (left, right)
            self._settle(slab, Label.SILENT)

    def _halve(self, step: FlatStep, divided: Indices, node: Indices, size: Floats) -> None:
        """Split each box where the step says, and let the halves wait."""
        lower, upper, phases = step.lower[divided], step.upper[divided], step.phases[divided]
        each, feature, threshold = np.arange(len(divided)), step.feature[divided], step.threshold[divided]
        low, high = lower[each, feature], upper[each, feature]
        left, right = self.tree.split(node, feature, threshold, (threshold - low) / (high - low))
        left_upper, right_lower = upper.copy(), lower.copy()
        left_upper[each, feature] = right_lower[each, feature] = threshold
        self._frontier.push(
            join([Boxes(lower, left_upper, left, size, phases), Boxes(right_lower, upper, right, size, phases)])
        )


def outward(box: Box) -> tuple[Floats, Floats]:
    """A float64 box that contains an exact one, as tightly as float64 can, (input,) each; infinite beyond its range."""
    lower = [nearest(bound) for bound in box.lower]
    upper = [nearest(bound) for bound in box.upper]
    return (
        np.array(
            [
                math.nextafter(got, -math.inf) if got > exact else got
                for got, exact in zip(lower, box.lower, strict=True)
            ]
        ),
        np.array(
            [math.nextafter(got, math.inf) if got < exact else got for got, exact in zip(upper, box.upper, strict=True)]
        ),
    )
