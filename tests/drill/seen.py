"""What clients are to do, and what they saw."""

import collections
import dataclasses
from collections.abc import Callable

import grpc
import numpy as np
from tritonclient.grpc._utils import _get_inference_request

from sidecar.errors import Reason
from tests.drill.model import MODEL, WIRE

OUTCOME, REASON = "gate-outcome", "gate-reason"
UPSTREAM_ERROR = Reason.UPSTREAM_ERROR
"""The reason that stands for an error in the upstream's own words."""


@dataclasses.dataclass(frozen=True)
class ClientOptions:
    """How the clients behave.

    Args:
        count: how many there are; a further one asks over streams, a request at a time.
        deadline_seconds: of every second client's calls; the others have none that matters.
        calls_per_connection: after so many a client connects anew; None: never.
        credentials: for TLS; asked for each connection.
        largest_difference: by which a fine row's answer may differ from its input; None: any answer may come.
        hidden: text that no client may ever read, such as the upstream's address.
        pause_seconds: after each answer.
    """

    count: int = 6
    deadline_seconds: float | None = None
    calls_per_connection: int | None = None
    credentials: Callable[[], grpc.ChannelCredentials] | None = None
    largest_difference: float | None = 1e-3
    hidden: tuple[str, ...] = ()
    pause_seconds: float = 0.002


@dataclasses.dataclass(frozen=True)
class Request:
    """One request, and how its bytes look."""

    rows: np.ndarray
    content: bytes


@dataclasses.dataclass
class Seen:
    """What the clients saw so far.

    Args:
        outcomes: answers, by what the sidecar says became of them.
        reasons: errors that carry a reason of the sidecar's.
        bare: errors that carry none, by status code.
        wrong: violating answers, and answers to somebody else's question.
        leaks: error texts that show what no client may see.
        streamed: answers within streams, which do not say what became of them.
        broken_streams: streams that ended in an error.
        latencies: when each unary answer came, by the monotonic clock, and how many seconds it took.
        waits: of unary failures, the reason or code, and how many seconds it took.
        hanging: clients whose calls did not come to an end.
        last_failure: when the last call failed, by the monotonic clock.
        last_answer: when the last call was answered.
    """

    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    bare: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    violating: list[str] = dataclasses.field(default_factory=list)
    strange: list[str] = dataclasses.field(default_factory=list)
    leaks: set[str] = dataclasses.field(default_factory=set)
    latencies: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    waits: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    streamed: int = 0
    broken_streams: int = 0
    hanging: int = 0
    last_failure: float = 0.0
    last_answer: float = 0.0

    @property
    def answered(self) -> int:
        """Calls that got an answer."""
        return self.outcomes.total() + self.streamed

    @property
    def failed(self) -> int:
        """Calls that got an error."""
        return self.reasons.total() + self.bare.total()


def encode(rows: np.ndarray) -> Request:
    """A request as tritonclient would send it."""
    message = _get_inference_request(
        model_name=MODEL,
        inputs=[WIRE.tensor(rows)],
        model_version="",
        request_id="",
        outputs=None,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )
    return Request(rows, message.SerializeToString())
