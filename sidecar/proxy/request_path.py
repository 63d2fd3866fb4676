"""Journey two of DESIGN section 4: from a request for rows to what the client gets, as two pure functions.

``admit`` decides before anything is forwarded, ``judge`` before anything is answered. Neither knows the
transport, the clock or the counters; what was seen is returned as events. Any exception that leaves them is
a defect of ours, and the caller fails closed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sidecar.config import FailureMode, OnUpstreamFailure, Outside
from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.gates.decide import Decisions, Outcome, decide_in_steps
from sidecar.gates.membership import contains
from sidecar.gates.partial import surely_violated
from sidecar.gates.steps import Steps, finish
from sidecar.gates.values import Mode
from sidecar.protocols.open_inference.request import Asked
from sidecar.protocols.open_inference.response import drop_outputs
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.dialects import OPEN_INFERENCE, Dialect, Request, Response
from sidecar.proxy.events import Events, Refusal, RequestOutcome, as_unproved
from sidecar.proxy.failure_table import FAILURES
from sidecar.proxy.fallback import all_have_fallbacks, fallback_answer
from sidecar.proxy.metadata import Metadata, travelling
from sidecar.proxy.observation import all_outside, bypassed, fell_back, not_judged, observe
from sidecar.proxy.unguarded import Passage, without_bundle
from sidecar.tensors import Rows

_NO_ROWS: Final[Rows] = np.zeros((0, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What judging the answer needs to know of the request. It keeps the bundle that the request started with.

    Args:
        bundle: by which the answer is judged.
        asked: what an answer without the upstream has to repeat of the request, or to have.
        dialect: how request and response carry their rows.
        restore: what makes of the response the one to what the client sent, where the upstream got something else.
        inputs: float64 (row, input).
        contained: bool (row, gate); gates in mode off contain nothing.
        is_watched: whether any gate contains any row.
        added_outputs: outputs that the client did not ask for.
        may_fall_back: whether there may be such an answer: an error is no safe state, and every row has a fallback.
        unreadable: why the request cannot be judged, and passes all the same because nothing is enforced; then
            there are no rows.
    """

    bundle: ActiveBundle
    asked: Asked
    dialect: Dialect[Any, Any]
    restore: Callable[[bytes], bytes] | None
    inputs: Rows
    contained: npt.NDArray[np.bool_]
    is_watched: bool = False
    added_outputs: frozenset[str] = frozenset()
    may_fall_back: bool = False
    unreadable: Refusal | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Admission:
    """What goes upstream, and how to judge what comes back."""

    forward: bytes
    metadata: Metadata
    plan: Plan | Passage


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
    """What the client gets: a response message or an error; and what was seen.

    ``reason`` is for what was not judged, or is not the upstream's: why.
    """

    answer: bytes | Refusal
    outcome: RequestOutcome
    events: Events
    reason: Reason | None = None


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
    carried = travelling(metadata)
    bundle = models.bundles.get(parsed.model_name)
    if bundle is None:
        passage = without_bundle(parsed.model_name, models)
        if isinstance(passage, Refusal):
            return passage
        return Admission(parsed.content, carried, dataclasses.replace(passage, restore=dialect.restore(parsed)))
    try:
        _refuse_withheld(bundle, models)
        forward, plan = _planned(parsed, dialect, bundle, models.limit_rows)
        return Admission(forward, carried, plan)
    except CallerError as error:
        return Refusal(error.reason, error.message, bundle)


def judge(plan: Plan | Passage, response: bytes) -> Judgement | Refusal:
    """Judge the upstream's response to an admitted request before anything is answered."""
    return finish(judge_in_steps(plan, response))


def judge_in_steps(plan: Plan | Passage, response: bytes) -> Steps[Judgement | Refusal]:
    """As :func:`judge`, with a stop before each row that must be corrected or refused."""
    try:
        response = response if plan.restore is None else plan.restore(response)
    except UpstreamError as error:
        return Refusal(error.reason, error.message, bundle_of(plan))
    if isinstance(plan, Passage):
        return _passed(plan, response)
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
        events = _of_version(plan, received, observe(bundle, plan.inputs, plan.contained, decisions))
        if outcome is RequestOutcome.REFUSED:
            return Judgement(_refusal(plan, decisions), outcome, events)
        body = response
        if outcome is RequestOutcome.CORRECTED:
            body = dialect.replace_outputs(received, _corrected(received.outputs, decisions), bundle)
        return Judgement(_as_asked(plan, body), outcome, events)
    except UpstreamError as error:
        return _unreadable(plan, response, Refusal(error.reason, error.message, plan.bundle))


