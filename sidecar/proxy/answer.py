"""What goes to the client at the end of a call, whatever the transport."""

import dataclasses

from sidecar.proxy.failure_policy import Status
from sidecar.proxy.metadata import Metadata


@dataclasses.dataclass(frozen=True)
class Answer:
    """What goes to the client.

    Args:
        result: the response message, or how the call ends in an error.
        initial, trailing: metadata.
    """

    result: bytes | Status
    initial: Metadata = ()
    trailing: Metadata = ()
