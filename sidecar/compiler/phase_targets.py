"""What is bounded with slopes of its own: a requirement's literals, and before them what is inside the network.

Bounds of values inside are had once with slopes that fit most of what comes behind; those whose sign stays open are
bounded again, each with the slopes that suit it best, so that everything behind them is relaxed more tightly.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from sidecar.compiler.graph_backward import Known
from sidecar.compiler.graph_bounds import Enclosure, PreparedGraph, Ranges, own_magnitude
from sidecar.compiler.phase_bounds import PhaseBounds, Targets
from sidecar.compiler.rounding import INFLATE

_SHARPENED: Final = 2**20
"""Values with phases, times targets, that are bounded together when bounds inside are improved."""


def literal_targets(prepared: PreparedGraph, enclosure: Enclosure) -> Targets:
    """The requirement's literals, over the one box that was enclosed."""
    rows, known = prepared.rows, enclosure.known
    own = own_magnitude(known, rows.inputs, rows.offset)[0] * (known.rounded.slack * INFLATE)
    offset = np.where(enclosure.finite[0], rows.offset - own, -np.inf)
    return Targets(len(prepared.graph.nodes), rows.outputs, rows.inputs, offset)


def sharpen(known: Known, ranges: Ranges, place: int, steps: int, look_up: Callable[[], None]) -> None:
    """Improve, in place, the bounds of a tensor's values whose sign is open, each with slopes of its own.

    Args:
        known: of one box, up to the tensor.
        ranges: the tensor's, and of what operations with phases before it take.
        place: the tensor.
        steps: see :meth:`PhaseBounds.bound`.
        look_up: the same.
    """
    lower, upper = (side.reshape(-1) for side in ranges[place])
    (undecided,) = np.nonzero((lower < 0.0) & (upper > 0.0))
    portion = max(1, _SHARPENED // max(1, sum(side[0].size for side in ranges.values())))
    for start in range(0, len(undecided), portion):
        here = undecided[start : start + portion]
        forms = np.zeros((2, len(here), len(lower)))
        forms[0, np.arange(len(here)), here], forms[1, np.arange(len(here)), here] = 1.0, -1.0
        count = 2 * len(here)
        nothing = np.zeros((count, known.lower.shape[1]))
        both = Targets(place, forms.reshape(count, len(lower)), nothing, np.zeros(count))
        bounds = PhaseBounds(known, ranges, both)
        found = bounds.bound(bounds.whole(np.arange(count)), steps, look_up).lower.reshape(2, -1)
        lower[here], upper[here] = np.maximum(lower[here], found[0]), np.minimum(upper[here], -found[1])
