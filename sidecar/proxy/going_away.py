"""What an upstream's failure means where its server is stopping: UNAVAILABLE, for another try may reach another one.

Servers that are stopping say of models that they have served that there are none; a client would not try again.
(Triton, for about three seconds.) So where a failure says such a thing, the upstream is asked whether it has the model.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import grpc

from sidecar.errors import Reason
from sidecar.proxy.upstream import UpstreamFailure

IsServed: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether the upstream has a guarded model at the moment."""

_SAID_WHEN_STOPPING: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED)

_TEXTS_WHEN_STOPPING: Final = ("unknown model", "not found", "not ready", "shutting down", "stopping")
"""In errors within streams, which have no status. Asking once too often does no harm."""


async def understood(
    failure: UpstreamFailure, model_names: Iterable[str], is_served: IsServed | None
) -> UpstreamFailure:
    """What a failure of a call, or of a stream with requests for some guarded models, means."""
    if failure.code not in _SAID_WHEN_STOPPING or is_served is None:
        return failure
    if all([await is_served(name) for name in model_names]):
        return failure
    details = f"{failure.code.name}: {failure.details}"
    return UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, details, answered=False)


async def is_going_away(text: str, model_name: str, is_served: IsServed | None) -> bool:
    """Whether an error within a stream means that the server is stopping."""
    if is_served is None or not any(words in text.lower() for words in _TEXTS_WHEN_STOPPING):
        return False
    return not await is_served(model_name)
