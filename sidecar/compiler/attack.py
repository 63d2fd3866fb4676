"""Finds inputs that violate a requirement: random points, many of them on the box's faces, then descent from the best.

Nothing here proves anything, and nothing proved depends on it. It is a fixed amount of work from a fixed seed.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.literal_rows import literal_rows
from sidecar.gates.effective import wire_bounds
from sidecar.gates.exact import requirement_holds
from sidecar.gates.values import Box, Requirement
from sidecar.network.graph import Graph
from sidecar.network.products import product
from sidecar.network.values import Affine, AnyNetwork, Network, Relu, forward
from sidecar.numerics import round_array
from sidecar.tensors import Rows

Floats: TypeAlias = npt.NDArray[np.float64]

_ROUNDS: Final = 4
_SAMPLES: Final = 16384
_STARTS: Final = 256
_STEPS: Final = 60
"""Work of one attack: rounds, random points per round, descents per clause and round, steps of each descent."""

_ROUND_MULTIPLICATIONS: Final = 2**30
"""Of a round's samples, and of its descents, at most: the larger the network, the fewer of both."""

_FIRST_ROUND: Final = 1000
_LATER: Final = 8
"""Regions bounded before the first round; how many times as many before each next one."""

_FIRST_STEP: Final = 0.1
_LONGER: Final = 1.5
_SHORTER: Final = 0.6
"""Length of a descent's first step, as part of the box's width; its factor after a step that helped, or did not."""

_MOST_KEPT: Final = 512
_MOST_REPORTED: Final = 48
"""Violating points that are collected; counterexamples chosen from them."""


@dataclasses.dataclass(frozen=True, eq=False)
class AttackState:
    """How far an attack has come.

    Args:
        found: float64 (point, input); the points that seem to violate, in the order in which they were found.
        rounds: that it has gone through.
        generator: of its random points.
    """

    found: Rows
    rounds: int
    generator: Mapping[str, Any]


class Counterexamples:
    """Collects violating points of one box and chooses from them.

    Args:
        network: what is attacked.
        box: where; exact.
        requirement: what is to be violated.
    """

    def __init__(self, network: AnyNetwork, box: Box, requirement: Requirement) -> None:
        self._network, self._requirement = network, requirement
        self._datatypes = network.signature.input_datatypes()
        self.lower, self.upper = wire_bounds(box, self._datatypes)
        self.rows = literal_rows(requirement, network.signature.input_size, network.signature.output_size)
        self._found: list[Rows] = []
        self._count = self._told = 0

    @property
    def enough(self) -> bool:
        """Further points would only be thrown away."""
        return self._count >= _MOST_KEPT or not self.rows.clauses or bool((self.lower > self.upper).any())

    def look_at(self, points: Rows) -> Floats:
        """Keep those points (row, input), moved into the box, that seem to violate.

        Returns:
            (row, clause): the largest value of each clause's literals; at most zero where it is violated.
        """
        points = points.clip(self.lower, self.upper)
        best = self.rows.best(self.rows.values(points, _outputs(self._network, points)))
        violating = points[(best <= 0.0).any(axis=1)][: max(0, _MOST_KEPT - self._count)]
        self._found.append(violating)
        self._count += len(violating)
        return best

    @property
    def found(self) -> Rows:
        """The points that seemed to violate, as they were found."""
        return np.concatenate([np.empty((0, len(self.lower))), *self._found])

    def resume(self, found: Rows) -> None:
        """Take up points that were found before."""
        self._found, self._count = [found], len(found)

    def new(self) -> Rows:
        """What was found since this was last asked: wire values inside the box, exactly violating by ``forward``."""
        told, self._told = self._told, len(self._found)
        return self._exact(self._found[told:])

    def chosen(self) -> Rows:
        """A few dozen counterexamples: wire values inside the box, exactly violating by ``forward``, far apart."""
        return _spread(self._exact(self._found), self.upper - self.lower)

    def _exact(self, found: list[Rows]) -> Rows:
        points = [self._on_the_wire(point) for part in found for point in part]
        if not points or (self.lower > self.upper).any():
            return np.empty((0, len(self.lower)))
        rows = np.unique(np.array(points), axis=0)
        violating = [
            np.isfinite(output).all() and not requirement_holds(self._requirement, row, output)
            for row, output in zip(rows, forward(self._network, rows), strict=True)
        ]
        return rows[np.array(violating, dtype=np.bool_)]

    def _on_the_wire(self, point: Floats) -> Floats:
        return round_array([Fraction(value) for value in point], self._datatypes).clip(self.lower, self.upper)


