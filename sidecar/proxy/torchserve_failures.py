"""What clients are told where TorchServe fails.

Its own words name classes and paths of the server, and its codes mislead: UNAVAILABLE also says that a handler
failed, which a retry repeats, and CANCELLED that a message was too large. The words stay in our log.

Source: TorchServe 0.12, tried.
"""

import dataclasses
from typing import Final

import grpc

from sidecar.errors import Reason
from sidecar.proxy.upstream import UpstreamFailure

USUAL_LIMIT_BYTES: Final = 6_553_500
"""TorchServe's `max_request_size` where nobody sets it."""

_TOLD: Final = {
    grpc.StatusCode.INTERNAL: "the model server does not serve this model or version, or it failed",
    grpc.StatusCode.UNAVAILABLE: "the model server's handler failed, or none is free; a retry may end in the same way",
    grpc.StatusCode.CANCELLED: "the model server broke off the call; retry later",
}


def retold(failure: UpstreamFailure, request_bytes: int) -> UpstreamFailure:
    """A failure of a request of that size as clients get it: nothing of the server's own words and metadata."""
    if not failure.answered and failure.reason is not Reason.UPSTREAM_ERROR:
        return dataclasses.replace(failure, initial=(), trailing=())
    if failure.code is grpc.StatusCode.CANCELLED and request_bytes > USUAL_LIMIT_BYTES:
        text = f"the model server takes no message of {request_bytes} bytes; send smaller batches"
        return UpstreamFailure(Reason.MESSAGE_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, text, answered=False)
    text = _TOLD.get(failure.code, "the model server could not answer")
    return UpstreamFailure(failure.reason, failure.code, text, answered=True)
