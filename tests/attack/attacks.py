"""Ways to go at a claim. Each looks for rows of the claimed leaves whose answer is otherwise than was claimed.

All rows are values on the wire inside a claimed leaf, answered by onnxruntime (or by a simulated arithmetic) and, where
the float64 value of a literal is near its bound, judged exactly. What is left of a claim after all of them is not
thereby true; what falls is a wrong proof.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from sidecar.compiler.literal_rows import literal_rows
from sidecar.gates.values import Requirement
from tests.attack.claims import Claim, Leaves

CHUNK: Final = 1 << 16
STARTS: Final = 512
STEPS: Final = 60
MOST_DIFFERENCES: Final = 32
"""Inputs up to which a descent follows differences; with more, random directions."""

CORNER_ROWS: Final = 1 << 20
ALL_CORNERS: Final = 10
"""Inputs up to which a leaf's corners are all tried; of a leaf with more, as many as with that."""

DOUBT: Final = 1e-6
"""Distance of a literal's float64 value from zero from which on it is not judged exactly: far above its rounding."""

SHOWN: Final = 2

Ask = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass
class Found:
    """What came of attacks on one claim's leaves.

    Args:
        rows: judged.
        nearest: the smallest distance to being otherwise, in the units of a literal; negative where it is.
        fallen: rows that are otherwise than claimed.
        unsound: some of them.
    """

    rows: int = 0
    fallen: int = 0
    nearest: float = np.inf
    unsound: list[np.ndarray] = dataclasses.field(default_factory=list)


