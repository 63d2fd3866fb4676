"""Verdicts on whole properties: `sidecar verify`.

A property *holds* when every region of its effective domain is proved silent. It is *violated* when onnxruntime's own
answer to one wire value of the domain violates, judged exactly; without such an answer the verdict is *unknown*,
whatever the bounds say. Regions are asked one after the other; the first counterexample settles the property.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.compiled import load_kernels
from sidecar.compiler.progress import Progress
from sidecar.compiler.region_searches import SearchStatus
from sidecar.compiler.replay import Replay
from sidecar.compiler.search import Order, SearchLimits, StopReason
from sidecar.compiler.stated import distinct, in_box
from sidecar.compiler.verdict import Decision, Verdict, decide
from sidecar.gates.effective import effective_region, wire_bounds
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Region, Requirement
from sidecar.network.values import Model, Network
from sidecar.properties.values import Property
from sidecar.tensors import Rows

_ANY_SIZE: Final = 0.0
"""Boxes are divided as long as it takes: an undecided one, however small, would leave the verdict unknown."""

Row = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Counterexample:
    """An input of the effective domain, and onnxruntime's answer to it, which violates.

    Args:
        inputs, outputs: float64 (value,), values on the wire.
        as_stated: whether the input lies in the domain as the file states it too, not only among the wire values
            nearest to its bounds.
    """

    inputs: Row
    outputs: Row
    as_stated: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Verified:
    """What is known of one property.

    Args:
        stated: the property.
        verdict: see the module.
        counterexample: None unless violated.
        regions: boxes bounded in all searches.
        seconds: wall time.
        timed_out: a search was ended by the time limit, and the verdict is unknown.
    """

    stated: Property
    verdict: Verdict
    counterexample: Counterexample | None
    regions: int
    seconds: float
    timed_out: bool


def verify(
    model: Model,
    properties: Sequence[Property],
    arithmetic: Arithmetic,
    time_limit_seconds: float | None,
    workers: int | None,
    progress: Callable[[SearchStatus], None],
) -> list[Verified]:
    """A verdict on each property.

    Args:
        model: with the signature that :func:`~sidecar.compiler.pipeline.with_batch_axis` gives.
        properties: ids distinct.
        arithmetic: of the served model; what holds does so in it and in real arithmetic.
        time_limit_seconds: for all of them; each search gets an equal share of what is left. None for no limit.
        workers: threads; None for one on each processor that this process may use.
        progress: called a few times a second while a search runs.

    Raises:
        InputError: two properties have one id, onnxruntime cannot run the model, or the arithmetic does not speak about
            it.
    """
    replay, done = Replay(model), 0
    total = sum(len(stated.domain) for stated in properties)
    if isinstance(model.network, Network):
        load_kernels()
    deadline = None if time_limit_seconds is None else time.monotonic() + time_limit_seconds
    verified = []
    for stated in distinct(list(properties)):
        began, decisions, found = time.monotonic(), list[Decision](), None
        for index, region in enumerate(stated.domain):

            def report(state: Progress, stated: Property = stated, index: int = index, done: int = done) -> None:
                progress(SearchStatus(stated.trace.property_id, index, done + index + 1, total, state))

            share = None if deadline is None else max(0.0, deadline - time.monotonic()) / (total - done - index)
            limits = SearchLimits(share, None, _ANY_SIZE, Order.SMALLEST_FIRST, workers)
            confirmation = Confirmation(replay, model, region, stated.requirement)
            decisions.append(_decided(model, confirmation, stated.requirement, arithmetic, limits, report))
            found = confirmation.found
            if found is not None:
                break
        done += len(stated.domain)
        verified.append(_verified(stated, decisions, found, time.monotonic() - began))
    return verified


def _decided(
    model: Model,
    confirmation: "Confirmation",
    requirement: Requirement,
    arithmetic: Arithmetic,
    limits: SearchLimits,
    report: Callable[[Progress], None],
) -> Decision:
    region = confirmation.effective
    required = in_box(requirement, region)
    return decide(model.network, region.box, required, arithmetic, limits, confirmation, report)


def _verified(
    stated: Property, decisions: Sequence[Decision], found: Counterexample | None, seconds: float
) -> Verified:
    if found is not None:
        verdict = Verdict.VIOLATED
    elif all(decision.verdict is Verdict.HOLDS for decision in decisions):
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.UNKNOWN
    timed_out = verdict is Verdict.UNKNOWN and any(each.stopped_by is StopReason.TIME_LIMIT for each in decisions)
    return Verified(stated, verdict, found, sum(each.regions for each in decisions), seconds, timed_out)


class Confirmation:
    """Asks onnxruntime about inputs that seem to violate, and keeps the first one that does.

    Args:
        replay: the model's answers.
        model: for its inputs' datatypes.
        region: of the domain, as stated.
        requirement: what is to be violated.
    """

    def __init__(self, replay: Replay, model: Model, region: Region, requirement: Requirement) -> None:
        datatypes = model.signature.input_datatypes()
        self._replay, self._stated, self._requirement = replay, region, requirement
        self.effective = effective_region(region, datatypes)
        self._lower, self._upper = wire_bounds(region.box, datatypes)
        self.found: Counterexample | None = None

    def __call__(self, points: Rows) -> npt.NDArray[np.bool_]:
        """Which of some wire values (row, input) violate; none after the first is looked at.

        An input beyond the domain as stated, by the widening to wire values, is moved into it where it violates there
        too: everybody accepts such a counterexample.
        """
        confirmed = np.zeros(len(points), dtype=np.bool_)
        for number, point in enumerate(points):
            for row in (point.clip(self._lower, self._upper), point):
                shown = row + 0.0  # no minus zero: the same number, and a person wonders
                if self.found is None and self._violates(shown):
                    confirmed[number] = True
        return confirmed

    def _violates(self, row: Row) -> bool:
        if not np.isfinite(row).all() or not region_contains(self.effective, row):
            return False
        (outputs,) = self._replay(row[np.newaxis])
        if not np.isfinite(outputs).all() or requirement_holds(self._requirement, row, outputs):
            return False
        self.found = Counterexample(row, outputs, region_contains(self._stated, row))
        return True
