"""Which request of a stream a response belongs to, and which requests are still to be waited for.

A state machine without I/O or clock. Every request gets an id that no other request of the stream has, and is in one
of these phases; what happens to it is in the column of what its next response says of being the last one.

    phase         not the last      does not say    the last
    WAITING       STREAMING         OPEN_ENDED      gone
    STREAMING     STREAMING         OPEN_ENDED      gone
    OPEN_ENDED    OPEN_ENDED        OPEN_ENDED      gone

A request that is given up becomes OPEN_ENDED: its client has an answer, and what the upstream still says is for nobody.

WAITING and STREAMING requests are in flight, and limited in number. Some servers never say which response is the
last one; nobody can wait for it, so OPEN_ENDED requests take no place. As many as may be in flight are
remembered, and as many bytes of them as may be, though always one; the one that was silent for longest is forgotten
first. A response to a request that is gone, forgotten or was never there belongs to nothing.
"""

import dataclasses
import enum
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

MAX_REQUESTS_IN_FLIGHT: Final = 128
"""Of one stream. At the limit nothing is read from the client until a request is over."""

MAX_OPEN_ENDED_BYTES: Final = 1024 * 1024
"""Of the requests of one stream that are remembered: clients choose how large they are."""

_Request = TypeVar("_Request")


class Phase(enum.Enum):
    """How far a request's responses have come."""

    WAITING = enum.auto()
    STREAMING = enum.auto()
    OPEN_ENDED = enum.auto()


@dataclasses.dataclass(frozen=True)
class Match(Generic[_Request]):
    """What a response belongs to.

    Args:
        request: whose response it is.
        over: requests that nothing more is expected of: this one after its last response, or one that is forgotten.
    """

    request: _Request
    over: tuple[_Request, ...]


class Correlation(Generic[_Request]):
    """The requests of one stream; ``prefix`` begins all their ids."""

    def __init__(
        self, prefix: str, limit: int = MAX_REQUESTS_IN_FLIGHT, limit_open_ended_bytes: int = MAX_OPEN_ENDED_BYTES
    ) -> None:
        self._prefix = prefix
        self._limit = limit
        self._limit_open_ended_bytes = limit_open_ended_bytes
        self._added = 0
        self._in_flight: dict[str, _Request] = {}
        self._waiting: set[str] = set()
        self._open_ended: dict[str, _Request] = {}
        self._bytes: dict[str, int] = {}

    @property
    def in_flight(self) -> int:
        """How many requests are waited for."""
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be added."""
        return len(self._in_flight) < self._limit

    @property
    def unanswered(self) -> tuple[_Request, ...]:
        """The requests that have got no response yet."""
        return tuple(self._in_flight[upstream_id] for upstream_id in self._in_flight if upstream_id in self._waiting)

    def waited_for(self) -> Iterator[_Request]:
        """The requests in flight."""
        return iter(self._in_flight.values())

    def phase(self, upstream_id: str) -> Phase | None:
        """The phase of the request with an id of ours; None where there is none."""
        if upstream_id in self._open_ended:
            return Phase.OPEN_ENDED
        if upstream_id not in self._in_flight:
            return None
        return Phase.WAITING if upstream_id in self._waiting else Phase.STREAMING

    def add(self, request: _Request, request_bytes: int) -> str:
        """Take in a request of that size; its id upstream.

        Raises:
            ValueError: there is no room.
        """
        if not self.has_room:
            raise ValueError(f"{self._limit} requests are in flight already")
        self._added += 1
        upstream_id = f"{self._prefix}-{self._added}"
        self._in_flight[upstream_id] = request
        self._bytes[upstream_id] = request_bytes
        self._waiting.add(upstream_id)
        return upstream_id

    def match(self, upstream_id: str, is_final: bool | None) -> Match[_Request] | None:
        """Take in a response; ``is_final`` is what it says of being the last one. None: it belongs to nothing."""
        phase = self.phase(upstream_id)
        if phase is None:
            return None
        self._waiting.discard(upstream_id)
        if phase is not Phase.OPEN_ENDED and is_final is False:
            return Match(self._in_flight[upstream_id], ())
        request = self._take(upstream_id)
        if is_final:
            del self._bytes[upstream_id]
            return Match(request, (request,))
        self._open_ended[upstream_id] = request
        return Match(request, self._forget())

    def give_up(self, upstream_id: str) -> tuple[_Request, ...]:
        """Wait no more for a request; gives those that nothing more is expected of."""
        if self.phase(upstream_id) in (None, Phase.OPEN_ENDED):
            return ()
        self._waiting.discard(upstream_id)
        self._open_ended[upstream_id] = self._take(upstream_id)
        return self._forget()

    def end(self) -> tuple[tuple[_Request, ...], tuple[_Request, ...]]:
        """The stream is over: the requests that were still waited for, and the open-ended ones. All are gone."""
        left = tuple(self._in_flight.values()), tuple(self._open_ended.values())
        self._in_flight, self._waiting, self._open_ended, self._bytes = {}, set(), {}, {}
        return left

    def _take(self, upstream_id: str) -> _Request:
        home = self._in_flight if upstream_id in self._in_flight else self._open_ended
        return home.pop(upstream_id)

    def _forget(self) -> tuple[_Request, ...]:
        remembered = sum(self._bytes[upstream_id] for upstream_id in self._open_ended)
        forgotten = []
        while len(self._open_ended) > 1 and (
            len(self._open_ended) > self._limit or remembered > self._limit_open_ended_bytes
        ):
            oldest = next(iter(self._open_ended))
            remembered -= self._bytes.pop(oldest)
            forgotten.append(self._open_ended.pop(oldest))
        return tuple(forgotten)
