"""How much work a projection can be, known before anything is served.

Whoever makes or accepts a bundle refuses it beyond ``limits.MAX_DISJUNCTS``; so no answer of an upstream can make a
correction cost more.
"""

import math
from collections.abc import Sequence

from sidecar.gates.values import Box, Gate


def projection_cost(gates: Sequence[Gate]) -> int:
    """An upper bound on the disjuncts of the joint requirement of any one row, over all rows and modes.

    The gates that contain a row overlap pairwise, so they are among those that overlap any one of them.
    Boxes decide what overlaps; cuts could only make it less.
    """
    return max(math.prod(_disjuncts(other) for other in gates if _overlap(gate, other)) for gate in gates)


def _disjuncts(gate: Gate) -> int:
    return math.prod(len(clause) for clause in gate.requirement.clauses)


def _overlap(one: Gate, other: Gate) -> bool:
    return any(_meet(a.box, b.box) for a in one.domain for b in other.domain)


def _meet(one: Box, other: Box) -> bool:
    return all(
        max(low, other_low) <= min(high, other_high)
        for low, high, other_low, other_high in zip(one.lower, one.upper, other.lower, other.upper, strict=True)
    )
