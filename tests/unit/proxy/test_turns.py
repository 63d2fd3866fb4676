"""Turns at the corrections' thread: clients in turn, whatever they ask for; bounded; failures stay with who asked."""

import threading

import pytest

from sidecar.proxy.turns import MAX_STEPS_OF_CLIENT, MAX_STEPS_WAITING, TooMuchWaiting, Turns


class Fixture:
    """Turns whose thread starts once all work is there, by a clock on which everything takes a millisecond."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.turns = Turns(self._clock)
        self.order: list[str] = []
        self._gate = threading.Event()
        self.turns.take("blocker", self._blocking(), 0)

    def _clock(self) -> float:
        self.seconds += 0.001
        return self.seconds

    def _blocking(self):
        self._gate.wait(10)
        return None
        yield

    def steps(self, name: str, count: int):
        for left in range(count, 0, -1):
            yield left
            self.order.append(name)
        return name

    def ask(self, client: str, count: int, name: str | None = None):
        """Work whose first stop has been seen, as after the loop's share of it."""
        steps = self.steps(name or client, count)
        return self.turns.take(client, steps, next(steps))

    def go(self) -> None:
        self._gate.set()


@pytest.fixture
def fixture():
    fixture = Fixture()
    yield fixture
    fixture.go()
    fixture.turns.close()


def test_the_result_is_what_the_steps_return(fixture):
    asked = fixture.ask("a", 3)
    fixture.go()
    assert asked.result(10) == "a"
    assert fixture.order == ["a"] * 3


def test_what_the_steps_raise_reaches_who_asked_and_nobody_else(fixture):
    def failing():
        yield 1
        raise ZeroDivisionError

    failed, other = fixture.turns.take("a", failing(), 0), fixture.ask("b", 2)
    fixture.go()
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    assert other.result(10) == "b"


def test_a_client_that_asks_for_little_does_not_wait_for_one_that_asks_for_much(fixture):
    much, little = fixture.ask("greedy", 5000), fixture.ask("modest", 1)
    fixture.go()
    assert little.result(10) == "modest"
    assert much.result(30) == "greedy"
    assert fixture.order.index("modest") < 50


def test_more_calls_do_not_give_a_client_more_turns(fixture):
    calls = [fixture.ask("greedy", 200) for _ in range(20)]
    other = fixture.ask("modest", 200)
    fixture.go()
    assert [each.result(10) for each in (*calls, other)] == [*["greedy"] * 20, "modest"]
    end_of_modest = len(fixture.order) - fixture.order[::-1].index("modest")
    assert fixture.order[:end_of_modest].count("greedy") < 250  # with a turn for each call it would be nearly all 4000


def test_calls_of_one_client_take_turns(fixture):
    large, small = fixture.ask("a", 500, "large"), fixture.ask("a", 1, "small")
    fixture.go()
    assert (small.result(10), large.result(10)) == ("small", "large")
    assert fixture.order.index("small") < 10


def test_a_client_is_charged_for_steps_that_take_long(fixture):
    def slow():
        for left in (4, 3, 2, 1):
            yield left
            fixture.seconds += 0.1
            fixture.order.append("slow")

    slowly, quick = fixture.turns.take("slow", slow(), 0), fixture.ask("quick", 200)
    fixture.go()
    quick.result(10)
    slowly.result(10)
    between = [index for index, name in enumerate(fixture.order) if name == "slow"]
    assert between[1] - between[0] > 50


def test_one_client_may_have_so_many_steps_waiting_and_others_then_still_have_room(fixture):
    first = fixture.ask("greedy", MAX_STEPS_OF_CLIENT)
    with pytest.raises(TooMuchWaiting):
        fixture.ask("greedy", 1).result(0)
    other = fixture.ask("modest", 1)
    fixture.go()
    assert (other.result(10), first.result(60)) == ("modest", "greedy")
    assert fixture.ask("greedy", 1).result(10) == "greedy"


def test_all_clients_together_may_have_so_many_steps_waiting(fixture):
    for number in range(MAX_STEPS_WAITING // MAX_STEPS_OF_CLIENT):
        fixture.ask(str(number), MAX_STEPS_OF_CLIENT)
    with pytest.raises(TooMuchWaiting):
        fixture.ask("one more", 1).result(0)
    fixture.turns._closed = True  # nobody waits for all that


def test_a_single_work_is_never_too_much(fixture):
    asked = fixture.ask("a", MAX_STEPS_OF_CLIENT + 1)
    fixture.go()
    assert asked.result(60) == "a"


def test_steps_that_tell_late_that_they_are_too_many_are_refused_then(fixture):
    fixture.ask("greedy", MAX_STEPS_OF_CLIENT)
    late = fixture.turns.take("greedy", fixture.steps("late", 1000), 0)
    fixture.go()
    with pytest.raises(TooMuchWaiting):
        late.result(10)
    fixture.turns._closed = True


def test_nothing_is_remembered_of_clients_that_ask_for_nothing(fixture):
    asked = [fixture.ask(str(number), 2) for number in range(100)]
    fixture.go()
    for each in asked:
        each.result(10)
    fixture.turns._thread.submit(int).result(10)
    assert not fixture.turns._clients


def test_closing_leaves_what_is_waiting(fixture):
    asked = fixture.ask("a", 10**9)
    fixture.go()
    fixture.turns.close()
    assert not asked.done()
