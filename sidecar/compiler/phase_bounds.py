"""Bounds of literals where the signs of some neurons' operands are given, with slopes that are optimised.

A *part* of a box's trajectories is given by phases: of some operands of ReLUs it is known whether they are at least or
at most zero. All parts together are all trajectories. What was proved of the whole box inside the network holds in each
part, and so does what follows from a phase. A literal's lower bound depends on the lower slopes of the neurons that are
left (any from the flat one to 1 is sound), and on multipliers of the phases: ``m z <= 0`` may be added to what is
bounded wherever a phase says so. Both are improved by steps along the bound's gradient, which is had from one
evaluation of the relaxed network at the point where the bound is attained. Source: Wang et al., "Beta-CROWN: Efficient
Bound Propagation with Per-neuron Split Constraints for Neural Network Robustness Verification" (2021).
"""

import dataclasses
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.bounds import lowest
from sidecar.compiler.climb import Climb
from sidecar.compiler.graph_backward import Indices, Known, RelaxedPool, carried
from sidecar.compiler.graph_bounds import Ranges
from sidecar.compiler.graph_relaxations import Flags, Relaxed, relaxed
from sidecar.compiler.rounding import Floats
from sidecar.network.operators.leaky_relu import LeakyRelu
from sidecar.network.operators.operation import AffineMap
from sidecar.network.operators.relu import Relu
from sidecar.network.operators.windows import by_image

Phases: TypeAlias = npt.NDArray[np.int8]

