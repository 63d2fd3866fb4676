"""Sound bounds of a requirement's literals over many boxes at once, for graphs: the counterpart of
:mod:`sidecar.compiler.bounds`, whose argument holds here with the stages of :mod:`sidecar.compiler.graph_rounding`.

From the input to the output every tensor gets a centre and a radius, in real arithmetic on what is known of the
tensors before. Where a nonlinear operation takes one, its perturbation ``E`` is added, a backward pass is made for
those values for which that pays, and the operation is relaxed. At the end a backward pass is made for each literal, as
it stands and negated.
"""

import dataclasses
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.bounds import lowest
from sidecar.compiler.graph_backward import Known, RelaxedPool, backward
from sidecar.compiler.graph_relaxations import Flags, image, relaxed, undecided
from sidecar.compiler.graph_rounding import Rounded, rounded
from sidecar.compiler.literal_rows import LiteralRows, literal_rows
from sidecar.compiler.rounding import INFLATE, Floats
from sidecar.gates.values import Requirement
from sidecar.network.graph import Graph, Node
from sidecar.network.operators.max_pool import MaxPool
from sidecar.network.operators.operation import AffineMap, Elementwise

_TIGHTENED: Final = 2**17
"""Forms of one tensor that are carried back at once to tighten values, times two: as much as caches hold."""

Ranges: TypeAlias = dict[int, tuple[Floats, Floats]]
"""By tensor its lower and upper bounds, each float64 (box, *shape)."""

Sharpen: TypeAlias = Callable[[Known, Ranges, int], None]
"""Improves, in place, the bounds of a tensor that an elementwise operation takes, from what is known before it."""


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedGraph:
    """A graph and a requirement, made ready to bound boxes.

    Args:
        rounded: the graph with its rounding. rows: the requirement's literals.
    """

    rounded: Rounded
    rows: LiteralRows

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.rounded.graph


@dataclasses.dataclass(frozen=True, eq=False)
class Enclosure:
    """What is known of everything inside the graph.

    Args:
        known: for backward passes.
        ranges: bounds of what nonlinear operations take.
        finite: bool (box,); nothing overflowed.
    """

    known: Known
    ranges: Ranges
    finite: Flags


@dataclasses.dataclass(frozen=True, eq=False)
class GraphBounds:
    """What is proved of the literals over each box; see :class:`sidecar.compiler.bounds.Bounds`.

    Args:
        lower, upper: float64 (box, literal); infinite where nothing is known.
        slope: float64 (box, literal, input). constant: float64 (box, literal).
    """

    lower: Floats
    upper: Floats
    slope: Floats
    constant: Floats


def prepare_graph(graph: Graph, requirement: Requirement, arithmetic: Arithmetic) -> PreparedGraph:
    """Everything about bounding that does not depend on a box. Raises InputError as ``rounded`` does."""
    signature = graph.signature
    return PreparedGraph(
        rounded(graph, arithmetic), literal_rows(requirement, signature.input_size, signature.output_size)
    )


@dataclasses.dataclass(eq=False)
class _Forward:
    """The tensors passed so far: centre and radius, magnitude and the largest magnitude that it starts from."""

    known: Known
    ranges: Ranges
    sharpen: Sharpen | None
    centre: list[Floats]
    radius: list[Floats]
    magnitude: list[Floats]
    largest: list[Floats]
    finite: Flags

    def append(self, lower: Floats, upper: Floats) -> None:
        """A tensor whose bounds are known."""
        magnitude = np.maximum(np.abs(lower), np.abs(upper))
        self.centre.append((lower + upper) * 0.5)
        self.radius.append((upper - lower) * 0.5)
        self.magnitude.append(magnitude)
        self.largest.append(np.maximum(magnitude.reshape(len(magnitude), -1).max(axis=1), 1.0))


def enclose(
    prepared: PreparedGraph,
    lower: Floats,
    upper: Floats,
    look_up: Callable[[], None] = lambda: None,
    sharpen: Sharpen | None = None,
) -> Enclosure:
    """Bounds of everything inside the graph, over boxes ``[lower, upper]``, float64 (box, input).

    ``look_up`` is called between portions of the work, and may raise what ends it; ``sharpen`` for each tensor that an
    elementwise operation takes, behind the first.
    """
    graph = prepared.graph
    state = _Forward(
        Known(prepared.rounded, lower, upper, {}, {}), {}, sharpen, [], [], [], [], np.ones(len(lower), dtype=np.bool_)
    )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        state.append(*(side.reshape(len(lower), *graph.shape) for side in (lower, upper)))
        for index, node in enumerate(graph.nodes):
            if isinstance(node.operation, AffineMap):
                _affine(state, index, node, node.operation)
            else:
                state.append(*_nonlinear(state, index, node, look_up))
        _end(state, len(graph.nodes))
    return Enclosure(state.known, state.ranges, state.finite)


def _affine(state: _Forward, index: int, node: Node, operation: AffineMap) -> None:
    magnitudes = state.known.rounded.magnitudes[index]
    if magnitudes is None:
        raise ValueError(f"node {index} has no magnitudes")

    def before(tensors: list[Floats]) -> list[Floats]:
        return [tensors[operand] for operand in node.operands]

    state.centre.append(operation(*before(state.centre)))
    state.radius.append(magnitudes.linear(*before(state.radius)))
    state.magnitude.append(magnitudes(*before(state.magnitude)))
    state.largest.append(np.maximum.reduce(before(state.largest)))


