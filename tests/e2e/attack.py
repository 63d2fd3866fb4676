"""A search for inputs on which a network breaks a property, and for inputs close to where it starts to.

Random points, then hill climbing on how deep the answer lies inside the unsafe set, then bisection between a
violating and a satisfying point. It uses the product's ONNX reader to evaluate many rows at once; what it
finds is only a proposal, judged later on the served model's own answers.
"""

import numpy as np

from sidecar.network.values import Network, forward
from tests.e2e.judge import Judge, depth

SCALES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001, 0.0003)
ROUNDS_PER_SCALE = 8


def _depths(network: Network, judge: Judge, rows: np.ndarray) -> np.ndarray:
    return depth(judge.unsafe, forward(network, rows.astype(np.float64)))


def uniform_rows(judge: Judge, count: int, rng: np.random.Generator) -> np.ndarray:
    """FP32 rows spread evenly over the domain."""
    lower, upper = judge.wire_box()
    return np.clip(rng.uniform(lower, upper, (count, len(lower))).astype(np.float32), lower, upper)


def counterexamples(network: Network, judge: Judge, count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to ``count`` FP32 rows that (in float64) violate, the best climbers of a large random sample."""
    lower, upper = judge.wire_box()
    rows = uniform_rows(judge, 20_000, rng)
    depths = _depths(network, judge, rows)
    best = np.argsort(-depths)[: 4 * count]
    rows, depths = rows[best], depths[best]
    for scale in np.repeat(SCALES, ROUNDS_PER_SCALE):
        if np.count_nonzero(depths >= 0) >= count:
            break
        steps = rng.normal(size=rows.shape) * scale * (upper - lower)
        tried = np.clip((rows + steps).astype(np.float32), lower, upper)
        found = _depths(network, judge, tried)
        better = (found > depths) & (depths < 0)
        rows[better], depths[better] = tried[better], found[better]
    return _spread(network, judge, rows[depths >= 0][:count], count, rng)


def _spread(network: Network, judge: Judge, found: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Fills up with violating neighbours of what was found, where the violating part of the domain is small."""
    lower, upper = judge.wire_box()
    for _ in range(20):
        if not 0 < len(found) < count:
            break
        near = found[rng.integers(len(found), size=4 * count)]
        near = near + (rng.normal(size=near.shape) * 1e-3 * (upper - lower)).astype(np.float32)
        near = np.clip(near, lower, upper)
        found = np.unique(np.concatenate([found, near[_depths(network, judge, near) >= 0]]), axis=0)
    return rng.permutation(found)[:count]


def boundary_rows(network: Network, judge: Judge, violating: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each violating row, the last two FP32 points of a bisection towards a random satisfying point."""
    outside = uniform_rows(judge, 4 * len(violating), rng)
    outside = outside[_depths(network, judge, outside) < 0][: len(violating)]
    inside = violating[: len(outside)].copy()
    for _ in range(40):
        middle = ((inside.astype(np.float64) + outside) / 2).astype(np.float32)
        violates = _depths(network, judge, middle) >= 0
        inside[violates], outside[~violates] = middle[violates], middle[~violates]
    return np.concatenate([inside, outside])
