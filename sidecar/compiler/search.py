"""Branch and bound over a gate's box: which parts are proved silent, which violating, which stay open."""

import dataclasses
import enum
from collections.abc import Callable

from sidecar.bundle.coverage import CoverageTree
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.progress import Progress
from sidecar.gates.values import Box, Requirement
from sidecar.network.values import Network
from sidecar.tensors import Rows


class StopReason(enum.StrEnum):
    """Why a search ended."""

    FINISHED = "finished"
    TIME_LIMIT = "time_limit"
    MAX_REGIONS = "max_regions"


@dataclasses.dataclass(frozen=True)
class SearchLimits:
    """What a search may spend.

    Args:
        time_limit_seconds: looked at between batches only; None for no limit.
        max_regions: the number of boxes bounded at most; None for no limit. A search that a time limit
            stopped is repeated exactly by giving its region count here.
        minimum_volume: share of the box; an undecided leaf no larger than this stays open.
    """

    time_limit_seconds: float | None = None
    max_regions: int | None = None
    minimum_volume: float = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """What a search found out about a box.

    Args:
        tree: covers the box; see :class:`CoverageTree`.
        regions: boxes bounded; as ``max_regions`` it repeats the search exactly.
        counterexamples: float64 (point, input): wire-representable inputs inside the box whose float64
            outputs violate the requirement; distinct, at most a few dozen, possibly none.
        stopped_by: see :class:`StopReason`.
    """

    tree: CoverageTree
    regions: int
    counterexamples: Rows
    stopped_by: StopReason


def partition(
    network: Network,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
) -> Partition:
    """Split ``box`` until every part is settled, too small, or the limits are reached."""
    raise NotImplementedError
