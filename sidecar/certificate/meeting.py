"""That required outputs exist wherever regions meet, and that fallbacks satisfy whatever they can meet. All exact.

At an input some properties hold jointly: those with a region that contains it. A *cell* is a box of inputs, with the
regions that may have points in it. To prove of a cell:

* there is one answer that the wire can carry and that satisfies, for every input of the cell, every property with a
region
  there, margins included, action ``refuse`` left aside (whose violation is an error for the client whatever else
  holds);
* each fallback of a property with a region there satisfies every property whose region shares a point with it there.

The first cell is a box around all regions, and outside it there is nothing to prove. The certificate's steps take it
apart: into halves; into cases in which regions that have no common point are left out one at a time; and give the
answers. A literal counts as holding for a box of inputs if it does where its own input part is least.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias, assert_never

from sidecar.certificate.values import Answer, Apart, Divide, Step
from sidecar.errors import NegativeAnswer
from sidecar.gates.values import Action, Box, Gate, Literal
from sidecar.numerics import round_to_datatype
from sidecar.tensors import ModelSignature

Node: TypeAlias = tuple[int, int]
"""(gate, region)."""


def require_answers(gates: Sequence[Gate], signature: ModelSignature, steps: Sequence[Step]) -> None:
    """Raises NegativeAnswer, with the place, where the steps do not prove it."""
    pending = [first_cell(gates)]
    for number, step in enumerate(steps):
        if not pending:
            raise _failure(number, "nothing is left to prove, and more steps follow")
        box, nodes = pending.pop()
        nodes = meeting(gates, box, nodes)
        match step:
            case Divide(feature, threshold):
                if not (feature < len(box.lower) and box.lower[feature] <= threshold <= box.upper[feature]):
                    raise _failure(number, f"divides feature {feature} at {threshold}, outside its cell")
                below, above = divided(box, feature, threshold)
                pending += [(above, nodes), (below, nodes)]
            case Apart():
                _apart(gates, box, nodes, step, number)
                pending += [(box, tuple(node for node in nodes if node != out)) for out in reversed(step.nodes)]
            case Answer(outputs):
                for complaint in complaints(gates, signature, box, nodes, outputs):
                    raise _failure(number, complaint)
            case _:
                assert_never(step)
    if pending:
        raise _failure(len(steps), f"{len(pending)} cells have no proof")


def first_cell(gates: Sequence[Gate]) -> tuple[Box, tuple[Node, ...]]:
    """A box around all regions, and all regions."""
    nodes = tuple((number, region) for number, gate in enumerate(gates) for region in range(len(gate.domain)))
    boxes = [_box(gates, node) for node in nodes]
    lower, upper = zip(*(box.lower for box in boxes), strict=True), zip(*(box.upper for box in boxes), strict=True)
    return Box(tuple(map(min, lower)), tuple(map(max, upper))), nodes


def divided(box: Box, feature: int, threshold: Fraction) -> tuple[Box, Box]:
    """The parts below and above, both with the threshold."""
    upper = tuple(threshold if index == feature else bound for index, bound in enumerate(box.upper))
    lower = tuple(threshold if index == feature else bound for index, bound in enumerate(box.lower))
    return Box(box.lower, upper), Box(lower, box.upper)


def meeting(gates: Sequence[Gate], box: Box, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Those regions whose boxes share a point with the box."""
    return tuple(node for node in nodes if common(box, _box(gates, node)) is not None)


def common(first: Box, *others: Box) -> Box | None:
    """What boxes have in common; None where that is nothing."""
    lower = tuple(map(max, first.lower, *(box.lower for box in others)))
    upper = tuple(map(min, first.upper, *(box.upper for box in others)))
    return Box(lower, upper) if all(low <= high for low, high in zip(lower, upper, strict=True)) else None


def complaints(
    gates: Sequence[Gate], signature: ModelSignature, box: Box, nodes: Sequence[Node], outputs: Sequence[Fraction]
) -> Iterator[str]:
    """Why an answer and the fallbacks do not prove a cell, with whose box all the regions share points."""
    correcting = [node for node in nodes if gates[node[0]].action is not Action.REFUSE]
    on_the_wire = _on_the_wire(outputs, signature)
    if correcting and not on_the_wire:
        yield "the answer is not one that the wire can carry"
    for node in correcting if on_the_wire else ():
        gate, here = gates[node[0]], common(box, _box(gates, node))
        if here is not None and not satisfies(gate, outputs, here, gate.margin):
            yield f"the answer does not satisfy property {gate.property_id!r} all over the cell"
    for node in nodes:
        fallback = gates[node[0]].fallback
        for other in nodes if fallback is not None else ():
            here = common(box, _box(gates, node), _box(gates, other))
            if (
                fallback is not None
                and here is not None
                and not satisfies(gates[other[0]], fallback, here, Fraction(0))
            ):
                names = gates[node[0]].property_id, gates[other[0]].property_id
                yield "the fallback of property {!r} does not satisfy property {!r} all over the cell".format(*names)


def satisfies(gate: Gate, outputs: Sequence[Fraction], box: Box, margin: Fraction) -> bool:
    """Whether constant outputs satisfy each clause for every input of a box, by some literal's worst value."""
    return all(any(_holds(literal, outputs, box, margin) for literal in clause) for clause in gate.requirement.clauses)


def _holds(literal: Literal, outputs: Sequence[Fraction], box: Box, margin: Fraction) -> bool:
    value = literal.offset + sum((a * outputs[index] for index, a in literal.outputs), Fraction(0))
    value += sum((min(a * box.lower[index], a * box.upper[index]) for index, a in literal.inputs), Fraction(0))
    return value >= margin and (value > 0 or not literal.strict)


def _on_the_wire(outputs: Sequence[Fraction], signature: ModelSignature) -> bool:
    datatypes = signature.output_datatypes()
    try:
        return len(outputs) == len(datatypes) and all(
            Fraction(round_to_datatype(value, kind)) == value for value, kind in zip(outputs, datatypes, strict=True)
        )
    except OverflowError:
        return False


def _apart(gates: Sequence[Gate], box: Box, nodes: Sequence[Node], step: Apart, number: int) -> None:
    """Make sure that the regions that a step names share no point of the cell."""
    if not step.nodes or not set(step.nodes) <= set(nodes):
        raise _failure(number, f"is about the regions {list(step.nodes)}, the cell has {list(nodes)}")
    here = common(box, *(_box(gates, node) for node in step.nodes))
    if here is None:
        return
    value, slopes = Fraction(0), [Fraction(0)] * len(box.lower)
    for gate, region, place, factor in step.cuts:
        if (gate, region) not in step.nodes or factor <= 0 or place >= len(gates[gate].domain[region].cuts):
            raise _failure(number, f"takes cut {place} of region {(gate, region)} {factor} times")
        cut = gates[gate].domain[region].cuts[place]
        value += factor * cut.offset
        for index, a in cut.inputs:
            slopes[index] += factor * a
    value += sum(max(a * low, a * high) for a, low, high in zip(slopes, here.lower, here.upper, strict=True))
    if value >= 0:
        raise _failure(number, f"the regions {list(step.nodes)} may share a point: their cuts reach {value}")


def _box(gates: Sequence[Gate], node: Node) -> Box:
    return gates[node[0]].domain[node[1]].box


def _failure(number: int, what: str) -> NegativeAnswer:
    return NegativeAnswer(f"jointly required outputs: step {number}: {what}; compile the bundle again")
