"""Named limits on work and memory: nothing that a client sends may cost more than these allow."""

from typing import Final

BLOCK_VALUES: Final = 1 << 20
"""Intermediate values held at once while rows are judged (8 MiB of float64); a single row may take more."""

MAX_DISJUNCTS: Final = 1024
"""Conjunctions in the disjunctive normal form of a joint requirement; beyond it, no bundle is made or accepted.

The search visits fewer than twice as many nodes, and in practice a handful."""

MAX_NODES: Final = 2 * MAX_DISJUNCTS
"""Nodes of one projection's search, over all its rounds, before it gives up."""

MAX_ACTIVE_SET_STEPS: Final = 64
"""Steps of one active-set solve. It takes about one per halfspace that ends on the boundary, and time grows with the
fourth power of that number; a longer one would keep a caller waiting for seconds."""

MAX_PROJECTION_PIVOTS: Final = 500
"""Pivots of one of a projection's linear programs; for the same reason."""

MAX_PIVOTS: Final = 20_000
"""Pivots of a linear program that no caller waits for."""


class TooCostly(Exception):
    """A limit of this module was reached; nothing is known of what was sought."""
