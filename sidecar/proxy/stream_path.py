"""The request path of ModelStreamInfer: what :mod:`sidecar.proxy.request_path` decides, in the messages of a stream.

Two pure functions again. ``admit_streamed`` decides before a request is forwarded, ``judge_streamed`` before one of its
responses is answered; a refusal takes the form of an error within the stream, which goes on. As there, any exception
that leaves them is a defect of ours, and the caller fails closed.
"""

import dataclasses

from sidecar.config import UpstreamWords
from sidecar.errors import CallerError, Reason, UpstreamError
from sidecar.gates.steps import Steps
from sidecar.protocols.open_inference.request import parse_request
from sidecar.protocols.open_inference.stream import (
    StreamedResponse,
    asks_for_final,
    cleaned_error,
    encode_error,
    encode_streamed,
    id_of,
    parse_streamed,
    with_body,
)
from sidecar.proxy.active_bundle import ActiveModels
from sidecar.proxy.events import Events, Refusal, RequestOutcome
from sidecar.proxy.failure_policy import SERVER_FAILED, is_failure, shows_words, status_of_refusal
from sidecar.proxy.metadata import Metadata
from sidecar.proxy.request_path import Admission, Plan, admit_parsed, bundle_of, fall_back, judge_in_steps
from sidecar.proxy.unguarded import Passage


@dataclasses.dataclass(frozen=True)
class ClientSide:
    """What the client said of its request, and expects to see in the responses.

    Args:
        id: as in the request; empty where there was none.
        wants_final: whether it asked for empty final responses.
    """

    id: str = ""
    wants_final: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedAnswer:
    """What the client gets for one message of the upstream's, and what was seen.

    Args:
        message: the bytes to send; None where the client did not ask for the message.
        outcome: of this response; None for an empty final one.
        events: where the gates' properties were looked at.
        refusal: why the message is an error, where it is one.
    """

    message: bytes | None
    outcome: RequestOutcome | None = None
    events: Events | None = None
    refusal: Refusal | None = None


def admit_streamed(request: bytes, metadata: Metadata, models: ActiveModels) -> tuple[ClientSide, Admission | Refusal]:
    """Check a request before anything is forwarded. What is to be forwarded has the client's id still."""
    try:
        parsed = parse_request(request)
    except CallerError as error:
        return ClientSide(), Refusal(error.reason, error.message)
    side = ClientSide(id_of(parsed), asks_for_final(parsed))
    return side, admit_parsed(parsed, metadata, models)


def client_side(request: bytes) -> ClientSide:
    """What the client said of a request that is not looked at any further."""
    try:
        parsed = parse_request(request)
    except CallerError:
        return ClientSide()
    return ClientSide(id_of(parsed), asks_for_final(parsed))


def read_streamed(response: bytes) -> StreamedResponse | Refusal:
    """Parse a message of the upstream's."""
    try:
        return parse_streamed(response)
    except UpstreamError as error:
        return Refusal(error.reason, error.message)


def judge_streamed(
    plan: Plan | Passage,
    side: ClientSide,
    response: StreamedResponse,
    words: UpstreamWords = UpstreamWords.CALLERS,
    *,
    going_away: bool = False,
) -> Steps[StreamedAnswer]:
    """Judge one response to an admitted request before it is answered, in the steps of :func:`judge_in_steps`.

    Args:
        plan: what was admitted.
        side: what the client said of the request.
        response: what the upstream said to it.
        words: which of the upstream's error texts go to clients.
        going_away: the response is an error that means that the upstream is stopping.
    """
    if response.error:
        return _judge_error(plan, side, response, words, going_away)
    if response.is_final and not response.has_tensors:
        return StreamedAnswer(with_body(response, response.body, side.id) if side.wants_final else None)
    judgement = yield from judge_in_steps(plan, response.body)
    if isinstance(judgement, Refusal):
        return refused(judgement, side, response.is_final)
    if isinstance(judgement.answer, Refusal):
        answer = refused(judgement.answer, side, response.is_final)
        return dataclasses.replace(answer, events=judgement.events)
    if judgement.outcome is RequestOutcome.FALLBACK:
        return StreamedAnswer(encode_streamed(judgement.answer, response.is_final), judgement.outcome, judgement.events)
    return StreamedAnswer(with_body(response, judgement.answer, side.id), judgement.outcome, judgement.events)


def _judge_error(
    plan: Plan | Passage, side: ClientSide, response: StreamedResponse, words: UpstreamWords, going_away: bool
) -> StreamedAnswer:
    """Nothing in an error within a stream tells whose fault it is: in doubt it is a failure of the upstream's."""
    reason = Reason.UPSTREAM_UNAVAILABLE if going_away else Reason.UPSTREAM_ERROR
    why = Refusal(reason, response.error, bundle_of(plan))
    if (answer := fall_back_streamed(plan, why, response.is_final)) is not None:
        return answer
    if going_away:
        return refused(why, side, response.is_final)
    if not shows_words(None, words):
        without = refused(Refusal(reason, SERVER_FAILED), side, response.is_final)
        return dataclasses.replace(without, refusal=why)
    return StreamedAnswer(cleaned_error(response, side.id), RequestOutcome.FAILED, refusal=why)


def fall_back_streamed(plan: Plan | Passage, why: Refusal, is_final: bool | None) -> StreamedAnswer | None:
    """The answer to a request where the upstream gives none; None where that is an error."""
    judgement = fall_back(plan, why)
    if judgement is None or isinstance(judgement.answer, Refusal):
        return None
    return StreamedAnswer(encode_streamed(judgement.answer, is_final), judgement.outcome, judgement.events)


def refused(refusal: Refusal, side: ClientSide, is_final: bool | None = None) -> StreamedAnswer:
    """An error within the stream; ``is_final`` is what the response said that it stands for."""
    outcome = RequestOutcome.FAILED if is_failure(refusal.reason) else RequestOutcome.REFUSED
    message = encode_error(status_of_refusal(refusal).details, side.id, is_final)
    return StreamedAnswer(message, outcome, refusal=refusal)
