"""The searches of all regions of all gates, one after the other; how they go on where they were stopped."""

import dataclasses
import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence

import numpy as np

from sidecar.bundle.gate_codec import encode_gates
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.compiled import kernels_digest, load_kernels
from sidecar.compiler.graph_search import partition_graph
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.progress import Progress
from sidecar.compiler.search import Partition, SearchLimits, StopReason, partition
from sidecar.compiler.search_state import Interrupted, SearchState
from sidecar.compiler.split_tree import SplitTree
from sidecar.compiler.stated import in_box
from sidecar.errors import InputError
from sidecar.gates.values import Gate
from sidecar.network.graph import Graph
from sidecar.network.values import AnyModel, Model, Network
from sidecar.tensors import ModelSignature


@dataclasses.dataclass(frozen=True)
class SearchStatus:
    """Progress of one search among all.

    Args:
        property_id, region: which search; regions of a domain count from 0.
        number, total: its place among all searches, from 1.
        progress: how far it is.
    """

    property_id: str
    region: int
    number: int
    total: int
    progress: Progress


def search_regions(
    model: Model,
    gates: Sequence[Gate],
    arithmetic: Arithmetic,
    options: CompileOptions,
    progress: Callable[[SearchStatus], None],
    states: Sequence[SearchState] | None,
) -> list[list[Partition]]:
    """One search per region of every gate; each gets an equal share of the time that is left."""
    total = sum(len(gate.domain) for gate in gates)
    limits_by_search = _regions_by_search(options, total)
    if isinstance(model.network, Network):
        load_kernels()
    deadline = None if options.time_limit_seconds is None else time.monotonic() + options.time_limit_seconds
    partitions: list[list[Partition]] = []
    number = 0
    for gate in gates:
        partitions.append([])
        for index, region in enumerate(gate.domain):
            number += 1

            def report(state: Progress, gate: Gate = gate, index: int = index, number: int = number) -> None:
                progress(SearchStatus(gate.property_id, index, number, total, state))

            share = None if deadline is None else max(0.0, deadline - time.monotonic()) / (total - number + 1)
            limits = SearchLimits(share, limits_by_search[number - 1], options.minimum_volume)
            start, network = None if states is None else states[number - 1], model.network
            about = region.box, in_box(gate.requirement, region), arithmetic, limits, report
            if isinstance(network, Graph):
                partitions[-1].append(partition_graph(network, *about))
            else:
                partitions[-1].append(partition(network, *about, start=start, keep_state=options.resumable))
    return partitions


def unsearched(gates: Sequence[Gate], signature: ModelSignature) -> list[list[Partition]]:
    """Every region open."""
    nothing = np.empty((0, signature.input_size))
    whole = SplitTree().finished()
    return [[Partition(whole, whole, 0, nothing, StopReason.OPAQUE) for _ in gate.domain] for gate in gates]


def _regions_by_search(options: CompileOptions, total: int) -> list[int | None]:
    if options.max_regions is None:
        return [None] * total
    if len(options.max_regions) == 1:
        return [options.max_regions[0]] * total
    if len(options.max_regions) != total:
        raise InputError(f"--max-regions lists {len(options.max_regions)} numbers, but there are {total} searches")
    return list(options.max_regions)


def search_key(model: AnyModel, gates: Sequence[Gate], arithmetic: Arithmetic, options: CompileOptions) -> str:
    """Of all that decides how the searches go on, but for how long they may."""
    version = importlib.metadata.version("gate-sidecar"), kernels_digest()
    decides = model.digest, encode_gates(gates), options.minimum_volume, options.max_regions, arithmetic.value, version
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def states_of(start: Interrupted | None, key: str) -> Sequence[SearchState] | None:
    """Where the searches go on. Raises InputError where they are those of another compilation."""
    if start is not None and start.key != key:
        raise InputError(
            f"what was stopped was another compilation (key {start.key}, expected {key}): it goes on with the same "
            "model, properties, --max-regions, --minimum-volume, --arithmetic and release only; remove its file to "
            "begin anew"
        )
    return None if start is None else start.searches


def interrupted(partitions: Sequence[Sequence[Partition]], key: str) -> Interrupted | None:
    """To go on from; None where the time limit stopped nothing, or nothing was kept."""
    found = [each for of_gate in partitions for each in of_gate]
    states = tuple(each.state for each in found if each.state is not None)
    stopped = any(each.stopped_by is StopReason.TIME_LIMIT for each in found)
    return Interrupted(key, states) if stopped and states else None


def limits_record(options: CompileOptions, partitions: Sequence[Sequence[Partition]]) -> tuple[tuple[str, str], ...]:
    """What determined the result. The time limit is not among it: the region counts that it led to are."""
    regions = [str(found.regions) for of_gate in partitions for found in of_gate]
    return (("max-regions", ",".join(regions)), ("minimum-volume", repr(options.minimum_volume)))