_SLOPE_STEP: Final = 0.25
_MULTIPLIER_STEP: Final = 0.25
_DECAY: Final = 0.93
"""Length of the first step, of multipliers as a part of the literal's average coefficient; by what steps shrink."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A nonlinear operation with phases.

    Args:
        node: which. place: its operand. flat: the slope of its lower part.
        start, stop: where the operand's values stand among all that have phases.
    """

    node: int
    place: int
    flat: float
    start: int
    stop: int


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a box's trajectories, one literal to be bounded over each.

    Args:
        phases: int8 (part, value): 1 at least zero, -1 at most zero, 0 not known.
        slopes: float64 (part, value); lower slopes to start from.
        multipliers: float64 (part, value), not negative; of the phases.
        literal: intp (part,).
    """

    phases: Phases
    slopes: Floats
    multipliers: Floats
    literal: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.literal)

    def at(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> "Parts":
        """Some of them."""
        return Parts(self.phases[chosen], self.slopes[chosen], self.multipliers[chosen], self.literal[chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class Bounded:
    """What was found.

    Args:
        lower: float64 (part,); of the literals, minus infinity where nothing is known.
        parts: with the slopes and multipliers that gave it.
        score: float64 (part, value); how much knowing a phase promises, zero where it is known.
        points: float64 (part, input); where the relaxed literal is smallest.
    """

    lower: Floats
    parts: Parts
    score: Floats
    points: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """What is bounded: ``forms . z + inputs . x + offset`` for each target.

    Args:
        place: the tensor ``z``; what stands before it has been enclosed, and its error charged.
        forms: float64 (target, value of the tensor).
        inputs: float64 (target, input).
        offset: float64 (target,), with the rounding of both last parts charged; minus infinity where nothing is known.
    """

    place: int
    forms: Floats
    inputs: Floats
    offset: Floats


class PhaseBounds:
    """Bounds over parts of one box.

    Args:
        known: of that box alone.
        ranges: of what operations with phases take.
        targets: what is bounded.
    """

    def __init__(self, known: Known, ranges: Ranges, targets: Targets) -> None:
        self._root, self._targets, self._graph = known, targets, known.rounded.graph
        self.splits: list[Split] = []
        count = 0
        for index, node in enumerate(self._graph.nodes[: targets.place]):
            if isinstance(node.operation, Relu | LeakyRelu):
                place = node.operands[0]
                size = ranges[place][0].size
                flat = node.operation.alpha if isinstance(node.operation, LeakyRelu) else 0.0
                self.splits.append(Split(index, place, flat, count, count := count + size))
        self._flat = np.concatenate([np.zeros(0), *(np.full(s.stop - s.start, s.flat) for s in self.splits)])
        self._lower, self._upper = (
            np.concatenate([np.zeros(0), *(ranges[split.place][side][0].reshape(-1) for split in self.splits)])
            for side in (0, 1)
        )

    def whole(self, literals: npt.NDArray[np.intp]) -> Parts:
        """The whole box, for each of these literals."""
        shape = (len(literals), len(self._lower))
        steep = np.where(self._upper > -self._lower, 1.0, self._flat)
        return Parts(np.zeros(shape, dtype=np.int8), np.broadcast_to(steep, shape), np.zeros(shape), literals)

    def bound(self, parts: Parts, steps: int, look_up: Callable[[], None] = lambda: None) -> Bounded:
        """Bound each part, improving slopes and multipliers by so many steps; ends early where all are above zero.

        ``look_up`` is called before each step, and may raise what ends it.
        """
        lower = np.where(parts.phases > 0, np.maximum(self._lower, 0.0), self._lower)
        upper = np.where(parts.phases < 0, np.minimum(self._upper, 0.0), self._upper)
        free = (lower < 0.0) & (upper > 0.0)
        gap = np.where(free, -lower * upper / np.where(free, upper - lower, 1.0), 0.0)
        relaxations = self._relaxations(lower, upper)
        slope_climb, multiplier_climb = Climb(parts.slopes.shape), Climb(parts.slopes.shape)
        best, tried = Bounded(np.full(len(parts), -np.inf), parts, gap, np.empty((len(parts), 0))), parts
        for step in range(steps + 1):
            look_up()
            known = self._known(tried, relaxations, free)
            least, form, results = self._literals(known, parts.literal)
            point = np.where(form > 0.0, known.lower, known.upper)
            weight = self._joined(results, len(parts))
            best = _better(best, Bounded(least, tried, np.abs(weight) * gap, point))
            if step == steps or (best.lower > 0.0).all():
                break
            values = self._relaxed_values(known, results, point)
            length = _DECAY**step
            slopes = tried.slopes + slope_climb.step(np.maximum(weight, 0.0) * values * free) * (_SLOPE_STEP * length)
            scale = np.abs(weight).sum(axis=1, keepdims=True) / np.maximum((weight != 0.0).sum(axis=1), 1)[:, None]
            climbed = multiplier_climb.step(-parts.phases * values) * (_MULTIPLIER_STEP * length * scale)
            multipliers = np.where(parts.phases != 0, (tried.multipliers + climbed).clip(0.0, None), 0.0)
            tried = dataclasses.replace(tried, slopes=slopes.clip(self._flat, 1.0), multipliers=multipliers)
        return best

    def _relaxations(self, lower: Floats, upper: Floats) -> dict[int, Relaxed]:
        graph, form, found = self._graph, self._root.rounded.form, {}
        for split in self.splits:
            shape, here = (len(lower), *graph.shapes[split.place]), slice(split.start, split.stop)
            operation = graph.nodes[split.node].operation
            if not isinstance(operation, Relu | LeakyRelu):
                raise ValueError(f"node {split.node} has no phases")
            with np.errstate(invalid="ignore", divide="ignore"):
                found[split.node] = relaxed(
                    operation, form, lower[:, here].reshape(shape), upper[:, here].reshape(shape)
                )
        return found

    def _known(self, parts: Parts, relaxations: dict[int, Relaxed], free: Flags) -> Known:
        """Everything for a backward pass, one box per part."""
        graph, root, count = self._graph, self._root, len(parts)
        relaxed_by_node, multipliers = dict(root.relaxed), {}
        for split in self.splits:
            shape, here = (count, *graph.shapes[split.place]), slice(split.start, split.stop)
            fixed = relaxations[split.node]
            slope = np.where(free[:, here], parts.slopes[:, here], fixed.lower_slope.reshape(count, -1)).reshape(shape)
            shift = np.where(free[:, here].reshape(shape), np.minimum(fixed.lower_shift, 0.0), fixed.lower_shift)
            relaxed_by_node[split.node] = dataclasses.replace(fixed, lower_slope=slope, lower_shift=shift)
            if parts.multipliers[:, here].any():
                multipliers[split.place] = (-parts.multipliers[:, here] * parts.phases[:, here]).reshape(shape)
        return dataclasses.replace(root, relaxed=relaxed_by_node, multipliers=multipliers)

    def _literals(self, known: Known, literal: Indices) -> tuple[Floats, Floats, dict[int, Floats]]:
        """Lower bounds, lower forms in the inputs, and the forms in the results of nonlinear operations."""
        targets = self._targets
        start = targets.forms[literal].reshape(-1, *self._graph.shapes[targets.place])
        with np.errstate(over="ignore", invalid="ignore"):
            form, constant, results = carried(known, targets.place, start, slice(None))
            form, constant = form + targets.inputs[literal], constant + targets.offset[literal]
            least = lowest(form, constant, known.lower, known.upper, known.rounded.slack)
        return np.where(np.isfinite(least), least, -np.inf), form, results

    def _joined(self, results: dict[int, Floats], count: int) -> Floats:
        """The forms in the results of those operations that have phases, (part, value)."""
        weight = np.zeros((count, len(self._lower)))
        for split in self.splits:
            if split.node in results:
                weight[:, split.start : split.stop] = results[split.node].reshape(count, -1)
        return weight

    def _relaxed_values(self, known: Known, results: dict[int, Floats], point: Floats) -> Floats:
        """What operations with phases take where the relaxed network is evaluated at a point, (part, value)."""
        graph, count = self._graph, len(point)
        tensors, values = [point.reshape(count, *graph.shape)], np.zeros((count, len(self._lower)))
        starts = {split.node: split for split in self.splits}
        for index, node in enumerate(graph.nodes[: self._targets.place]):
            before = [tensors[operand] for operand in node.operands]
            if isinstance(node.operation, AffineMap):
                tensors.append(node.operation(*before))
                continue
            if index in starts:
                values[:, starts[index].start : starts[index].stop] = before[0].reshape(count, -1)
            form = results.get(index, np.zeros((count, *node.shape)))
            tensors.append(_relaxed_value(known.relaxed[index], form, before[0]))
        return values


def _relaxed_value(relaxation: Relaxed | RelaxedPool, form: Floats, before: Floats) -> Floats:
    """The side of a relaxation that the form's sign takes."""
    if isinstance(relaxation, Relaxed):
        below = relaxation.lower_slope * before + relaxation.lower_shift
        return np.where(form >= 0.0, below, relaxation.upper_slope * before + relaxation.upper_shift)
    seen = relaxation.windows.unfold(by_image(before))
    chosen = np.broadcast_to(relaxation.chosen[:, :, None], seen[:, :, :1].shape)
    below = np.take_along_axis(seen, chosen, axis=2)[:, :, 0]
    looked = by_image(form)
    return np.where((looked > 0.0) | relaxation.exact, below, relaxation.most).reshape(form.shape)


def _better(old: Bounded, new: Bounded) -> Bounded:
    """Of each part whichever bound is larger."""
    better = new.lower > old.lower
    if better.all() or not old.points.size:
        return new

    def chosen(fresh: Floats, stale: Floats) -> Floats:
        return np.where(better[:, None], fresh, stale)

    parts = dataclasses.replace(
        new.parts,
        slopes=chosen(new.parts.slopes, old.parts.slopes),
        multipliers=chosen(new.parts.multipliers, old.parts.multipliers),
    )
    return Bounded(
        np.maximum(new.lower, old.lower), parts, chosen(new.score, old.score), chosen(new.points, old.points)
    )
