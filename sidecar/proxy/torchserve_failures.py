"""What clients are told where TorchServe fails.

Its own words name classes of the server, and its codes mislead: UNAVAILABLE says that a handler failed, which a retry
repeats, RESOURCE_EXHAUSTED that a worker died, CANCELLED that a message was too large. The words stay in our log.

Source: TorchServe 0.12, tried.
"""

import dataclasses
from typing import Final

import grpc

from sidecar.errors import Reason
from sidecar.proxy.failure_policy import SERVER_FAILED
from sidecar.proxy.methods import TORCHSERVE, TORCHSERVE_OPEN_INFERENCE
from sidecar.proxy.upstream import UpstreamFailure

USUAL_LIMIT_BYTES: Final = 6_553_500
"""TorchServe's `max_request_size` where nobody sets it."""

_NO_MODEL: Final = "the model server does not have this model, or not this version"

_TOLD: Final = (
    (grpc.StatusCode.INTERNAL, "Model not found", grpc.StatusCode.NOT_FOUND, _NO_MODEL),
    (grpc.StatusCode.INTERNAL, "Model version", grpc.StatusCode.NOT_FOUND, _NO_MODEL),
    (grpc.StatusCode.NOT_FOUND, "", grpc.StatusCode.NOT_FOUND, _NO_MODEL),
    (
        grpc.StatusCode.UNAVAILABLE,
        "Prediction failed",
        grpc.StatusCode.INTERNAL,
        "the model's handler failed; a retry may well end in the same way",
    ),
    (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Worker died",
        grpc.StatusCode.UNAVAILABLE,
        "the model's worker ended; retry later",
    ),
    (
        grpc.StatusCode.UNIMPLEMENTED,
        "",
        grpc.StatusCode.UNIMPLEMENTED,
        "the model server does not offer this method",
    ),
)
"""The code, how the words start, and what clients get instead of the two."""


def is_torchserves(method: str) -> bool:
    """Whether only TorchServe offers a method."""
    return method.startswith((TORCHSERVE, TORCHSERVE_OPEN_INFERENCE))


def retold(failure: UpstreamFailure, request_bytes: int) -> UpstreamFailure:
    """A failure of a request of that size as clients get it: nothing of the server's own words and metadata."""
    if not failure.answered and failure.reason is not Reason.UPSTREAM_ERROR:
        return dataclasses.replace(failure, initial=(), trailing=())
    if failure.code is grpc.StatusCode.CANCELLED and request_bytes > USUAL_LIMIT_BYTES:
        text = f"the model server takes no message of {request_bytes} bytes; send smaller batches"
        return UpstreamFailure(Reason.MESSAGE_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, text, answered=False)
    for code, words, told, text in _TOLD:
        if failure.code is code and failure.details.startswith(words):
            return UpstreamFailure(failure.reason, told, text, answered=True)
    return UpstreamFailure(failure.reason, failure.code, SERVER_FAILED, answered=True)
