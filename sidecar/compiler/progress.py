"""How far a search has come, as a value. Who shows it, and how, is the caller's affair."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where one search stands.

    Args:
        regions: boxes bounded so far.
        silent, violating, open: shares of the box that are settled (0 to 1); ``open`` counts leaves that
            were given up because they are smaller than the smallest volume worth splitting.
        pending: boxes still waiting.
    """

    regions: int
    silent: float
    violating: float
    open: float
    pending: int

    @property
    def settled(self) -> float:
        """Share of the box that needs no more work."""
        return self.silent + self.violating + self.open