def bundle_of(plan: Plan | Passage) -> ActiveBundle | None:
    """The bundle by which answers are judged, where they are."""
    return None if isinstance(plan, Passage) else plan.bundle


def may_fall_back(plan: Plan | Passage) -> bool:
    """Whether there may be an answer without the upstream."""
    return not isinstance(plan, Passage) and plan.may_fall_back


def fall_back(plan: Plan | Passage, why: Refusal) -> Judgement | None:
    """The answer where the upstream gives none that can be judged; None where that is an error."""
    if isinstance(plan, Passage) or not plan.may_fall_back or not FAILURES[why.reason].falls_back:
        return None
    answer = fallback_answer(plan.bundle, plan.inputs, plan.contained, plan.asked, plan.added_outputs)
    if answer is None:
        return None
    return Judgement(answer, RequestOutcome.FALLBACK, fell_back(plan.contained, why), why.reason)


def _passed(passage: Passage, response: bytes) -> Judgement:
    is_bypass = passage.outcome is RequestOutcome.BYPASSED
    events = Events((), bypassed=passage.why if is_bypass else None)
    return Judgement(response, passage.outcome, events, passage.why.reason if is_bypass else None)


def _of_version(plan: Plan, received: Response, events: Events) -> Events:
    """What the upstream says counts; where it says nothing, what the client asked for."""
    version = received.model_version or plan.asked.model_version
    return events if plan.bundle.is_proved(version) else as_unproved(events, version)


def _refuse_withheld(bundle: ActiveBundle, models: ActiveModels) -> None:
    if models.withheld(bundle):
        raise CallerError(
            Reason.UPSTREAM_UNMATCHED, f"the upstream has not matched the vectors of {bundle.model_name!r}; see /status"
        )


def _planned(parsed: Request, dialect: Dialect[Any, Any], bundle: ActiveBundle, limit_rows: int) -> tuple[bytes, Plan]:
    """What to forward, and the plan. Shadow properties never influence what the client gets, so what only they would
    have watched, and cannot, goes its way unjudged.
    """
    plan = functools.partial(Plan, bundle, dialect.asked(parsed), dialect, dialect.restore(parsed))
    try:
        gated = dialect.read_request(parsed, bundle, limit_rows)
    except CallerError as error:
        if bundle.enforces:
            raise
        nothing = np.zeros((0, len(bundle.modes)), np.bool_)
        return parsed.content, plan(_NO_ROWS, nothing, unreadable=Refusal(error.reason, error.message, bundle))
    contained = contains(bundle.gates, gated.inputs) & bundle.watched
    _refuse_outside(bundle, contained)
    if not np.count_nonzero(contained):  # of one row, in a tenth of the time of any()
        return parsed.content, plan(gated.inputs, contained)
    may_fall_back = (
        bundle.policy.on_upstream_failure is OnUpstreamFailure.FALLBACK
        and dialect.answers_alone
        and all_have_fallbacks(bundle, contained)
    )
    return gated.forward, plan(gated.inputs, contained, True, gated.added_outputs, may_fall_back)


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
    the client gets, watches it; or the model's failure mode is open and no violation can be seen.
    """
    enforced = plan.contained & [mode is Mode.ENFORCE for mode in plan.bundle.modes]
    try:
        if not enforced.any():
            body = _as_asked(plan, response)
            return Judgement(body, RequestOutcome.UNJUDGED, not_judged(plan.contained, why))
        if (fallback := fall_back(plan, why)) is not None:
            return fallback
        if not _may_bypass(plan, response, why, enforced):
            return why
        body = _as_asked(plan, response)
        return Judgement(body, RequestOutcome.BYPASSED, bypassed(plan.contained, why), why.reason)
    except UpstreamError:
        return why


def _may_bypass(plan: Plan, response: bytes, why: Refusal, enforced: npt.NDArray[np.bool_]) -> bool:
    bundle = plan.bundle
    if bundle.policy.failure_mode is not FailureMode.OPEN or not FAILURES[why.reason].passes_open:
        return False
    if plan.dialect.read_what_can_be is None or _chose_version(plan):
        return False
    outputs, readable = plan.dialect.read_what_can_be(response, bundle, len(plan.inputs))
    return not surely_violated(bundle.gates, plan.inputs, outputs, readable, enforced).any()


def _chose_version(plan: Plan) -> bool:
    """Whether the client asked for a version that the bundle does not name: one may be served without guarded outputs,
    and then it would be the client who brings the bypass about.
    """
    version = plan.asked.model_version
    return bool(version) and version not in plan.bundle.bundle.manifest.versions


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
