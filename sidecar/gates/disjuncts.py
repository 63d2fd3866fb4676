"""The nearest point to a joint requirement: a best-first search over its disjuncts.

A node has chosen one halfspace from each of some clauses; its point is the nearest one within those, so its cost bounds
from below the cost of all that it can still become. The first node taken from the queue whose point satisfies every
clause is therefore nearest to the whole requirement.
"""

import dataclasses
import heapq
from collections.abc import Sequence
from fractions import Fraction

from sidecar.gates.halfspaces import Alternatives, Halfspace, Point
from sidecar.gates.limits import TooCostly
from sidecar.gates.nearest import nearest_point
from sidecar.gates.values import Norm


@dataclasses.dataclass(frozen=True)
class Found:
    """The end of a search.

    Args:
        point: the nearest point; None where no point satisfies all clauses.
        nodes: how many were visited.
    """

    point: Point | None
    nodes: int


def search(clauses: Sequence[Alternatives], origin: Point, norm: Norm, max_nodes: int) -> Found:
    """The nearest point to ``origin`` in the closure of a conjunction of disjunctions.

    Args:
        origin: a value for every output that a clause mentions.

    Raises:
        TooCostly: more than ``max_nodes`` nodes, or a node's solve reached its own limit.
    """
    branching = sorted((clause for clause in clauses if len(clause) != 1), key=len)
    children: list[tuple[Halfspace, ...]] = [tuple(clause[0] for clause in clauses if len(clause) == 1)]
    queue: list[tuple[Fraction, int, Point, tuple[Halfspace, ...]]] = []
    nodes = 0
    while True:
        for chosen in children:
            nodes += 1
            if nodes > max_nodes:
                raise TooCostly
            nearest = nearest_point(chosen, origin, norm)
            if nearest is not None:
                heapq.heappush(queue, (nearest.cost, nodes, nearest.point, chosen))
        if not queue:
            return Found(None, nodes)
        _, _, point, chosen = heapq.heappop(queue)
        clause = _first_unsatisfied(branching, point)
        if clause is None:
            return Found(point, nodes)
        children = [(*chosen, halfspace) for halfspace in clause]


def _first_unsatisfied(clauses: Sequence[Alternatives], point: Point) -> Alternatives | None:
    return next((clause for clause in clauses if all(halfspace.shortfall(point) > 0 for halfspace in clause)), None)
