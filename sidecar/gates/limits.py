"""Named limits on work and memory: nothing that a client sends may cost more than these allow."""

from typing import Final

BLOCK_VALUES: Final = 1 << 20
"""Intermediate values held at once while rows are judged (8 MiB of float64); a single row may take more."""

PLAIN_VALUES: Final = 256
"""Bounds and terms up to which a single row is judged in plain Python floats, at a tenth of a microsecond each: about
where array operations, with their fixed costs, take as long."""

MAX_DISJUNCTS: Final = 1024
"""Conjunctions in the disjunctive normal form of a joint requirement; beyond it, no bundle is made or accepted.

The search visits fewer than twice as many nodes, and in practice a handful."""

PROJECTION_WORK: Final = 100_000
"""Work of one projection before it gives up: about half a second to a second (a unit is a few rational operations)."""

PROGRAM_WORK: Final = 20_000_000
"""Work of one linear program that no caller waits for: minutes."""


class TooCostly(Exception):
    """The work allowed was used up; nothing is known of what was sought."""


class Work:
    """An allowance of work, spent by all that share it. A unit is a few operations on rational numbers."""

    def __init__(self, allowance: int) -> None:
        self.left = allowance

    def spend(self, units: int) -> None:
        """Take some. Raises TooCostly where not enough is left."""
        self.left -= units
        if self.left < 0:
            raise TooCostly
