"""Journey two of DESIGN section 4: from a request for rows to what the client gets, as two pure functions.

``admit`` decides before anything is forwarded, ``judge`` before anything is answered. Neither knows the
transport, the clock or the counters; what was seen is returned as events. Any exception that leaves them is
a defect of ours, and the caller fails closed.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sidecar.config import Outside
from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.gates.decide import Decisions, Outcome, decide_in_steps
from sidecar.gates.membership import contains
from sidecar.gates.steps import Steps, finish
from sidecar.gates.values import Mode
from sidecar.protocols.open_inference.response import drop_outputs
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.dialects import OPEN_INFERENCE, Dialect, Request
from sidecar.proxy.events import Events, Refusal, RequestOutcome
from sidecar.proxy.metadata import Metadata, travelling
from sidecar.proxy.observation import all_outside, not_judged, observe
from sidecar.tensors import Rows

_NO_ROWS: Final[Rows] = np.zeros((0, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What judging the answer needs to know of the request. It keeps the bundle that the request started with.

    Args:
        bundle: by which the answer is judged.
        inputs: float64 (row, input).
        contained: bool (row, gate); gates in mode off contain nothing.
        is_watched: whether any gate contains any row.
        added_outputs: outputs that the client did not ask for.
        dialect: how request and response carry their rows.
        restore: what makes of the response the one to what the client sent, where the upstream got something else.
        unreadable: why the request cannot be judged, and passes all the same because nothing is enforced; then
            there are no rows.
    """

    bundle: ActiveBundle
    inputs: Rows
    contained: npt.NDArray[np.bool_]
    is_watched: bool
    added_outputs: frozenset[str]
    dialect: Dialect[Any, Any] = OPEN_INFERENCE
    restore: Callable[[bytes], bytes] | None = None
    unreadable: Refusal | None = None


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


def admit(
    request: bytes, metadata: Metadata, models: ActiveModels, dialect: Dialect[Any, Any] = OPEN_INFERENCE
) -> Admission | Refusal:
    """Check a request before anything is forwarded."""
    try:
        parsed = dialect.parse(request)
    except CallerError as error:
        return Refusal(error.reason, error.message)
    return admit_parsed(parsed, metadata, models, dialect)


def admit_parsed(
    parsed: Request, metadata: Metadata, models: ActiveModels, dialect: Dialect[Any, Any] = OPEN_INFERENCE
) -> Admission | Refusal:
    """Check a request that the dialect has parsed."""
    bundle = None
    try:
        bundle = _bundle_for(parsed.model_name, models)
        _refuse_withheld(bundle, models)
        carried = travelling(metadata)
        forward, plan = _planned(parsed, dialect, bundle, models.limit_rows)
        return Admission(forward, carried, plan)
    except CallerError as error:
        return Refusal(error.reason, error.message, bundle)


def judge(plan: Plan, response: bytes) -> Judgement | Refusal:
    """Judge the upstream's response to an admitted request before anything is answered."""
    return finish(judge_in_steps(plan, response))


def judge_in_steps(plan: Plan, response: bytes) -> Steps[Judgement | Refusal]:
    """As :func:`judge`, with a stop before each row that must be corrected or refused."""
    if plan.restore is not None:
        try:
            response = plan.restore(response)
        except UpstreamError as error:
            return Refusal(error.reason, error.message, plan.bundle)
    if plan.unreadable is not None:
        return Judgement(response, RequestOutcome.UNJUDGED, not_judged(plan.contained, plan.unreadable))
    if not plan.is_watched:
        return Judgement(response, RequestOutcome.OUTSIDE, all_outside(len(plan.inputs)))
    try:
        bundle, dialect = plan.bundle, plan.dialect
        received = dialect.read_response(response, bundle, len(plan.inputs))
        decisions = yield from decide_in_steps(
            bundle.gates, bundle.modes, plan.contained, plan.inputs, received.outputs
        )
        outcome = _outcome(decisions)
        events = observe(bundle, plan.inputs, plan.contained, decisions)
        if outcome is RequestOutcome.REFUSED:
            return Judgement(_refusal(plan, decisions), outcome, events)
        body = response
        if outcome is RequestOutcome.CORRECTED:
            body = dialect.replace_outputs(received, _corrected(received.outputs, decisions), bundle)
        return Judgement(_as_asked(plan, body), outcome, events)
    except UpstreamError as error:
        return _unreadable(plan, response, Refusal(error.reason, error.message, plan.bundle))


