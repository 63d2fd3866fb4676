"""A MatMul or Conv and the Add of a constant behind it as one operation with a bias, as other exporters write it.

The same function; and whatever evaluates the two one after the other evaluates the joined one too, which may round its
sum of products before the bias is added, and its result. So nothing is lost but a layer whose roundings would be
counted twice.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.network.graph import Node
from sidecar.network.operators.conv import Conv
from sidecar.network.operators.matmul import MatMul
from sidecar.network.operators.operation import Floats, Shape
from sidecar.network.operators.shift import Shift


def with_biases(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes, in the order of computation, without those that a bias takes the place of."""
    uses = [0] * (len(nodes) + 1)
    for node in nodes:
        for operand in node.operands:
            uses[operand] += 1
    joined, places = list[Node](), [0]
    for node in nodes:
        moved = dataclasses.replace(node, operands=tuple(places[operand] for operand in node.operands))
        last = joined[-1] if joined and moved.operands == (len(joined),) and uses[node.operands[0]] == 1 else None
        biased = None if last is None else _biased(last, moved)
        if biased is None:
            joined.append(moved)
        else:
            joined[-1] = biased
        places.append(len(joined))
    return tuple(joined)


def _biased(first: Node, second: Node) -> Node | None:
    """Both as one, where the second adds a constant that the first can take as its bias."""
    operation, shift = first.operation, second.operation
    if not isinstance(shift, Shift) or shift.sign != 1.0 or first.shape != second.shape:
        return None
    match operation:
        case MatMul(added=None):
            whole = dataclasses.replace(operation, added=shift.constant, terms=operation.terms + 1)
            return dataclasses.replace(first, operation=whole)
        case Conv(added=None) if (by_channel := _by_channel(shift, first.shape)) is not None:
            return dataclasses.replace(first, operation=dataclasses.replace(operation, added=by_channel))
        case _:
            return None


def _by_channel(shift: Shift, shape: Shape) -> Floats | None:
    """The constant as a number for each channel of (n, channel, *spatial); None where it is none."""
    constant = shift.constant.reshape((1,) * (len(shape) - shift.constant.ndim) + shift.constant.shape)
    if constant.size != constant.shape[1]:
        return None
    return np.broadcast_to(constant.reshape(-1), shape[1]).copy()
