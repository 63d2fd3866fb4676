"""The one table from what can go wrong with a request to what becomes of it. The page ``failures.md`` is made from it.

Two columns say where the default, which is to fail closed with an error, can be set otherwise:

- ``passes_open``: with ``failure_mode: open`` the upstream's answer goes to the client. Only where nobody can judge and
  the fault is not the caller's: a client that could bring it about could walk around the gates. Never what a gate
  decided, nor a defect of ours, nor an answer that two readers may read differently (malformed, or with contents in two
  forms or of another length than the shape says): there a client might see a violation that we do not.
- ``falls_back``: with ``on_upstream_failure: fallback`` the properties' fallbacks are the answer, where they are right.
  Only where the upstream is at fault: it is the model that is missing, and a caller's mistake stays an error.
"""

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc

from sidecar.errors import Reason


class Fault(enum.StrEnum):
    """Who has to act."""

    CALLER = "caller"
    GATE = "gate"
    UPSTREAM = "upstream"
    OURS = "sidecar"


@dataclasses.dataclass(frozen=True)
class FailureRow:
    """What becomes of a request for one reason.

    Args:
        reason: the row's key.
        fault: whose fault it is.
        code: the gRPC status; None for the upstream's own.
        cause: what happened, for the reference.
        fixed_text: what the client is told instead of the message, which may show the upstream or our inside.
        passes_open, falls_back: see above.
    """

    reason: Reason
    fault: Fault
    code: grpc.StatusCode | None
    cause: str
    fixed_text: str | None = None
    passes_open: bool = False
    falls_back: bool = False


_INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
_EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED
_PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION
_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE
# An answer that cannot be judged is a deterministic fault: UNAVAILABLE would invite blind retries.
_INTERNAL: Final = grpc.StatusCode.INTERNAL


def _caller(reason: Reason, code: grpc.StatusCode, cause: str) -> FailureRow:
    return FailureRow(reason, Fault.CALLER, code, cause)


def _gate(reason: Reason, cause: str) -> FailureRow:
    return FailureRow(reason, Fault.GATE, _PRECONDITION, cause)


def _upstream(
    reason: Reason, code: grpc.StatusCode, cause: str, text: str, *, passes_open: bool = False, falls_back: bool = True
) -> FailureRow:
    return FailureRow(reason, Fault.UPSTREAM, code, cause, text, passes_open, falls_back)


