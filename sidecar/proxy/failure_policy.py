"""The one table from what went wrong to the gRPC status that the client gets; the one place that makes one.

The details start with the reason code. A message about the client's own request or about a gate's decision
follows it; a message about the upstream or about ourselves stays in the log, and a fixed text follows.
"""

import dataclasses
from typing import Final

import grpc

from sidecar.errors import Reason
from sidecar.proxy.events import Refusal
from sidecar.proxy.upstream import UpstreamFailure

REASON_KEY: Final = "gate-reason"


@dataclasses.dataclass(frozen=True)
class Status:
    """How a call ends. The reason goes into the trailer ``gate-reason``."""

    code: grpc.StatusCode
    details: str
    reason: Reason


_CODE: Final[dict[Reason, grpc.StatusCode]] = {
    Reason.MALFORMED_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_NOT_GUARDED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.METHOD_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.METHOD_UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.MESSAGE_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_CALLS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.MEMORY_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_CORRECTIONS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SLOW_REQUEST: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.PYTHON_LANE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.INPUT_MISSING: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INPUT_DUPLICATE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INPUT_DATATYPE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INPUT_SHAPE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INPUT_CONTENTS: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INPUT_NOT_FINITE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.OUTPUT_UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.SHARED_MEMORY: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CLASSIFICATION: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.OUTSIDE_DOMAIN: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.GATE_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.OUTPUT_NOT_FINITE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.CORRECTION_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.UPSTREAM_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.UPSTREAM_DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    # An answer that cannot be judged is a deterministic fault: UNAVAILABLE would invite blind retries.
    Reason.UPSTREAM_MALFORMED: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_UNCORRELATED: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_OUTPUT_MISSING: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_OUTPUT_DATATYPE: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_OUTPUT_SHAPE: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_OUTPUT_CONTENTS: grpc.StatusCode.INTERNAL,
    Reason.UPSTREAM_UNMATCHED: grpc.StatusCode.UNAVAILABLE,
    Reason.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Reason.STOPPING: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}

_FIXED_TEXT: Final[dict[Reason, str]] = {
    Reason.UPSTREAM_UNAVAILABLE: "the model server cannot be reached; retry later",
    Reason.UPSTREAM_DEADLINE: "the model server did not answer in time",
    Reason.UPSTREAM_MALFORMED: "the model server's answer cannot be read",
    Reason.UPSTREAM_UNCORRELATED: "the model server answered a request that is not open",
    Reason.UPSTREAM_OUTPUT_MISSING: "the model server's answer lacks an output that is guarded",
    Reason.UPSTREAM_OUTPUT_DATATYPE: "a guarded output has another datatype than was verified",
    Reason.UPSTREAM_OUTPUT_SHAPE: "a guarded output has another shape than was verified",
    Reason.UPSTREAM_OUTPUT_CONTENTS: "a guarded output's contents do not fit its shape or its datatype",
    Reason.UPSTREAM_UNMATCHED: "the model server has not been seen to serve the verified model; retry later",
    Reason.NOT_READY: "no gate bundle is active yet; retry later",
    Reason.STOPPING: "the sidecar is stopping; open another stream",
    Reason.INTERNAL: "the sidecar failed; its log tells more under this decision's id",
}


def status_of_refusal(refusal: Refusal) -> Status:
    """The status for a refusal of ours."""
    text = _FIXED_TEXT.get(refusal.reason, refusal.text)
    return Status(_CODE[refusal.reason], f"{refusal.reason}: {text}", refusal.reason)


def status_of_failure(failure: UpstreamFailure) -> Status:
    """The status for a failed call to the upstream: its own error as it is, where it spoke at all."""
    if failure.answered or failure.reason is Reason.UPSTREAM_ERROR:
        return Status(failure.code, failure.details, failure.reason)
    return status_of_refusal(Refusal(failure.reason, failure.details))


def is_failure(reason: Reason) -> bool:
    """Whether the fault is the upstream's or ours, rather than the request's or a gate's decision."""
    return reason in _FIXED_TEXT or reason is Reason.UPSTREAM_ERROR
