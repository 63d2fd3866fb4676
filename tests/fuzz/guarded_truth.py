"""What the conformance model's enforced properties mean, stated a second time and decided in exact fractions."""

import dataclasses
from fractions import Fraction

import numpy as np

from tests.e2e.judge import Expression, holds


@dataclasses.dataclass(frozen=True)
class Stated:
    """One property: where x0 lies (x1 in -10..10 always), which outputs it needs, and which answers are unsafe.

    The outputs are y0, y1, y2 and z, as Y_0 to Y_3.
    """

    name: str
    x0: tuple[Fraction, Fraction]
    needs: tuple[int, ...]
    unsafe: Expression

    def contains(self, x: np.ndarray) -> bool:
        x0, x1 = (Fraction(float(value)) for value in x)
        return self.x0[0] <= x0 <= self.x0[1] and -10 <= x1 <= 10

    def violated(self, x: np.ndarray, answer: np.ndarray) -> bool:
        if not self.contains(x):
            return False
        if not np.isfinite(answer[list(self.needs)]).all():
            return True
        return holds(self.unsafe, [Fraction(float(value)) if np.isfinite(value) else Fraction(0) for value in answer])


def _between(low: str, high: str) -> tuple[Fraction, Fraction]:
    return Fraction(low), Fraction(high)


Y, Z = (0, 1, 2), (3,)
"""A tensor that a requirement speaks of is required whole."""

ENFORCED = (
    Stated("ceiling", _between("0", "1"), Y, [">", "Y_0", "1"]),
    Stated("order", _between("2", "3"), Y, [">", "Y_1", "Y_0"]),
    Stated("never", _between("4", "5"), Y, ["<=", "Y_2", "0"]),
    Stated("either", _between("8", "9"), Z, ["and", ["<", "Y_3", "1"], [">", "Y_3", "-1"]]),
    Stated("cap", _between("17/2", "9"), Z, [">", "Y_3", "3"]),
)


def violations(x: np.ndarray, answer: np.ndarray) -> list[str]:
    """The enforced properties that this answer to this row breaks."""
    return [stated.name for stated in ENFORCED if stated.violated(x, answer)]