_ROWS: Final = (
    _caller(Reason.MALFORMED_REQUEST, _INVALID, "The message is no ModelInferRequest, or of absurd structure."),
    _caller(
        Reason.MODEL_NOT_GUARDED,
        grpc.StatusCode.PERMISSION_DENIED,
        "No bundle guards the model, and such models are denied; or its name can be taken for a guarded one's.",
    ),
    _caller(Reason.METHOD_DENIED, grpc.StatusCode.PERMISSION_DENIED, "The method could change what the gates guard."),
    _caller(Reason.METHOD_UNSUPPORTED, grpc.StatusCode.UNIMPLEMENTED, "There is no such method here."),
    _caller(Reason.MESSAGE_TOO_LARGE, _EXHAUSTED, "The message is over `message_limit`."),
    _caller(Reason.TOO_MANY_CALLS, _EXHAUSTED, "As many calls as may be (`call_limit`) are in flight."),
    _caller(Reason.MEMORY_EXHAUSTED, _EXHAUSTED, "The calls in flight hold as many bytes as may be (`held_limit`)."),
    _caller(Reason.TOO_MANY_CORRECTIONS, _EXHAUSTED, "As many rows as may be, of one client or all, await correction."),
    _caller(Reason.SLOW_REQUEST, _EXHAUSTED, "A request took too long to arrive (native transport)."),
    _caller(Reason.PYTHON_LANE_FULL, _EXHAUSTED, "As many calls as may be, of one client or all, await Python."),
    _caller(Reason.STREAM_IDLE, _EXHAUSTED, "A stream was silent for `stream_idle`, with nothing in flight."),
    _caller(Reason.INPUT_MISSING, _INVALID, "A guarded input is missing."),
    _caller(Reason.INPUT_DUPLICATE, _INVALID, "A guarded input is there twice."),
    _caller(Reason.INPUT_DATATYPE, _INVALID, "A guarded input has another datatype."),
    _caller(Reason.INPUT_SHAPE, _INVALID, "A guarded input has another shape, or too many rows (`row_limit`)."),
    _caller(Reason.INPUT_CONTENTS, _INVALID, "A guarded input's contents do not fit its shape."),
    _caller(Reason.INPUT_NOT_FINITE, _INVALID, "A guarded input holds NaN or infinity."),
    _caller(
        Reason.OUTPUT_UNKNOWN,
        _INVALID,
        "An output is asked for that the model does not have (`sidecar model-server` alone).",
    ),
    _caller(Reason.SHARED_MEMORY, _INVALID, "A tensor is in shared memory, where it cannot be judged."),
    _caller(Reason.CLASSIFICATION, _INVALID, "A guarded output is asked for as classification."),
    _caller(Reason.OUTSIDE_DOMAIN, _PRECONDITION, "A row lies in no property's domain, and `outside` is `refuse`."),
    _gate(Reason.GATE_REFUSED, "The answer violates a property whose action is `refuse`."),
    _gate(Reason.OUTPUT_NOT_FINITE, "The answer holds NaN or infinity where a property would project."),
    _gate(Reason.CORRECTION_FAILED, "No correction satisfies all properties of the row."),
    _upstream(
        Reason.UPSTREAM_UNAVAILABLE,
        _UNAVAILABLE,
        "The model server cannot be reached, or is starting or stopping.",
        "the model server cannot be reached; retry later",
    ),
    _upstream(
        Reason.UPSTREAM_DEADLINE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "The model server did not answer in time (`upstream_timeout`, or the client's deadline).",
        "the model server did not answer in time",
    ),
    FailureRow(
        Reason.UPSTREAM_ERROR,
        Fault.UPSTREAM,
        None,
        "The model server answered with an error of its own.",
        falls_back=True,
    ),
    _upstream(
        Reason.UPSTREAM_MALFORMED,
        _INTERNAL,
        "The answer is no ModelInferResponse, or has a guarded output twice.",
        "the model server's answer cannot be read",
    ),
    _upstream(
        Reason.UPSTREAM_UNCORRELATED,
        _INTERNAL,
        "A response on a stream belongs to no request in flight.",
        "the model server answered a request that is not open",
        falls_back=False,
    ),
    _upstream(
        Reason.UPSTREAM_OUTPUT_MISSING,
        _INTERNAL,
        "The answer lacks a guarded output.",
        "the model server's answer lacks an output that is guarded",
        passes_open=True,
    ),
    _upstream(
        Reason.UPSTREAM_OUTPUT_DATATYPE,
        _INTERNAL,
        "A guarded output has another datatype than was verified.",
        "a guarded output has another datatype than was verified",
        passes_open=True,
    ),
    _upstream(
        Reason.UPSTREAM_OUTPUT_SHAPE,
        _INTERNAL,
        "A guarded output has another shape than was verified, or another number of rows than the request.",
        "a guarded output has another shape than was verified",
        passes_open=True,
    ),
    _upstream(
        Reason.UPSTREAM_OUTPUT_CONTENTS,
        _INTERNAL,
        "The contents do not fit a guarded output's shape or datatype, or come in two forms.",
        "a guarded output's contents do not fit its shape or its datatype",
    ),
    _upstream(
        Reason.UPSTREAM_UNMATCHED,
        _UNAVAILABLE,
        "The model server has not answered as the verified model does, and `probe` is `required`.",
        "the model server has not been seen to serve the verified model; retry later",
        falls_back=False,
    ),
    FailureRow(
        Reason.NOT_READY,
        Fault.OURS,
        _UNAVAILABLE,
        "The model may be guarded, and its bundle is not active: awaited, or not acceptable.",
        "no gate bundle is active yet; retry later",
        passes_open=True,
    ),
    FailureRow(
        Reason.STOPPING,
        Fault.OURS,
        _UNAVAILABLE,
        "The sidecar is stopping, and takes no more requests of a stream.",
        "the sidecar is stopping; open another stream",
    ),
    FailureRow(
        Reason.INTERNAL,
        Fault.OURS,
        _INTERNAL,
        "A defect of the sidecar's. Fails closed whatever is set.",
        "the sidecar failed; its log tells more under this decision's id",
    ),
)

FAILURES: Final[Mapping[Reason, FailureRow]] = MappingProxyType({row.reason: row for row in _ROWS})
"""By reason: all that a client can meet."""

CALLERS_CODES: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)
"""Errors of the upstream's own that tell the caller of a mistake: no failure that a fallback stands in for."""
