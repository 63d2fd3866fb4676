"""What the demo asks: situations from everywhere, from the properties' domains, and counterexamples."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from sidecar.demo.driving import LOWER, UPPER
from sidecar.gates.effective import wire_bounds
from sidecar.gates.values import Gate
from sidecar.tensors import Datatype, Rows

SEED: Final = 1
BATCHES: Final = (1, 1, 1, 2, 8)
"""Rows per request, one of these at random. Most requests hold one row, as from a car on the road."""

COUNTEREXAMPLE_SHARE: Final = 0.1
"""Share of the rows that are counterexamples of the compiler's; the others are half from anywhere, half in domains."""


def requests(gates: Sequence[Gate], counterexamples: Rows, count: int) -> Iterator[Rows]:
    """Input rows, request by request; seeded, FP32 values.

    Args:
        gates: whose domains are visited.
        counterexamples: float64 (row, input); may have no rows.
        count: how many requests.
    """
    random = np.random.default_rng(SEED)
    for _ in range(count):
        rows = random.choice(BATCHES)
        yield (
            np.stack([_row(gates, counterexamples, random) for _ in range(rows)]).astype(np.float32).astype(np.float64)
        )


def _row(gates: Sequence[Gate], counterexamples: Rows, random: np.random.Generator) -> Rows:
    kind = random.random()
    if kind < COUNTEREXAMPLE_SHARE and len(counterexamples):
        return np.asarray(random.choice(counterexamples))
    if kind < (1 + COUNTEREXAMPLE_SHARE) / 2:
        return random.uniform(LOWER, UPPER)
    gate = gates[int(random.integers(len(gates)))]
    region = gate.domain[int(random.integers(len(gate.domain)))]
    return random.uniform(*wire_bounds(region.box, (Datatype.FP32,) * len(LOWER)))
