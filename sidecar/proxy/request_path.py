"""Journey two of DESIGN section 4: from a ModelInfer request to what the client gets, as two pure functions.

``admit`` decides before anything is forwarded, ``judge`` before anything is answered. Neither knows the
transport, the clock or the counters; what was seen is returned as events. Any exception that leaves them is
a defect of ours, and the caller fails closed.
"""

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label, label
from sidecar.config import Outside
from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.gates.decide import Decisions, Outcome, RowDecision, decide
from sidecar.gates.membership import contains
from sidecar.gates.values import Mode
from sidecar.protocols.open_inference.request import parse_request, read_request
from sidecar.protocols.open_inference.response import drop_outputs, read_response, replace_outputs
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.events import DomainRows, Events, Refusal, RequestOutcome, RowEvent, RowOutcome, Violation
from sidecar.proxy.metadata import Metadata, travelling
from sidecar.tensors import Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What judging the answer needs to know of the request. It keeps the bundle that the request started with.

    Args:
        bundle: by which the answer is judged.
        inputs: float64 (row, input).
        contained: bool (row, gate); gates in mode off contain nothing.
        added_outputs: outputs that the client did not ask for.
    """

    bundle: ActiveBundle
    inputs: Rows
    contained: npt.NDArray[np.bool_]
    added_outputs: frozenset[str]


@dataclasses.dataclass(frozen=True, eq=False)
class Admission:
    """What goes upstream, and how to judge what comes back."""

    forward: bytes
    metadata: Metadata
    plan: Plan


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """What the client gets: a response message or an error; and what was seen."""

    answer: bytes | Refusal
    outcome: RequestOutcome
    events: Events


def admit(request: bytes, metadata: Metadata, models: ActiveModels) -> Admission | Refusal:
    """Check a request before anything is forwarded."""
    bundle = None
    try:
        parsed = parse_request(request)
        bundle = _bundle_for(parsed.model_name, models)
        gated = read_request(parsed, bundle.signature, models.limit_rows)
        contained = contains(bundle.gates, gated.inputs) & np.array([mode is not Mode.OFF for mode in bundle.modes])
        _refuse_outside(bundle, contained)
        plan = Plan(bundle, gated.inputs, contained, gated.added_outputs)
        return Admission(gated.forward, travelling(metadata), plan)
    except CallerError as error:
        return Refusal(error.reason, error.message, bundle)


def judge(plan: Plan, response: bytes) -> Judgement | Refusal:
    """Judge the upstream's response to an admitted request."""
    try:
        if not plan.contained.any():
            rows = _row_counts(plan, np.zeros(len(plan.inputs), dtype=np.bool_))
            return Judgement(_as_asked(plan, response), RequestOutcome.OUTSIDE, Events(rows))
        received = read_response(response, plan.bundle.signature, len(plan.inputs))
        decisions = decide(plan.bundle.gates, plan.bundle.modes, plan.inputs, received.outputs)
        ...
    except UpstreamError as error:
        return Refusal(error.reason, error.message, plan.bundle)
