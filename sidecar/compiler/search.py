"""Branch and bound over a gate's box: which parts are proved silent, which violating, which stay open.

Waiting boxes are bounded in batches (:mod:`sidecar.compiler.bounds`). A box is settled when its bounds prove it
silent or violating, or when it is too small to go on; else slabs that cannot violate are carved off its sides
(:mod:`sidecar.compiler.contraction`) and the rest is halved. A carved slab is a split like any other, so the result
is a plain split tree. Beside it, points that could violate are tried (:mod:`sidecar.compiler.attack`); they decide
nothing.

The same network, box, requirement and region count give the same tree. The clock is looked at between batches only,
and a batch's composition depends on what came before and on ``max_regions`` alone: a search that the clock stopped
after ``n`` boxes is repeated exactly by ``max_regions=n``. This holds on processors of one kind: on another, BLAS may
round the last bit of a product differently.
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
from sidecar.compiler.attack import Counterexamples, attack
from sidecar.compiler.bounds import Bounds, Prepared, bound, prepare
from sidecar.compiler.contraction import contract
from sidecar.compiler.frontier import Boxes, Frontier, join
from sidecar.compiler.linear_forms import ClauseForms, clause_forms
from sidecar.compiler.literal_rows import Flags, nearest
from sidecar.compiler.progress import Progress
from sidecar.compiler.split_tree import SplitTree
from sidecar.gates.values import Box, Requirement
from sidecar.network.values import Network
from sidecar.tensors import Rows

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

_BATCH: Final = 128
_BATCH_VALUES: Final = 2**22
"""Boxes per batch; their number times the widest layer's width squared, at most (it bounds the memory that the linear
forms of wide networks take). Two threads with a batch each were tried: slower, since numpy's small operations spend
their time waiting for the interpreter's lock."""

_LEAST_SENSITIVITY: Final = 0.05
"""Floor of a dimension's sensitivity when the one to split is chosen, as part of the largest. Without it some searches
never split dimensions that matter only deeper down."""

_SECONDS_BETWEEN_REPORTS: Final = 0.25

_SEED: Final = 0


class StopReason(enum.StrEnum):
    """Why a search ended; of an opaque model there is nothing to search."""

    FINISHED = "finished"
    TIME_LIMIT = "time_limit"
    MAX_REGIONS = "max_regions"
    OPAQUE = "opaque"


