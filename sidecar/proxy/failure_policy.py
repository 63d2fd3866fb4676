"""The one place that makes a gRPC status, by the table in :mod:`sidecar.proxy.failure_table`.

The details start with the reason code. A message about the client's own request or about a gate's decision
follows it; a message about the upstream or about ourselves stays in the log, and a fixed text follows.
"""

import dataclasses
from typing import Final

import grpc

from sidecar.config import UpstreamWords
from sidecar.errors import Reason
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_table import CALLERS_CODES, FAILURES, Fault
from sidecar.proxy.upstream import UpstreamFailure

REASON_KEY: Final = "gate-reason"

SERVER_FAILED: Final = "the model server could not answer"
"""Instead of its own words."""


_TELLING: Final = (*CALLERS_CODES, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""Statuses that tell the caller what to do otherwise: the last, to ask for less, or less at once."""


@dataclasses.dataclass(frozen=True)
class Status:
    """How a call ends. The reason goes into the trailer ``gate-reason``."""

    code: grpc.StatusCode
    details: str
    reason: Reason


def status_of_refusal(refusal: Refusal) -> Status:
    """The status for a refusal of ours."""
    row = FAILURES[refusal.reason]
    text = refusal.text if row.fixed_text is None else row.fixed_text
    # An error of the upstream's own goes to the client as it is, by the function below.
    return Status(row.code or grpc.StatusCode.INTERNAL, f"{refusal.reason}: {text}", refusal.reason)


def as_told(failure: UpstreamFailure, words: UpstreamWords) -> UpstreamFailure:
    """What of an upstream's failure goes to a client; what does not is in the record.

    Its metadata may hold the same words again (``grpc-status-details-bin``), so they go or stay together.
    """
    if shows_words(failure.code, words) or not _is_its_own(failure):
        return failure
    return UpstreamFailure(failure.reason, failure.code, SERVER_FAILED, answered=True)


def shows_words(code: grpc.StatusCode | None, words: UpstreamWords) -> bool:
    """Whether a client gets the upstream's text with a status; None for an error that has none."""
    return words is UpstreamWords.ALL or code in _TELLING


def _is_its_own(failure: UpstreamFailure) -> bool:
    return failure.answered or failure.reason is Reason.UPSTREAM_ERROR


def status_of_failure(failure: UpstreamFailure) -> Status:
    """The status for a failed call to the upstream: its own error as it is, where it spoke at all."""
    if _is_its_own(failure):
        return Status(failure.code, failure.details, failure.reason)
    return status_of_refusal(Refusal(failure.reason, failure.details))


def is_failure(reason: Reason) -> bool:
    """Whether the fault is the upstream's or ours, rather than the request's or a gate's decision."""
    return FAILURES[reason].fault in (Fault.UPSTREAM, Fault.OURS)


def calls_for_fallback(failure: UpstreamFailure) -> bool:
    """Whether the upstream failed, rather than told the caller of a mistake."""
    told_the_caller = failure.reason is Reason.UPSTREAM_ERROR and failure.code in CALLERS_CODES
    return FAILURES[failure.reason].falls_back and not told_the_caller
