"""Laws of the correlation of a stream's responses, on random streams and against a plain reading of the table."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.proxy.correlation import Correlation, Phase

LIMIT = 3
LIMIT_BYTES = 20


class Streams(RuleBasedStateMachine):
    """Requests are numbers in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.subject: Correlation[int] = Correlation("call", LIMIT, LIMIT_BYTES)
        self.bytes: list[int] = []
        self.ids: list[str] = []
        self.phases: dict[int, Phase] = {}
        self.order: list[int] = []  # open-ended, the one that was silent for longest first
        self.over: list[int] = []

    @precondition(lambda self: self.subject.has_room)
    @rule(size=st.sampled_from([0, 5, 10, 30]))
    def add(self, size: int) -> None:
        request = len(self.ids)
        upstream_id = self.subject.add(request, size)
        self.bytes.append(size)
        assert upstream_id not in self.ids
        self.ids.append(upstream_id)
        self.phases[request] = Phase.WAITING

    @precondition(lambda self: not self.subject.has_room)
    @rule()
    def add_without_room(self) -> None:
        with pytest.raises(ValueError, match="in flight already"):
            self.subject.add(len(self.ids), 0)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), is_final=st.sampled_from([None, True, False]))
    def respond(self, data: st.DataObject, is_final: bool | None) -> None:
        request = data.draw(st.integers(0, len(self.ids) - 1))
        match = self.subject.match(self.ids[request], is_final)
        if request not in self.phases:
            assert match is None
            return
        assert match is not None
        assert match.request == request
        expected = self._step(request, is_final)
        assert list(match.over) == expected
        self.over += expected

    def _step(self, request: int, is_final: bool | None) -> list[int]:
        if request in self.order:
            self.order.remove(request)
        if is_final:
            del self.phases[request]
            return [request]
        if self.phases[request] is not Phase.OPEN_ENDED and is_final is False:
            self.phases[request] = Phase.STREAMING
            return []
        self.phases[request] = Phase.OPEN_ENDED
        self.order.append(request)
        kept = self.order
        while len(kept) > LIMIT or (len(kept) > 1 and sum(self.bytes[each] for each in kept) > LIMIT_BYTES):
            kept = kept[1:]
        forgotten, self.order = self.order[: len(self.order) - len(kept)], kept
        for each in forgotten:
            del self.phases[each]
        return forgotten

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        request = data.draw(st.integers(0, len(self.ids) - 1))
        expected: list[int] = []
        if self.phases.get(request, Phase.OPEN_ENDED) is not Phase.OPEN_ENDED:
            expected = self._step(request, None)
        assert list(self.subject.give_up(self.ids[request])) == expected
        self.over += expected

    @invariant()
    def the_unanswered_ones_wait(self) -> None:
        assert list(self.subject.unanswered) == [n for n, phase in self.phases.items() if phase is Phase.WAITING]

    @rule(upstream_id=st.text(max_size=8))
    def respond_to_nothing(self, upstream_id: str) -> None:
        assert self.subject.match(upstream_id, True) is None

    @rule()
    def end(self) -> None:
        in_flight, open_ended = self.subject.end()
        assert set(in_flight) == {n for n, phase in self.phases.items() if phase is not Phase.OPEN_ENDED}
        assert list(open_ended) == self.order
        self.over += [*in_flight, *open_ended]
        self.phases, self.order = {}, []

    @invariant()
    def phases_are_those_of_the_table(self) -> None:
        assert [self.subject.phase(each) for each in self.ids] == [
            self.phases.get(request) for request in range(len(self.ids))
        ]

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        in_flight = [phase for phase in self.phases.values() if phase is not Phase.OPEN_ENDED]
        assert self.subject.in_flight == len(in_flight) <= LIMIT
        assert self.subject.has_room == (len(in_flight) < LIMIT)
        assert len(self.phases) - len(in_flight) <= LIMIT
        assert len(self.order) <= 1 or sum(self.bytes[each] for each in self.order) <= LIMIT_BYTES

    @invariant()
    def every_request_is_over_at_most_once_and_then_gone(self) -> None:
        assert len(set(self.over)) == len(self.over)
        assert set(self.over) | set(self.phases) == set(range(len(self.ids)))


Streams.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestStreams = Streams.TestCase
