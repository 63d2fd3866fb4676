"""Linear lower forms of a requirement's clauses over many boxes, and what they prove of a box or a part of one.

A clause is violated only where each of its literals is at most zero, so only where each literal's lower form is, and
each combination of them with nonnegative factors. Combinations of two are tried here, since two forms that are each
negative somewhere in a box often have no common place where they are: for each clause the strongest literal's form
with every other one's. The best factor makes the combination's minimum over the box largest; that minimum is concave
and piecewise linear in the factor, and bends only where a coefficient changes its sign.
"""

import dataclasses
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.bounds import Bounds, lowest
from sidecar.compiler.literal_rows import Flags, LiteralRows
from sidecar.compiler.rounding import INFLATE

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class ClauseForms:
    """Lower forms, at least one of which must be positive for a clause to be proved.

    Args:
        slope: float64 (box, form, input).
        constant: float64 (box, form); ``slope . x + constant`` is safe but for the rounding of evaluating it.
        clauses: for each clause the indices of its forms.
        slack: the relative charge for that rounding.
    """

    slope: Floats
    constant: Floats
    clauses: tuple[list[int], ...]
    slack: float

    def positive(self, lower: Floats, upper: Floats) -> Flags:
        """(box, clause): is one of the clause's forms proved positive over the part ``[lower, upper]`` of each box?"""
        with np.errstate(over="ignore", invalid="ignore"):
            least = lowest(self.slope, self.constant, lower[:, None, :], upper[:, None, :], self.slack)
        proved = np.isfinite(least) & (least > 0.0)
        return np.stack([proved[:, forms].any(axis=1) for forms in self.clauses], axis=1)

    def at(self, chosen: Flags) -> "ClauseForms":
        """The forms of some boxes."""
        return dataclasses.replace(self, slope=self.slope[chosen], constant=self.constant[chosen])


def clause_forms(rows: LiteralRows, bounds: Bounds, lower: Floats, upper: Floats, slack: float) -> ClauseForms:
    """The literals' own forms, and for each clause of several literals the combinations described above."""
    slopes, constants = [bounds.slope], [bounds.constant]
    clauses, count = [], bounds.slope.shape[1]
    for clause in rows.clauses:
        if len(clause) > 1:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                slope, constant = _combined(bounds, clause, lower, upper, slack)
            slopes.append(slope)
            constants.append(constant)
        added = len(clause) - 1
        clauses.append([*clause, *range(count, count + added)])
        count += added
    return ClauseForms(np.concatenate(slopes, axis=1), np.concatenate(constants, axis=1), tuple(clauses), slack)


def _combined(bounds: Bounds, clause: list[int], lower: Floats, upper: Floats, slack: float) -> tuple[Floats, Floats]:
    """The strongest form of a clause with each other one, (box, form, input) and (box, form)."""
    slope, constant = bounds.slope[:, clause], bounds.constant[:, clause]
    ranked = np.argsort(-bounds.lower[:, clause], axis=1, kind="stable")
    slope = np.take_along_axis(slope, ranked[:, :, None], axis=1)
    constant = np.take_along_axis(constant, ranked, axis=1)
    first, others = slope[:, :1], slope[:, 1:]
    factor = _best_factor(first, others, constant[:, :1], constant[:, 1:], lower, upper)
    rest = 1.0 - factor
    magnitude = np.maximum(np.abs(lower), np.abs(upper))[:, None, :]
    charge = factor * ((np.abs(first) * magnitude).sum(axis=2) + np.abs(constant[:, :1]))
    charge = charge + rest * ((np.abs(others) * magnitude).sum(axis=2) + np.abs(constant[:, 1:]))
    combined = factor[:, :, None] * first + rest[:, :, None] * others
    return combined, factor * constant[:, :1] + rest * constant[:, 1:] - charge * (slack * INFLATE)


def _best_factor(
    first: Floats, others: Floats, first_constant: Floats, constants: Floats, lower: Floats, upper: Floats
) -> Floats:
    """The first form's factor in [0, 1] that makes a combination's minimum over the box largest, (box, other form).

    A guess: any factor is sound.
    """
    bends = np.nan_to_num(others / (others - first), nan=0.5, posinf=0.5, neginf=0.5).clip(0.0, 1.0)
    candidate = bends[..., None]
    slope = candidate * first[:, :, None, :] + (1.0 - candidate) * others[:, :, None, :]
    centre, radius = ((lower + upper) * 0.5)[:, None, None, :], ((upper - lower) * 0.5)[:, None, None, :]
    least = (slope * centre - np.abs(slope) * radius).sum(axis=-1)
    least = least + bends * first_constant[:, :, None] + (1.0 - bends) * constants[:, :, None]
    best = np.argmax(np.nan_to_num(least, nan=-np.inf), axis=2)
    return np.asarray(np.take_along_axis(bends, best[:, :, None], axis=2)[:, :, 0])
