"""Linear forms in a graph's tensors, carried back to its inputs.

A lower bound ``form . z + constant`` of something on all trajectories becomes one in the inputs, operation by operation
from the last to the first; a tensor with several consumers adds up their forms. What is charged where, and why that
suffices, is :mod:`sidecar.compiler.graph_rounding`'s business: a form in an operand of a nonlinear operation, and in
the tensor that is started from, is charged ``|form| . E``. Between two charges the form is only multiplied out, with
the rounding that ``E``'s ``slack`` pays for; relaxations enter with shifts that are sound as computed.
"""

import dataclasses
import math
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.graph_relaxations import Relaxed
from sidecar.compiler.graph_rounding import Rounded
from sidecar.compiler.rounding import INFLATE, TINY, Floats
from sidecar.network.operators.operation import AffineMap
from sidecar.network.operators.windows import Windows, by_image

Indices: TypeAlias = npt.NDArray[np.intp]

_BLOCK: Final = 2**18
"""Values of one tensor's forms that are carried back at once, at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class RelaxedPool:
    """A MaxPool over many boxes.

    Args:
        windows: the pool's.
        chosen: intp (box * n, channel, *window); which place in each window is a lower bound of the largest value.
        exact: bool, the same shape; that place is the largest value on all trajectories.
        most: float64, the same shape; an upper bound of the largest value.
    """

    windows: Windows
    chosen: Indices
    exact: npt.NDArray[np.bool_]
    most: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What is known of all trajectories from each of many boxes.

    Args:
        rounded: the graph.
        lower, upper: of the inputs, float64 (box, input).
        errors: ``E`` (box, *shape) by tensor, for operands of nonlinear operations and for the output.
        relaxed: by node.
        multipliers: by tensor, float64 (box, *shape): a term of it that is at most zero on all trajectories is added to
            the form; none where nothing is known of its sign.
    """

    rounded: Rounded
    lower: Floats
    upper: Floats
    errors: dict[int, Floats]
    relaxed: dict[int, Relaxed | RelaxedPool]
    multipliers: dict[int, Floats] = dataclasses.field(default_factory=dict)


def backward(known: Known, place: int, form: Floats, box: Indices) -> tuple[Floats, Floats]:
    """A lower form in a tensor (row, *shape), each row about one box, as one in the inputs.

    Returns:
        Coefficients (row, input) and a constant (row,), with all rounding charged but that of evaluating them.
    """
    step = max(1, _BLOCK // known.rounded.widest)
    found = [
        carried(known, place, form[start : start + step], box[start : start + step])[:2]
        for start in range(0, max(len(form), 1), step)
    ]
    return np.concatenate([form for form, _ in found]), np.concatenate([constant for _, constant in found])


def carried(known: Known, place: int, form: Floats, box: Indices | slice) -> tuple[Floats, Floats, dict[int, Floats]]:
    """As :func:`backward`, all rows at once; also the form in each nonlinear operation's result, by node.

    Where ``known`` has one entry per row, or one for all, ``box`` is a slice of everything.
    """
    graph, rows = known.rounded.graph, len(form)
    constant = -_charge(form, known.errors[place], box)
    forms, results = {place: form}, dict[int, Floats]()
    for index in range(place, 0, -1):
        form_here = forms.pop(index, None)
        if form_here is None:
            continue
        node, bias = graph.nodes[index - 1], known.rounded.biases[index - 1]
        if isinstance(node.operation, AffineMap):
            if bias is not None:
                constant = constant + form_here.reshape(rows, -1) @ bias
            parts = node.operation.adjoint(form_here, [graph.shapes[operand] for operand in node.operands])
        else:
            results[index - 1] = form_here
            operand = node.operands[0]
            passed, shift = _relaxed(known, index - 1, form_here, box)
            if operand in known.multipliers:
                passed = passed + known.multipliers[operand][box]
            constant = constant + shift - _charge(passed, known.errors[operand], box)
            parts = (passed,)
        for operand, part in zip(node.operands, parts, strict=True):
            forms[operand] = forms[operand] + part if operand in forms else part
    last = forms.get(0)
    return (np.zeros((rows, known.lower.shape[1])) if last is None else last.reshape(rows, -1)), constant, results


def _charge(form: Floats, error: Floats, box: Indices | slice) -> Floats:
    own = error[box]
    return np.asarray(np.einsum("rj,rj->r", np.abs(form).reshape(len(form), -1), own.reshape(len(own), -1)))


def _relaxed(known: Known, node: int, form: Floats, box: Indices | slice) -> tuple[Floats, Floats]:
    relaxed = known.relaxed[node]
    if isinstance(relaxed, RelaxedPool):
        return _pooled(known, node, relaxed, form, box)
    rising, falling = np.maximum(form, 0.0), np.minimum(form, 0.0)
    passed = rising * relaxed.lower_slope[box] + falling * relaxed.upper_slope[box]
    shift = rising * relaxed.lower_shift[box] + falling * relaxed.upper_shift[box]
    return passed, _rounded_down(shift.reshape(len(form), -1))


def _rounded_down(shift: Floats) -> Floats:
    """Sums (row, value), rounded down."""
    charge = np.abs(shift).sum(axis=1) * (INFLATE - 1.0) + TINY
    return np.asarray(shift.sum(axis=1) - charge)


def _pooled(known: Known, node: int, relaxed: RelaxedPool, form: Floats, box: Indices | slice) -> tuple[Floats, Floats]:
    """The chosen place where the form rises or it is the largest anyway; else the upper bound."""
    graph = known.rounded.graph
    shape, windows = graph.shapes[graph.nodes[node].operands[0]], relaxed.windows
    images, boxes = shape[0], len(known.lower)

    def of_rows(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        own = values.reshape(boxes, images, *values.shape[1:])[box]
        return by_image(np.broadcast_to(own, (len(form), *own.shape[1:])))

    looked = by_image(form)
    linear = np.where((looked > 0.0) | of_rows(relaxed.exact), looked, 0.0)
    chosen = of_rows(relaxed.chosen)
    places = math.prod(windows.kernel)
    seen = np.stack([np.where(chosen == index, linear, 0.0) for index in range(places)], axis=2)
    passed = windows.fold(seen, shape[2:]).reshape(len(form), *shape)
    flat = np.where(linear == 0.0, np.minimum(looked, 0.0), 0.0) * of_rows(relaxed.most)
    return passed, _rounded_down(flat.reshape(len(form), -1))
