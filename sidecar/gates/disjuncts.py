"""The smallest change into a joint requirement: a best-first search over its disjuncts.

A node has chosen one halfspace from each of some clauses; its change is the smallest one into those, so its cost bounds
from below the cost of all that it can still become. The first node taken from the queue whose change satisfies every
clause is therefore a smallest one into the whole requirement.
"""

import heapq
from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Alternatives, Change, Halfspace
from sidecar.gates.limits import Work
from sidecar.gates.smallest import smallest_change
from sidecar.gates.values import Norm


def search(clauses: Sequence[Alternatives], norm: Norm, work: Work) -> Change | None:
    """The smallest change into the closure of a conjunction of disjunctions; None where no change satisfies all.

    Raises:
        TooCostly: the work allowed was used up.
    """
    branching = sorted((clause for clause in clauses if len(clause) != 1), key=len)
    children: list[tuple[Halfspace, ...]] = [tuple(clause[0] for clause in clauses if len(clause) == 1)]
    queue: list[tuple[Fraction, int, Change, tuple[Halfspace, ...]]] = []
    nodes = 0
    while True:
        for chosen in children:
            smallest = smallest_change(chosen, norm, work)
            if smallest is not None:
                nodes += 1
                heapq.heappush(queue, (smallest.cost, nodes, smallest.change, chosen))
        if not queue:
            return None
        _, _, change, chosen = heapq.heappop(queue)
        work.spend(sum(map(len, branching)))
        clause = _first_unsatisfied(branching, change)
        if clause is None:
            return change
        children = [(*chosen, halfspace) for halfspace in clause]


def _first_unsatisfied(clauses: Sequence[Alternatives], change: Change) -> Alternatives | None:
    return next((clause for clause in clauses if all(halfspace.lacks(change) > 0 for halfspace in clause)), None)
