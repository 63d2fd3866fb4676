"""The steps by which the checker sees that required outputs exist wherever regions meet.

:mod:`sidecar.compiler.consistency` has decided the question; here its witnesses are arranged over cells of the input
space: an answer for a whole cell where there is one, else cases without one of two regions that cuts part,
else the cell divided, where a region begins or ends if one does inside it. Nothing here is trusted; cells that stay
without an answer end in one that the checker will refuse.
"""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from sidecar.certificate.meeting import Node, common, complaints, divided, first_cell, meeting
from sidecar.certificate.values import Answer, Apart, Divide, Step
from sidecar.compiler.consistency import find_answer
from sidecar.gates.linear_program import Constraint, maximize
from sidecar.gates.values import Action, Box, Gate
from sidecar.tensors import ModelSignature

MOST_STEPS: Final = 2_000
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
    """The first region that its cuts take out of the cell, else the first two that their cuts part there."""
    cut = [node for node in nodes if gates[node[0]].domain[node[1]].cuts]
    for named in (*((node,) for node in cut), *itertools.combinations(cut, 2)):
        here = common(box, *(gates[gate].domain[region].box for gate, region in named))
        factors = () if here is None else _factors(gates, named, here)
        if factors:
            return Apart(named, factors)
    return None


def _factors(gates: Sequence[Gate], nodes: Sequence[Node], box: Box) -> tuple[tuple[int, int, int, Fraction], ...]:
    """Factors with which regions' cuts add up to less than zero all over a box; none where there are no such.

    A linear program: the largest value of ``sum f cut`` over the box is its value at the lower corner and, for each
    input, the most that ``slope * width`` adds, which is some ``t`` with ``t >= 0`` and ``t >= slope * width``. Factors
    are scaled to add up to at most one.
    """
    cuts = [(node, place, cut) for node in nodes for place, cut in enumerate(gates[node[0]].domain[node[1]].cuts)]
    inputs = sorted({index for _, _, cut in cuts for index, _ in cut.inputs})
    size, zero, one = len(cuts) + len(inputs), Fraction(0), Fraction(1)
    at_low = [cut.offset + sum((a * box.lower[i] for i, a in cut.inputs), zero) for _, _, cut in cuts]
    constraints = [Constraint(_sparse(size, {number: one}), zero) for number in range(size)]
    for number, index in enumerate(inputs, start=len(cuts)):
        width = box.upper[index] - box.lower[index]
        rises = {place: -dict(cut.inputs).get(index, zero) * width for place, (_, _, cut) in enumerate(cuts)}
        constraints.append(Constraint(_sparse(size, {**rises, number: one}), zero))
    constraints.append(Constraint(_sparse(size, dict.fromkeys(range(len(cuts)), -one)), one))
    solution = maximize([*(-value for value in at_low), *[-one] * len(inputs)], constraints)
    if not solution.value or solution.point is None:
        return ()
    factors = zip(cuts, solution.point, strict=False)
    return tuple((*node, place, factor) for (node, place, _), factor in factors if factor > 0)


def _sparse(size: int, coefficients: dict[int, Fraction]) -> tuple[Fraction, ...]:
    return tuple(coefficients.get(index, Fraction(0)) for index in range(size))


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