def _bundle_for(model_name: str, models: ActiveModels) -> ActiveBundle:
    if not models.bundles:
        raise CallerError(Reason.NOT_READY, "no gate bundle is active")
    if model_name not in models.bundles:
        if models.awaited:
            raise CallerError(
                Reason.NOT_READY, f"model {model_name!r} may be guarded once there is a bundle at {models.awaited}"
            )
        raise CallerError(
            Reason.MODEL_NOT_GUARDED,
            f"no gate bundle is active for model {model_name!r}; guarded models: {', '.join(sorted(models.bundles))}",
        )
    return models.bundles[model_name]


def _refuse_withheld(bundle: ActiveBundle, models: ActiveModels) -> None:
    if models.withheld(bundle):
        raise CallerError(
            Reason.UPSTREAM_UNMATCHED, f"the upstream has not matched the vectors of {bundle.model_name!r}; see /status"
        )


def _planned(parsed: Request, dialect: Dialect[Any, Any], bundle: ActiveBundle, limit_rows: int) -> tuple[bytes, Plan]:
    """What to forward, and the plan. Shadow properties never influence what the client gets, so what only they would
    have watched, and cannot, goes its way unjudged.
    """
    request, how = parsed.content, (dialect, dialect.restore(parsed))
    try:
        gated = dialect.read_request(parsed, bundle, limit_rows)
    except CallerError as error:
        if bundle.enforces:
            raise
        why, no_gates = Refusal(error.reason, error.message, bundle), np.zeros((0, len(bundle.modes)), np.bool_)
        return request, Plan(bundle, _NO_ROWS, no_gates, False, frozenset(), *how, why)
    contained = contains(bundle.gates, gated.inputs) & bundle.watched
    _refuse_outside(bundle, contained)
    if not contained.any():
        return request, Plan(bundle, gated.inputs, contained, False, frozenset(), *how)
    return gated.forward, Plan(bundle, gated.inputs, contained, True, gated.added_outputs, *how)


def _refuse_outside(bundle: ActiveBundle, contained: npt.NDArray[np.bool_]) -> None:
    if bundle.policy.outside is Outside.PASS:
        return
    outside = np.flatnonzero(~contained.any(axis=1))
    if len(outside):
        raise CallerError(
            Reason.OUTSIDE_DOMAIN,
            f"row {int(outside[0])} lies in no property's domain ({len(outside)} of {len(contained)} rows), and "
            f"model {bundle.model_name!r} is set to refuse such rows",
        )


def _as_asked(plan: Plan, response: bytes) -> bytes:
    """The response without the outputs that were asked for on the gates' behalf."""
    return drop_outputs(response, plan.added_outputs) if plan.added_outputs else response


def _unreadable(plan: Plan, response: bytes, why: Refusal) -> Judgement | Refusal:
    """An answer that cannot be judged is none, unless nothing but shadow properties, which never influence what
    the client gets, watches it.
    """
    enforced = [mode is Mode.ENFORCE for mode in plan.bundle.modes]
    if plan.contained[:, enforced].any():
        return why
    try:
        return Judgement(_as_asked(plan, response), RequestOutcome.UNJUDGED, not_judged(plan.contained, why))
    except UpstreamError:
        return why


def _outcome(decisions: Decisions) -> RequestOutcome:
    outcomes = {row.outcome for row in decisions.rows}
    if Outcome.REFUSED in outcomes:
        return RequestOutcome.REFUSED
    return RequestOutcome.CORRECTED if Outcome.CORRECTED in outcomes else RequestOutcome.UNTOUCHED


def _corrected(outputs: Rows, decisions: Decisions) -> Rows:
    corrected = outputs.copy()
    for row in decisions.rows:
        if row.output is not None:
            corrected[row.row] = row.output
    return corrected


def _refusal(plan: Plan, decisions: Decisions) -> Refusal:
    """The first refused row speaks for the request."""
    row = next(row for row in decisions.rows if row.outcome is Outcome.REFUSED)
    fired = [plan.bundle.property_ids[gate] for gate in row.fired]
    reason = row.reason or Reason.GATE_REFUSED
    return Refusal(reason, f"the answer for row {row.row} violates {', '.join(map(repr, fired))}", plan.bundle)
