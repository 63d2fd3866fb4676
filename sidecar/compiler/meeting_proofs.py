"""The steps by which the checker sees that required outputs exist wherever regions meet.

:mod:`sidecar.compiler.consistency` has decided the question; here its witnesses are arranged over cells of the input
space: an answer for a whole cell where there is one, else cases without a region that its cuts take out of the cell,
else the cell divided, where a region begins or ends if one does inside it. Nothing here is trusted; cells that stay
without an answer end in one that the checker will refuse.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from sidecar.certificate.meeting import Node, common, complaints, divided, first_cell, meeting
from sidecar.certificate.values import Answer, Apart, Divide, Step
from sidecar.compiler.consistency import find_answer
from sidecar.gates.linear_program import Constraint, Status, maximize
from sidecar.gates.values import Action, Box, Gate
from sidecar.tensors import ModelSignature

MOST_STEPS: Final = 20_000
"""Cells looked at; the overlaps that consistency examines are fewer."""


def prove_meeting(gates: Sequence[Gate], signature: ModelSignature) -> tuple[Step, ...]:
    """Steps for :func:`sidecar.certificate.meeting.require_answers`; if it refuses them, no others were found."""
    pending, steps = [first_cell(gates)], list[Step]()
    while pending and len(steps) < MOST_STEPS:
        box, nodes = pending.pop()
        nodes = meeting(gates, box, nodes)
        answer = _answer(gates, signature, box, nodes)
        if answer is not None:
            steps.append(answer)
        elif (apart := _apart(gates, box, nodes)) is not None:
            steps.append(apart)
            pending += [(box, tuple(node for node in nodes if node != out)) for out in reversed(apart.nodes)]
        elif (divide := _divide(gates, box, nodes)) is not None:
            steps.append(divide)
            below, above = divided(box, divide.feature, divide.threshold)
            pending += [(above, nodes), (below, nodes)]
        else:
            steps.append(Answer((Fraction(0),) * signature.output_size))
    return tuple(steps)


def _answer(gates: Sequence[Gate], signature: ModelSignature, box: Box, nodes: Sequence[Node]) -> Answer | None:
    correcting = [node for node in nodes if gates[node[0]].action is not Action.REFUSE]
    found: tuple[Fraction, ...] | None = ()
    if correcting:
        parts = [(gates[gate], common(box, gates[gate].domain[region].box) or box) for gate, region in correcting]
        found = find_answer(parts, signature)
    if found is None or any(complaints(gates, signature, box, nodes, found)):
        return None
    return Answer(found)


def _apart(gates: Sequence[Gate], box: Box, nodes: Sequence[Node]) -> Apart | None:
    """The first region that its cuts take out of the cell."""
    for gate, region in nodes:
        here = common(box, gates[gate].domain[region].box)
        factors = () if here is None else _factors(gates, (gate, region), here)
        if factors:
            return Apart(((gate, region),), factors)
    return None


def _factors(gates: Sequence[Gate], node: Node, box: Box) -> tuple[tuple[int, int, int, Fraction], ...]:
    """Factors with which a region's cuts add up to less than zero all over a box; none where there are no such.

    By duality: the largest value over the box of ``sum f cut`` is ``sum f offset + sum (low + (high - low) s)`` at
    its best corner, so with ``t_i >= 0`` and ``t_i >= slope_i * width_i`` it is at most ``value(low corner) + sum
    t``.
    """
    cuts = gates[node[0]].domain[node[1]].cuts
    inputs = sorted({index for cut in cuts for index, _ in cut.inputs})
    count, zero, one = len(cuts), Fraction(0), Fraction(1)
    at_low = [cut.offset + sum((a * box.lower[i] for i, a in cut.inputs), zero) for cut in cuts]
    rises = [[dict(cut.inputs).get(i, zero) * (box.upper[i] - box.lower[i]) for cut in cuts] for i in inputs]
    unit = [
        [one if row == column else zero for column in range(count + len(inputs))] for row in range(count + len(inputs))
    ]
    constraints = [Constraint(tuple(row), zero) for row in unit]
    constraints += [
        Constraint((*(-rise for rise in rises[place]), *unit[count + place][count:]), zero)
        for place in range(len(inputs))
    ]
    constraints.append(Constraint((-one,) * count + (zero,) * len(inputs), one))
    solution = maximize([*(-value for value in at_low), *[-one] * len(inputs)], constraints) if cuts else None
    if solution is None or solution.status is not Status.OPTIMAL or not (solution.value and solution.point):
        return ()
    return tuple((*node, place, factor) for place, factor in enumerate(solution.point[:count]) if factor > 0)


def _divide(gates: Sequence[Gate], box: Box, nodes: Sequence[Node]) -> Divide | None:
    """Between two regions that a feature parts; else where a region begins or ends; else in the middle."""
    boxes = [gates[gate].domain[region].box for gate, region in nodes]
    for index, (low, high) in enumerate(zip(box.lower, box.upper, strict=True)):
        for ends in sorted(each.upper[index] for each in boxes):
            begins = min((each.lower[index] for each in boxes if each.lower[index] > ends), default=None)
            if begins is not None and low < (ends + begins) / 2 < high and not _spans(boxes, index, ends, begins):
                return Divide(index, (ends + begins) / 2)
    bounds = [
        (index, bound)
        for index in range(len(box.lower))
        for bound in sorted({bound for each in boxes for bound in (each.lower[index], each.upper[index])})
        if box.lower[index] < bound < box.upper[index]
    ]
    if bounds:
        return Divide(*bounds[len(bounds) // 2])
    mentioned = {
        index
        for gate, _ in nodes
        for clause in gates[gate].requirement.clauses
        for lit in clause
        for index, _ in lit.inputs
    }
    mentioned |= {index for gate, region in nodes for cut in gates[gate].domain[region].cuts for index, _ in cut.inputs}
    widest = max(sorted(mentioned), key=lambda index: box.upper[index] - box.lower[index], default=None)
    if widest is None or box.lower[widest] == box.upper[widest]:
        return None
    return Divide(widest, (box.lower[widest] + box.upper[widest]) / 2)


def _spans(boxes: Sequence[Box], index: int, ends: Fraction, begins: Fraction) -> bool:
    """Whether some box covers the gap between two bounds of a feature."""
    return any(each.lower[index] <= ends and begins <= each.upper[index] for each in boxes)