def _end(state: _Forward, place: int) -> tuple[Floats, Floats]:
    """Charge a tensor that a nonlinear operation or the output takes; its bounds."""
    if place not in state.known.errors:
        error = state.known.rounded.error(place, state.magnitude[place], state.largest[place])
        state.known.errors[place] = error
        lower, upper = (
            state.centre[place] - state.radius[place] - error,
            state.centre[place] + state.radius[place] + error,
        )
        state.ranges[place] = lower, upper
        state.finite &= np.isfinite(lower).reshape(len(lower), -1).all(axis=1)
        state.finite &= np.isfinite(upper).reshape(len(upper), -1).all(axis=1)
    return state.ranges[place]


def _nonlinear(state: _Forward, index: int, node: Node, look_up: Callable[[], None]) -> tuple[Floats, Floats]:
    """Relax an operation; bounds of its result."""
    operand, operation = node.operands[0], node.operation
    lower, upper = _end(state, operand)
    if isinstance(operation, MaxPool):
        _tighten(state, operand, _contenders(operation, lower, upper), look_up)
        state.known.relaxed[index], least, most = _pool(operation, lower, upper)
        return least.reshape(len(lower), *node.shape), most.reshape(len(lower), *node.shape)
    if not isinstance(operation, Elementwise):
        raise NotImplementedError(f"no bounds for {type(operation).__name__}")
    _tighten(state, operand, undecided(operation, lower, upper), look_up)
    if state.sharpen is not None and state.known.relaxed:
        state.sharpen(state.known, state.ranges, operand)
    form = state.known.rounded.form
    state.known.relaxed[index] = relaxed(operation, form, lower, upper)
    return image(operation, form, lower, upper)


def _tighten(state: _Forward, place: int, wanted: Flags, look_up: Callable[[], None]) -> None:
    """Improve, in place, a tensor's bounds by a backward pass for each of the wanted values."""
    if not state.known.relaxed:
        return
    lower, upper = (side.reshape(len(side), -1) for side in state.ranges[place])
    box, value = np.nonzero(wanted.reshape(len(wanted), -1))
    if not len(box):
        return
    shape = state.known.rounded.graph.shapes[place]
    step = max(1, _TIGHTENED // state.known.rounded.widest)
    for start in range(0, len(box), step):
        look_up()
        here = slice(start, start + step)
        both, count = np.concatenate([box[here], box[here]]), len(box[here])
        form = np.zeros((2 * count, lower.shape[1]))
        form[np.arange(count), value[here]] = 1.0
        form[np.arange(count, 2 * count), value[here]] = -1.0
        slope, constant = backward(state.known, place, form.reshape(2 * count, *shape), both)
        least = lowest(slope, constant, state.known.lower[both], state.known.upper[both], state.known.rounded.slack)
        where = box[here], value[here]
        lower[where] = np.fmax(lower[where], least[:count])
        upper[where] = np.fmin(upper[where], -least[count:])


def _contenders(pool: MaxPool, lower: Floats, upper: Floats) -> Flags:
    """Values that may be the largest of some window in which another one may be too."""
    least = pool.seen(lower).max(axis=2, keepdims=True)
    seen = pool.seen(upper)
    may = seen >= least
    may &= may.sum(axis=2, keepdims=True) > 1
    counted = pool.windows.fold(may.astype(np.float64), lower.shape[3:])
    return np.asarray(counted.reshape(lower.shape) > 0.0)


def _pool(pool: MaxPool, lower: Floats, upper: Floats) -> tuple[RelaxedPool, Floats, Floats]:
    least, most = pool.seen(lower), pool.seen(upper)
    chosen = least.argmax(axis=2)
    others = most.copy()
    np.put_along_axis(others, chosen[:, :, None], -np.inf, axis=2)
    highest = least.max(axis=2)
    exact = highest >= others.max(axis=2)
    return RelaxedPool(pool.windows, chosen, exact, most.max(axis=2)), highest, most.max(axis=2)


def bound_graph(prepared: PreparedGraph, lower: Floats, upper: Floats) -> GraphBounds:
    """Bounds over the boxes ``[lower, upper]``, float64 (box, input), finite."""
    return literal_bounds(prepared, enclose(prepared, lower, upper))


def literal_bounds(prepared: PreparedGraph, enclosure: Enclosure) -> GraphBounds:
    """The last pass: each literal as it stands and negated, for every box."""
    rows, known, boxes = prepared.rows, enclosure.known, len(enclosure.finite)
    count = 2 * len(rows.offset)
    box = np.repeat(np.arange(boxes), count)
    signed = np.tile(np.concatenate([rows.outputs, -rows.outputs]), (boxes, 1))
    own_inputs, own_offset = np.concatenate([rows.inputs, -rows.inputs]), np.concatenate([rows.offset, -rows.offset])
    with np.errstate(over="ignore", invalid="ignore"):
        form, constant = backward(known, len(prepared.graph.nodes), signed.reshape(-1, *prepared.graph.shapes[-1]), box)
        form, constant = form.reshape(boxes, count, -1) + own_inputs, constant.reshape(boxes, count) + own_offset
        constant = constant - own_magnitude(known, own_inputs, own_offset) * (known.rounded.slack * INFLATE)
        least = lowest(form, constant, known.lower[:, None, :], known.upper[:, None, :], known.rounded.slack)
    least = np.where(enclosure.finite[:, None] & np.isfinite(least), least, -np.inf)
    half = count // 2
    return GraphBounds(
        least[:, :half],
        -least[:, half:],
        form[:, :half],
        np.where(enclosure.finite[:, None], constant[:, :half], -np.inf),
    )


def own_magnitude(known: Known, inputs: Floats, offset: Floats) -> Floats:
    """What rounding of the literals' own part is charged on, (box, literal)."""
    magnitude: Floats = np.abs(offset) + np.maximum(np.abs(known.lower), np.abs(known.upper)) @ np.abs(inputs).T
    return magnitude
