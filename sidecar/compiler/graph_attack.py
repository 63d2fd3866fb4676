"""Finds inputs of a graph that violate a requirement: descent along signs of gradients, from corners and at random.

Nothing here proves anything, and nothing proved depends on it. Each round is a fixed amount of work, and rounds follow
from a fixed seed.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from sidecar.compiler.attack import Counterexamples
from sidecar.compiler.graph_backward import Indices
from sidecar.compiler.graph_gradient import values_and_gradient
from sidecar.compiler.rounding import Floats
from sidecar.network.graph import Graph
from sidecar.tensors import Rows

_STEPS: Final = 20
_VALUES: Final = 2**19
"""Steps of a descent; values of all tensors that the descents of a round have together, at most."""

_FIRST_STEP, _LAST_STEP = 0.25, 0.01
"""Length of a descent's steps, as part of the box's width: first, last."""


class GraphAttack:
    """Rounds of descents over one box.

    Args:
        counterexamples: where points are reported.
        graph: what is attacked.
        seed: of the random points.
    """

    def __init__(self, counterexamples: Counterexamples, graph: Graph, seed: int) -> None:
        self.counterexamples = counterexamples
        self._graph, self._generator = graph, np.random.default_rng(seed)
        size = sum(math.prod(shape) for shape in graph.shapes)
        self._most = max(4, _VALUES // size)

    def round(self, clauses: list[int], starts: int, look_up: Callable[[], None] = lambda: None) -> None:
        """Descend from so many points at most, shared out among these clauses.

        ``look_up`` is called before each step, and may raise what ends it.
        """
        if self.counterexamples.enough or not clauses:
            return
        lower, upper = self.counterexamples.lower, self.counterexamples.upper
        unit = self._generator.random((max(min(starts, self._most), len(clauses)), len(lower)))
        unit[1::2] = np.round(unit[1::2])
        unit[: len(clauses)] = 0.5
        clause = np.resize(clauses, len(unit))
        self.counterexamples.look_at(self._descended(lower + unit * (upper - lower), clause, look_up))

    def _descended(self, points: Rows, clause: Indices, look_up: Callable[[], None]) -> Rows:
        """Points moved so that each one's clause has a small largest literal; the best places, and the last ones."""
        rows, width = self.counterexamples.rows, self.counterexamples.upper - self.counterexamples.lower
        of_clause = np.full((len(rows.clauses), len(rows.offset)), -np.inf)
        for number, literals in enumerate(rows.clauses):
            of_clause[number, literals] = 0.0
        strongest = of_clause.argmax(axis=1)[clause]
        best, least = points, np.full(len(points), np.inf)
        for length in np.geomspace(_FIRST_STEP, _LAST_STEP, _STEPS):
            look_up()
            outputs, gradient = values_and_gradient(self._graph, points, rows.outputs[strongest])
            values = rows.values(points, outputs) + of_clause[clause]
            largest = values.max(axis=1)
            better = largest < least
            best, least = np.where(better[:, None], points, best), np.where(better, largest, least)
            if (least < 0.0).any():
                return best
            points = self._moved(points, gradient + rows.inputs[strongest], length * width)
            strongest = values.argmax(axis=1)
        return np.concatenate([best, points])

    def _moved(self, points: Rows, gradient: Floats, length: Floats) -> Rows:
        return (points - np.sign(gradient) * length).clip(self.counterexamples.lower, self.counterexamples.upper)
