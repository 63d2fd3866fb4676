"""The nodes of an ONNX graph, one after the other, as operations on tensors. What is not understood is refused."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from sidecar.network.graph import Node, Operation
from sidecar.network.operators.application import Application, Constant, Flow, NodeError
from sidecar.network.operators.operation import Elementwise
from sidecar.network.operators.rules import RULES
from sidecar.tensors import Datatype

MOST_VALUES: Final = 2**26
"""Values of one tensor; a model with a larger one is refused."""

STANDARD: Final = ("", "ai.onnx")
"""Names of the standard operators' domain."""

OTHERWISE: Final = "(to guard such a model without proving anything: --without-proof)"
"""Ends the message about a model that :mod:`sidecar.compiler.opaque` might read."""


class Walk:
    """The graph as far as it has been read; the checker has made sure that nodes stand in the order of computation."""

    def __init__(self, opset: int, constants: dict[str, Constant], flows: dict[str, Flow], datatype: Datatype) -> None:
        self._opset, self._constants, self._datatype = opset, constants, datatype
        self.flows, self.nodes = flows, list[Node]()

    def step(self, node: Any) -> None:
        """Read one node. Raises NodeError."""
        if node.op_type == "Constant" and node.domain in STANDARD:
            self._constants[node.output[0]] = _constant_value(node)
            return
        rule = RULES.get(node.op_type) if node.domain in STANDARD else None
        if rule is None:
            raise NodeError(
                f"is an operator that is not supported; expected one of {', '.join(RULES)}, Constant {OTHERWISE}"
            )
        operands = tuple(map(self._operand, node.input))
        _check_datatypes(operands, self._datatype)
        application = Application(_attributes(node), operands, self._opset)
        if not application.flows:
            raise NodeError("combines constants only; expected a computed tensor (fold constants before exporting)")
        try:
            self.flows[node.output[0]] = self._applied(rule(application), application.flows)
        except ValueError as error:
            raise NodeError(f"has shapes that do not fit: {error}") from error

    def _operand(self, name: str) -> Flow | Constant | None:
        """A node's operand by name; an empty one is left out. Second results (indices, masks) are not followed."""
        if not name:
            return None
        found = self.flows.get(name, self._constants.get(name))
        if found is None:
            raise NodeError(f"computes with {name!r}, a second result of a node; expected first results only")
        return found

    def _applied(self, steps: Sequence[Operation], flows: tuple[Flow, ...]) -> Flow:
        for operation in steps:
            shapes = tuple(flow.shape for flow in flows)
            shape = shapes[0] if isinstance(operation, Elementwise) else operation.shape(*shapes)
            if math.prod(shape) > MOST_VALUES:
                raise NodeError(f"gives {math.prod(shape)} values; the limit is {MOST_VALUES}")
            batched = flows[0].batched
            if batched and (not shape or shape[0] != 1):
                raise NodeError(f"gives shape {shape} for a single row, so it mixes the batch with other dimensions")
            self.nodes.append(Node(operation, tuple(flow.place for flow in flows), shape))
            flows = (Flow(len(self.nodes), shape, batched),)
        return flows[0]


def needed(nodes: Sequence[Node], sink: int) -> tuple[Node, ...]:
    """The nodes that tensor ``sink`` is computed from, it last, their operands renumbered."""
    needed = {sink}
    for place in range(sink, 0, -1):
        if place in needed:
            needed.update(nodes[place - 1].operands)
    kept = sorted(needed - {0})
    places = {0: 0} | {old: new for new, old in enumerate(kept, 1)}
    return tuple(
        dataclasses.replace(nodes[old - 1], operands=tuple(places[operand] for operand in nodes[old - 1].operands))
        for old in kept
    )


def _constant_value(node: Any) -> Constant:
    attributes = _attributes(node)
    if list(attributes) != ["value"]:
        got = ", ".join(map(repr, attributes)) or "nothing"
        raise NodeError(f"gives its value as {got}; expected a tensor as 'value'")
    return tensor_values(attributes["value"])


def _check_datatypes(operands: tuple[Flow | Constant | None, ...], datatype: Datatype) -> None:
    expected = {Datatype.FP32: "float32", Datatype.FP64: "float64"}[datatype]
    for operand in operands:
        if isinstance(operand, np.ndarray) and operand.dtype.kind == "f" and operand.dtype.name != expected:
            raise NodeError(f"has a constant of type {operand.dtype}; the input is {expected}")


def tensor_values(tensor: Any) -> Constant:
    """Raises NodeError for contents that do not fit the tensor's declaration; the checker finds most, not all."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise NodeError(f"has a constant that cannot be read: {error}") from error


def _attributes(node: Any) -> dict[str, Any]:
    """By name, strings as bytes. Raises NodeError for one that has no value of its own."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise NodeError(f"takes its attribute {attribute.name!r} from a function; expected a value")
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
