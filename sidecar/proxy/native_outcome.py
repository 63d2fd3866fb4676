"""How a call to the upstream ended that the native transport made."""

from typing import TYPE_CHECKING, Final

import grpc

from sidecar.proxy.metadata import Metadata
from sidecar.proxy.native_calls import metadata_of
from sidecar.proxy.upstream import (
    UpstreamOutcome,
    UpstreamStream,
    failure_of,
    failure_without_message,
    reply_of,
)

if TYPE_CHECKING:
    from sidecar.proxy.native_module import Outcome

_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


def said(outcome: "Outcome") -> UpstreamOutcome:
    """What the upstream said, as :class:`~sidecar.proxy.upstream.GrpcUpstream` has it."""
    if len(outcome) == 3:
        body, initial, trailing = outcome
        return reply_of(body, metadata_of(initial), metadata_of(trailing))
    code, details, answered, initial, trailing = outcome
    if code == 0:
        return failure_without_message()
    known = _CODE.get(code, grpc.StatusCode.UNKNOWN)
    return failure_of(known, details, answered, metadata_of(initial), metadata_of(trailing))


class Asked:
    """An upstream that has been asked already."""

    losses = 0

    def __init__(self, said: UpstreamOutcome) -> None:
        self._said = said

    async def call(
        self, _method: str, _request: bytes, _metadata: Metadata, _timeout_seconds: float
    ) -> UpstreamOutcome:
        """What it said."""
        return self._said

    def stream(self, _method: str, _metadata: Metadata, _timeout_seconds: float | None) -> UpstreamStream:
        """Streams are not asked natively."""
        raise AssertionError("a call that has been judged natively is no stream")

    async def close(self) -> None:
        """It is nobody's to close."""