class Attack:
    """Searches the whole box beside a search that proves: the longer that one takes, the more rounds.

    Args:
        counterexamples: where points are reported.
        network: what is attacked.
        seed: of the random points.
    """

    def __init__(self, counterexamples: Counterexamples, network: Network, seed: int) -> None:
        self.counterexamples = counterexamples
        self._network, self._generator, self._rounds = network, np.random.default_rng(seed), 0
        cost = max(1, sum(layer.weight.size for layer in network.layers if isinstance(layer, Affine)))
        descents = 2 * _STEPS * max(1, len(counterexamples.rows.clauses))
        self._samples = int(np.clip(_ROUND_MULTIPLICATIONS // cost, 1, _SAMPLES))
        self._starts = int(np.clip(_ROUND_MULTIPLICATIONS // (cost * descents), 1, _STARTS))

    def state(self) -> AttackState:
        """What :meth:`resume` goes on from."""
        return AttackState(self.counterexamples.found, self._rounds, self._generator.bit_generator.state)

    def resume(self, state: AttackState) -> None:
        """Go on where another attack of the same seed was."""
        self.counterexamples.resume(state.found)
        self._rounds, self._generator.bit_generator.state = state.rounds, state.generator

    def look(self, regions: int, points: Rows) -> None:
        """Look at points that seem to violate, and go through the rounds that are due after so many regions."""
        self.counterexamples.look_at(points)
        while self._rounds < _ROUNDS and regions >= _FIRST_ROUND * _LATER**self._rounds:
            self._round()

    def finish(self) -> None:
        """Go through the rounds that are left."""
        while self._rounds < _ROUNDS:
            self._round()

    def _round(self) -> None:
        self._rounds += 1
        if self.counterexamples.enough:
            return
        points = _sampled(self._generator, self._samples, self.counterexamples.lower, self.counterexamples.upper)
        best = self.counterexamples.look_at(points)
        for clause in range(best.shape[1]):
            starts = points[np.argsort(best[:, clause], kind="stable")[: self._starts]]
            self.counterexamples.look_at(
                _descended(self.counterexamples, self._network, starts, clause, self._generator)
            )


def _sampled(generator: np.random.Generator, count: int, lower: Floats, upper: Floats) -> Rows:
    """Random points. In half of them each value moves to its nearer bound with probability one half.

    Networks misbehave on the faces of their domain: a violating part of N1,9 with property 7, a millionth of the
    volume at one face, is hit this way in every run and hardly ever by uniform points.
    """
    unit = generator.random((count, len(lower)))
    moved = generator.random(unit.shape) < 0.5
    moved[::2] = False
    return np.asarray(lower + np.where(moved, np.round(unit), unit) * (upper - lower))


def _descended(
    counterexamples: Counterexamples, network: Network, points: Rows, clause: int, generator: np.random.Generator
) -> Rows:
    """Points moved so that the clause's largest literal becomes small; a step that does not help is taken back.

    Directions are the signs of the gradient, randomly scaled, and random ones, by turns.
    """
    lower, upper, rows = counterexamples.lower, counterexamples.upper, counterexamples.rows
    literals = np.array(rows.clauses[clause])
    values = rows.values(points, _outputs(network, points))[:, literals]
    length = np.full((len(points), 1), _FIRST_STEP)
    for turn in range(_STEPS):
        if turn % 2 == 0:
            strongest = literals[values.argmax(axis=1)]
            gradient = _pulled_back(network, points, rows.outputs[strongest]) + rows.inputs[strongest]
            direction = -np.sign(gradient) * generator.random(points.shape)
        else:
            direction = generator.standard_normal(points.shape)
        moved = (points + length * direction * (upper - lower)).clip(lower, upper)
        moved_values = rows.values(moved, _outputs(network, moved))[:, literals]
        helped = (moved_values.max(axis=1) < values.max(axis=1))[:, None]
        points, values = np.where(helped, moved, points), np.where(helped, moved_values, values)
        length = length * np.where(helped, _LONGER, _SHORTER)
    return points


def _outputs(network: AnyNetwork, points: Rows) -> Rows:
    """The network's outputs as ``forward`` computes them, up to rounding."""
    if isinstance(network, Graph):
        return forward(network, points)
    for layer in network.layers:
        match layer:
            case Affine(weight, bias):
                points = product(points, weight.T) + bias
            case Relu():
                points = np.maximum(points, 0.0)
    return points


def _pulled_back(network: Network, points: Rows, direction: Floats) -> Floats:
    """The gradient of ``direction . outputs`` at each point: (row, output) to (row, input)."""
    hidden, active = points, []
    for layer in network.layers:
        match layer:
            case Affine(weight, bias):
                hidden = product(hidden, weight.T) + bias
            case Relu():
                active.append(hidden > 0.0)
                hidden = np.maximum(hidden, 0.0)
    for layer in reversed(network.layers):
        match layer:
            case Affine(weight, _):
                direction = product(direction, weight)
            case Relu():
                direction = direction * active.pop()
    return direction


def _spread(rows: Rows, width: Floats) -> Rows:
    """At most ``_MOST_REPORTED`` rows, each next one farthest from those chosen, measured by the box's widths."""
    scaled = rows / np.where(width > 0.0, width, 1.0)
    chosen: list[int] = []
    distance = np.full(len(rows), np.inf)
    while len(chosen) < min(_MOST_REPORTED, len(rows)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
    return rows[chosen]