@dataclasses.dataclass(frozen=True)
class SearchLimits:
    """What a search may spend.

    Args:
        time_limit_seconds: looked at between batches only; None for no limit.
        max_regions: the number of boxes bounded at most; None for no limit. A search that a time limit
            stopped is repeated exactly by giving its region count here.
        minimum_volume: share of the box; what halving alone has made no larger than this, and is still undecided,
            stays open. (Carving may have made it smaller yet; it does not count, since it costs next to nothing.)
    """

    time_limit_seconds: float | None = None
    max_regions: int | None = None
    minimum_volume: float = 1e-6


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
    """

    tree: CoverageTree
    unmerged: CoverageTree
    regions: int
    counterexamples: Rows
    stopped_by: StopReason


def partition(
    network: Network,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
) -> Partition:
    """Split ``box`` until every part is settled, too small, or the limits are reached.

    Args:
        network: what is verified.
        box: the effective box, exact.
        requirement: what must hold in it.
        arithmetic: of the served model; what is proved holds in it and in real arithmetic.
        limits: see :class:`SearchLimits`.
        progress: called a few times a second at most, and once at the end.

    Raises:
        InputError: the arithmetic does not fit the model's datatypes, or a layer is too wide to bound.
    """
    deadline = None if limits.time_limit_seconds is None else time.monotonic() + limits.time_limit_seconds
    counterexamples = Counterexamples(network, box, requirement)
    attack(counterexamples, network, _SEED)
    search = _Search(prepare(network, requirement, arithmetic), box, limits.minimum_volume, counterexamples)
    stopped_by = search.run(deadline, limits.max_regions, progress)
    tree, unmerged = search.tree.finished(), search.tree.unmerged()
    return Partition(tree, unmerged, search.regions, counterexamples.chosen(), stopped_by)


class _Search:
    """The state of one search. ``run`` is all that is done with it; then ``tree`` and ``regions`` are the result."""

    def __init__(self, prepared: Prepared, box: Box, minimum_volume: float, counterexamples: Counterexamples) -> None:
        self._prepared, self._minimum_volume, self._counterexamples = prepared, minimum_volume, counterexamples
        lower, upper = outward(box)
        self._width = upper - lower
        self._splittable = np.array([low < high for low, high in zip(box.lower, box.upper, strict=True)])
        self._size = int(np.clip(_BATCH_VALUES // prepared.widest**2, 1, _BATCH))
        self._settled = dict.fromkeys((Label.SILENT, Label.VIOLATING, Label.OPEN), 0.0)
        self._frontier = Frontier(
            Boxes(
                lower=lower[None],
                upper=upper[None],
                node=np.zeros(1, dtype=np.intp),
                size=np.ones(1),
                phases=np.zeros((1, prepared.hidden), dtype=np.int8),
            )
        )
        self.tree, self.regions = SplitTree(), 0

    def run(self, deadline: float | None, max_regions: int | None, progress: Callable[[Progress], None]) -> StopReason:
        """Go on until nothing waits or a limit is reached."""
        reported = time.monotonic()
        while (stopped_by := self._stopped_by(deadline, max_regions)) is None:
            left = self._size if max_regions is None else max_regions - self.regions
            self._batch(self._frontier.take(min(self._size, left)))
            if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                progress(self._progress())
        progress(self._progress())
        return stopped_by

    def _stopped_by(self, deadline: float | None, max_regions: int | None) -> StopReason | None:
        if len(self._frontier) == 0:
            return StopReason.FINISHED
        if max_regions is not None and self.regions >= max_regions:
            return StopReason.MAX_REGIONS
        if deadline is not None and time.monotonic() >= deadline:
            return StopReason.TIME_LIMIT
        return None

    def _progress(self) -> Progress:
        return Progress(
            regions=self.regions,
            silent=self._settled[Label.SILENT],
            violating=self._settled[Label.VIOLATING],
            open=self._settled[Label.OPEN],
            pending=len(self._frontier),
        )

    def _batch(self, boxes: Boxes) -> None:
        """Bound boxes, settle those that can be, carve and halve the others."""
        bounds = bound(self._prepared, boxes.lower, boxes.upper, boxes.phases)
        self.regions += len(boxes)
        rows = self._prepared.rows
        boxes = dataclasses.replace(boxes, phases=bounds.phases)
        silent = rows.all_have(np.where(rows.strict, bounds.lower > 0.0, bounds.lower >= 0.0))
        violating = ~silent & rows.one_lacks(np.where(rows.strict, bounds.upper <= 0.0, bounds.upper < 0.0))
        self._settle(boxes.at(silent), Label.SILENT)
        self._settle(boxes.at(violating), Label.VIOLATING)
        undecided = ~(silent | violating)
        if undecided.any():
            self._divide(boxes.at(undecided), bounds.at(undecided))

    def _settle(self, boxes: Boxes, label: Label) -> None:
        self.tree.settle(boxes.node, label)
        self._settled[label] += float(self.tree.shares(boxes.node).sum())

    def _divide(self, boxes: Boxes, bounds: Bounds) -> None:
        """What bounds of single literals left undecided."""
        self._falsify(boxes, bounds)
        forms = clause_forms(self._prepared.rows, bounds, boxes.lower, boxes.upper, self._prepared.staged.slack)
        proved = forms.positive(boxes.lower, boxes.upper)
        silent = np.asarray(proved.all(axis=1))
        self._settle(boxes.at(silent), Label.SILENT)
        boxes, bounds, forms, proved = boxes.at(~silent), bounds.at(~silent), forms.at(~silent), proved[~silent]
        large = np.asarray(boxes.size > self._minimum_volume)
        self._settle(boxes.at(~large), Label.OPEN)
        boxes, bounds, forms, proved = boxes.at(large), bounds.at(large), forms.at(large), proved[large]
        if len(boxes):
            boxes = self._carve(boxes, forms)
            self._halve(boxes, self._sensitivity(bounds, proved))

    def _falsify(self, boxes: Boxes, bounds: Bounds) -> None:
        """Look at each box's centre, and at the corner to which the strongest literal's form points."""
        if not self._counterexamples.enough:
            strongest = bounds.lower.argmax(axis=1)[:, None, None]
            slope = np.take_along_axis(bounds.slope, strongest, axis=1)[:, 0]
            corner = np.where(slope > 0.0, boxes.lower, boxes.upper)
            self._counterexamples.look_at(np.concatenate([(boxes.lower + boxes.upper) * 0.5, corner]))

    def _carve(self, boxes: Boxes, forms: ClauseForms) -> Boxes:
        """Cut silent slabs off the boxes' sides; what remains."""
        carvings, lower, upper = contract(forms, boxes.lower, boxes.upper, self._splittable)
        node = boxes.node.copy()
        for carving in carvings:
            carved, kept = carving.carved, carving.kept[carving.carved]
            below, above = self.tree.split(
                node[carved],
                np.full(len(kept), carving.feature),
                carving.threshold[carved],
                kept if carving.above else 1.0 - kept,
            )
            slab, node[carved] = (above, below) if carving.above else (below, above)
            self.tree.settle(slab, Label.SILENT)
            self._settled[Label.SILENT] += float(self.tree.shares(slab).sum())
        return dataclasses.replace(boxes, lower=lower, upper=upper, node=node)

    def _sensitivity(self, bounds: Bounds, proved: Flags) -> Floats:
        """(box, input): how strongly the literals of unproved clauses vary along each dimension."""
        literals = np.zeros_like(bounds.lower)
        for position, clause in enumerate(self._prepared.rows.clauses):
            literals[:, clause] = np.maximum(literals[:, clause], ~proved[:, position, None])
        sensitivity = np.einsum("bl,bln->bn", literals, np.abs(bounds.slope))
        largest = sensitivity.max(axis=1, keepdims=True)
        informative = np.isfinite(largest) & (largest > 0.0)
        even = 1.0 / np.where(self._width > 0.0, self._width, 1.0)
        return np.where(informative, np.maximum(sensitivity, _LEAST_SENSITIVITY * largest), even)

    def _halve(self, boxes: Boxes, sensitivity: Floats) -> None:
        """Split each box in the middle of its most telling dimension, and let the halves wait."""
        middle = boxes.lower + (boxes.upper - boxes.lower) * 0.5
        possible = self._splittable & (boxes.lower < middle) & (middle < boxes.upper)
        halved = np.asarray(possible.any(axis=1))
        self._settle(boxes.at(~halved), Label.OPEN)
        boxes, middle = boxes.at(halved), middle[halved]
        score = np.where(possible[halved], sensitivity[halved] * (boxes.upper - boxes.lower), -1.0)
        each, feature = np.arange(len(boxes)), score.argmax(axis=1)
        threshold = middle[each, feature]
        low, high = boxes.lower[each, feature], boxes.upper[each, feature]
        left, right = self.tree.split(boxes.node, feature, threshold, (threshold - low) / (high - low))
        left_upper, right_lower = boxes.upper.copy(), boxes.lower.copy()
        left_upper[each, feature] = right_lower[each, feature] = threshold
        halves = [
            dataclasses.replace(boxes, upper=left_upper, node=left, size=boxes.size * 0.5),
            dataclasses.replace(boxes, lower=right_lower, node=right, size=boxes.size * 0.5),
        ]
        self._frontier.push(join(halves))


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
