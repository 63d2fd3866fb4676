"""Does a requirement hold in a whole box? A search that ends at the first counterexample.

The same searches as :func:`sidecar.compiler.search.partition`'s and
:func:`sidecar.compiler.graph_search.partition_graph`'s, asked one question only. A verdict of *holds* is a proof: every
part of the box is proved silent. *Violated* rests on one input, which the caller may confirm by whatever it trusts (the
served model's own answer); what is left is *unknown*.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import LEAF, Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.graph_search import is_halved, partition_graph
from sidecar.compiler.progress import Progress
from sidecar.compiler.search import Partition, SearchLimits, StopReason, partition
from sidecar.gates.values import Box, Requirement
from sidecar.network.dense import graph_of
from sidecar.network.graph import Graph
from sidecar.network.values import AnyNetwork
from sidecar.tensors import Rows

Flags: TypeAlias = npt.NDArray[np.bool_]


class Verdict(enum.StrEnum):
    """What is known of a requirement in a box."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """A verdict and what it rests on.

    Args:
        verdict: see :class:`Verdict`.
        counterexample: float64 (input,), a wire-representable input inside the box that violates; None unless violated.
        regions: boxes bounded.
        stopped_by: why the search ended.
    """

    verdict: Verdict
    counterexample: npt.NDArray[np.float64] | None
    regions: int
    stopped_by: StopReason


def decide(
    network: AnyNetwork,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    confirms: Callable[[Rows], Flags] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Decision:
    """Prove the requirement in the box, or find an input that violates it.

    Args:
        network: what is verified.
        box: the effective box, exact.
        requirement: what must hold in it.
        arithmetic: of the served model; the proof holds in it and in real arithmetic.
        limits: a ``minimum_volume`` above zero may leave the verdict unknown; smallest first needs the least memory.
        confirms: of inputs (row, input) whose float64 outputs violate exactly, which ones truly do; None takes all.
        progress: called a few times a second at most, and once at the end.

    Raises:
        InputError: as :func:`partition` does.
    """
    confirmed: list[npt.NDArray[np.float64]] = []

    def ends(points: Rows) -> bool:
        if len(points):
            confirmed.extend(points if confirms is None else points[confirms(points)])
        return bool(confirmed)

    found = _searched(network, box, requirement, arithmetic, limits, progress, ends)
    if confirmed:
        return Decision(Verdict.VIOLATED, confirmed[0], found.regions, found.stopped_by)
    leaf = found.tree.feature == LEAF
    holds = bool((found.tree.label[leaf] == Label.SILENT).all())
    return Decision(Verdict.HOLDS if holds else Verdict.UNKNOWN, None, found.regions, found.stopped_by)


def _searched(
    network: AnyNetwork,
    box: Box,
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    progress: Callable[[Progress], None],
    ends: Callable[[Rows], bool],
) -> Partition:
    """By the fast engine where it can: dense layers, and few enough dimensions."""
    if isinstance(network, Graph):
        return partition_graph(network, box, requirement, arithmetic, limits, progress, ends)
    if not is_halved(box):
        return partition_graph(graph_of(network), box, requirement, arithmetic, limits, progress, ends)
    return partition(network, box, requirement, arithmetic, limits, progress, ends)