class Judge:
    """Tells how near rows are to disproving the claim, and remembers those that do.

    Args:
        claim: for its requirement.
        ask: answers rows.
        silent: whether the leaves are claimed silent; else violating.
    """

    def __init__(self, claim: Claim, ask: Ask, *, silent: bool) -> None:
        self.claim, self.found, self._ask, self._silent = claim, Found(), ask, silent
        self._rows = _rows(claim.required, claim)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float64 (row,): how far each is from disproving; what may do so is judged exactly."""
        if not len(rows):
            return np.empty(0)
        answers = self._ask(rows)
        finite = np.isfinite(answers).all(axis=1)
        with np.errstate(invalid="ignore"):
            best = self._rows.best(self._rows.values(rows, answers)).min(axis=1, initial=np.inf)
        distance = np.where(finite, best if self._silent else -best, -np.inf if self._silent else 0.0)
        for index in np.flatnonzero(~(distance > DOUBT)):
            otherwise = self.claim.holds(rows[index], answers[index]) != self._silent
            distance[index] = min(distance[index], 0.0) if otherwise else max(distance[index], 0.0)
            self.found.fallen += otherwise
            if otherwise and len(self.found.unsound) < SHOWN:
                self.found.unsound.append(rows[index])
        self.found.rows += len(rows)
        self.found.nearest = min(self.found.nearest, float(distance.min()))
        return distance


def _rows(required: Requirement, claim: Claim):
    return literal_rows(required, claim.model.signature.input_size, claim.model.signature.output_size)


class Field:
    """The claimed leaves, and rows in them.

    Args:
        leaves: at least one.
        precision: of the model's input.
        seed: of everything random.
    """

    def __init__(self, leaves: Leaves, precision: type, seed: int) -> None:
        self.leaves, self._precision = leaves, precision
        self.rng = np.random.default_rng(seed)
        width = leaves.upper - leaves.lower
        with np.errstate(divide="ignore"):
            size = np.log2(np.where(width > 0, width, 1.0)).sum(axis=1)
        share = np.exp2(size - size.max())
        self._by_volume = np.cumsum(share / share.sum())

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and the leaf of each: half of them by volume, half with each leaf as likely as any.

        Every other row is uniform in its leaf, the others lie on some of its faces, where networks misbehave: what
        violates property 7 in N1,9, a millionth of the volume at one face, is hit so and hardly ever otherwise.
        """
        half = np.searchsorted(self._by_volume, self.rng.random(count // 2)).clip(0, len(self.leaves) - 1)
        leaf = np.concatenate([half, self.rng.integers(len(self.leaves), size=count - count // 2)])
        lower, upper = self.leaves.lower[leaf], self.leaves.upper[leaf]
        unit = self.rng.random(lower.shape)
        on_face = (self.rng.random(unit.shape) < 0.5) & (np.arange(count) % 2 == 1)[:, None]
        return self.inside(lower + np.where(on_face, np.round(unit), unit) * (upper - lower), leaf), leaf

    def inside(self, rows: np.ndarray, leaf: np.ndarray) -> np.ndarray:
        """The rows on the wire and in their leaves."""
        rounded = rows.astype(self._precision).astype(np.float64)
        return rounded.clip(self.leaves.lower[leaf], self.leaves.upper[leaf])


def sampled(judge: Judge, field: Field, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Judge that many random rows; those nearest to disproving, and their leaves."""
    best, best_leaf, best_distance = np.empty((0, field.leaves.lower.shape[1])), np.empty(0, int), np.empty(0)
    while count > 0:
        rows, leaf = field.sample(min(count, CHUNK))
        count -= len(rows)
        distance = judge(rows)
        rows, leaf = np.concatenate([best, rows]), np.concatenate([best_leaf, leaf])
        distance = np.concatenate([best_distance, distance])
        nearest = np.argsort(distance, kind="stable")[:STARTS]
        best, best_leaf, best_distance = rows[nearest], leaf[nearest], distance[nearest]
    return best, best_leaf


def corners(judge: Judge, field: Field) -> None:
    """Judge the leaves' corners, of a random choice of leaves where there are many."""
    inputs = field.leaves.lower.shape[1]
    each = 1 << min(inputs, ALL_CORNERS)
    chosen = field.rng.permutation(len(field.leaves))[: max(1, CORNER_ROWS // each)]
    for leaf in np.array_split(chosen, -(-len(chosen) * each // CHUNK)):
        if inputs <= ALL_CORNERS:
            upper = np.array(list(itertools.product((False, True), repeat=inputs)))[None]
        else:
            upper = field.rng.random((len(leaf), each, inputs)) < 0.5
        rows = np.where(upper, field.leaves.upper[leaf][:, None], field.leaves.lower[leaf][:, None])
        judge(rows.reshape(-1, inputs))


def descended(judge: Judge, field: Field, rows: np.ndarray, leaf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projected descent within each row's leaf; a step that does not help is taken back and the next one is shorter."""
    lower, upper = field.leaves.lower[leaf], field.leaves.upper[leaf]
    width, length = upper - lower, np.full((len(rows), 1), 0.25)
    distance = judge(rows)
    for turn in range(STEPS):
        if turn % 3 < 2 and rows.shape[1] <= MOST_DIFFERENCES:
            direction = -np.sign(_differences(judge, field, rows, leaf, width * length * 0.1))
            direction *= field.rng.random(rows.shape)
        else:
            direction = field.rng.standard_normal(rows.shape)
        moved = field.inside(rows + length * direction * width, leaf)
        there = judge(moved)
        helped = (there < distance)[:, None]
        rows, distance = np.where(helped, moved, rows), np.minimum(distance, there)
        length = np.where(helped, length * 1.5, length * 0.6).clip(1e-9, 0.5)
    return rows, leaf


def _differences(judge: Judge, field: Field, rows: np.ndarray, leaf: np.ndarray, step: np.ndarray) -> np.ndarray:
    slopes = np.empty_like(rows)
    for index in range(rows.shape[1]):
        ahead, behind = rows.copy(), rows.copy()
        ahead[:, index] += step[:, index]
        behind[:, index] -= step[:, index]
        slopes[:, index] = judge(field.inside(ahead, leaf)) - judge(field.inside(behind, leaf))
    return slopes


def neighbours(judge: Judge, field: Field, rows: np.ndarray, leaf: np.ndarray) -> None:
    """Judge the values on the wire around each row, one and two steps away in each input and in all at once."""
    for moved in _stepped(rows, field):
        judge(field.inside(moved, leaf))


def _stepped(rows: np.ndarray, field: Field) -> Iterator[np.ndarray]:
    precision = field.leaves.lower.dtype.type if field._precision is np.float64 else np.float32
    values = rows.astype(precision)
    for index in range(min(rows.shape[1], MOST_DIFFERENCES)):
        for towards in (-np.inf, np.inf):
            moved = values.copy()
            for _ in range(2):
                moved[:, index] = np.nextafter(moved[:, index], precision(towards))
                yield moved.astype(np.float64)
    for _ in range(32):
        signs = field.rng.integers(-1, 2, values.shape)
        moved = np.where(signs < 0, np.nextafter(values, precision(-np.inf)), values)
        yield np.where(signs > 0, np.nextafter(values, precision(np.inf)), moved).astype(np.float64)


def attack(claim: Claim, leaves: Leaves, ask: Ask, precision: type, count: int, *, silent: bool) -> Found:
    """Everything above, on one claim's silent or violating leaves.

    Args:
        claim: for its requirement.
        leaves: of the claim; none is nothing to attack.
        ask: answers rows.
        precision: of the model's input.
        count: random rows.
        silent: what the leaves are claimed to be.
    """
    judge = Judge(claim, ask, silent=silent)
    if not len(leaves):
        return judge.found
    field = Field(leaves, precision, seed=0)
    nearest, leaf = sampled(judge, field, count)
    corners(judge, field)
    nearest, leaf = descended(judge, field, nearest, leaf)
    neighbours(judge, field, nearest, leaf)
    return judge.found
