"""The smallest change into a joint requirement: a best-first search over its disjuncts.

A node has chosen one halfspace from each of some clauses; its change is the smallest one into those, so its cost bounds
from below the cost of all that it can still become. The first node taken from the queue whose change satisfies every
clause is therefore a smallest one into the whole requirement.
"""

import dataclasses
import heapq
from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Alternatives, Change, Halfspace
from sidecar.gates.limits import TooCostly
from sidecar.gates.smallest import smallest_change
from sidecar.gates.values import Norm


@dataclasses.dataclass(frozen=True)
class Found:
    """The end of a search.

    Args:
        change: a smallest change; None where no change satisfies all clauses.
        nodes: how many were visited.
    """

    change: Change | None
    nodes: int


def search(clauses: Sequence[Alternatives], norm: Norm, max_nodes: int) -> Found:
    """The smallest change into the closure of a conjunction of disjunctions.

    Raises:
        TooCostly: more than ``max_nodes`` nodes, or a node's solve reached its own limit.
    """
    branching = sorted((clause for clause in clauses if len(clause) != 1), key=len)
    children: list[tuple[Halfspace, ...]] = [tuple(clause[0] for clause in clauses if len(clause) == 1)]
    queue: list[tuple[Fraction, int, Change, tuple[Halfspace, ...]]] = []
    nodes = 0
    while True:
        for chosen in children:
            nodes += 1
            if nodes > max_nodes:
                raise TooCostly
            smallest = smallest_change(chosen, norm)
            if smallest is not None:
                heapq.heappush(queue, (smallest.cost, nodes, smallest.change, chosen))
        if not queue:
            return Found(None, nodes)
        _, _, change, chosen = heapq.heappop(queue)
        clause = _first_unsatisfied(branching, change)
        if clause is None:
            return Found(change, nodes)
        children = [(*chosen, halfspace) for halfspace in clause]


def _first_unsatisfied(clauses: Sequence[Alternatives], change: Change) -> Alternatives | None:
    return next((clause for clause in clauses if all(halfspace.lacks(change) > 0 for halfspace in clause)), None)
