"""What the transport does when the upstream's connection, not the call, is what fails."""

import struct
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.native import raw_http2 as http2
from tests.native.raw_http2 import EchoUpstream, frame

pytest.importorskip("gate_sidecar_native", reason="NOT RUN: the native transport is not built (make native)")

from tests.native.test_attacks import Neighbour, answer, message, running


class LeavingUpstream(EchoUpstream):
    """Says on its first connection, with the first request, that it takes none: GOAWAY, last stream 0."""

    has_left = False

    def _reply(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == http2.DATA and not self.has_left:
            self.has_left = True
            return frame(http2.GOAWAY, 0, 0, struct.pack(">II", 0, 0))
        return super()._reply(kind, flags, stream, payload)


class BreakingUpstream(EchoUpstream):
    """Hangs up with every request that it has read."""

    def _reply(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == http2.DATA:
            self.asked += 1
            raise OSError("hung up")
        return super()._reply(kind, flags, stream, payload)


@dataclass
class LateUpstream(EchoUpstream):
    """Stands still while it gets so many calls, and answers them all with the next one."""

    patient_for: int = 0
    _late: bytes = b""

    def _reply(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        reply = super()._reply(kind, flags, stream, payload)
        if kind in (http2.SETTINGS, http2.PING) or not reply:
            return reply
        self._late += reply
        return self._late if self.asked > self.patient_for else b""


def handed_over(transport: Any, count: int) -> list[Any]:
    """The first calls that the transport hands to Python."""
    handed: list[Any] = []
    while len(handed) < count:
        handed += [event[1] for event in transport.take() if event[0] == "started"]
    return handed


def test_a_request_that_a_goaway_says_was_not_taken_goes_over_a_new_connection() -> None:
    with LeavingUpstream(answer()) as upstream, running(upstream) as transport:
        assert Neighbour(transport.port).ask() == http2.framed(answer())
        assert (upstream.asked, transport.endings()["retried"]) == (1, 1)


def test_a_request_that_may_have_been_processed_is_never_sent_again() -> None:
    with BreakingUpstream(answer()) as upstream, running(upstream) as transport:
        connection = http2.Connection(transport.port)
        connection.send(http2.request(1, b"\n\x07guarded"))  # not admitted here: Python's, and never forwarded
        neighbour = http2.Connection(transport.port)
        neighbour.send(http2.request(1, message()))
        outcomes = [call.outcome for call in handed_over(transport, 2)]
        failures = [outcome for outcome in outcomes if outcome is not None]
        assert [failure[:1] + failure[2:3] for failure in failures] == [(14, False)]
        assert (upstream.asked, transport.endings()["retried"]) == (1, 0)


def test_connecting_again_waits_after_connections_over_which_nothing_was_answered() -> None:
    with BreakingUpstream(answer()) as upstream, running(upstream) as transport:
        connection = http2.Connection(transport.port)
        for at in range(50):
            connection.send(http2.request(2 * at + 1, message()))
            handed_over(transport, 1)
            if transport.handed()[1] >= 15:
                break
        assert upstream.asked <= 4


def test_an_answer_in_an_encoding_that_was_not_accepted_is_none() -> None:
    with EchoUpstream(answer(), flag=1) as upstream, running(upstream) as transport:
        connection = http2.Connection(transport.port)
        connection.send(http2.request(1, message()))
        (call,) = handed_over(transport, 1)
        assert call.outcome[:3] == (13, "the upstream's answer is compressed", False)


def test_answers_that_come_long_after_their_calls_were_given_up_end_no_connection() -> None:
    """With these frames `h2` keeps to it whatever it remembers; what Triton sends is in `make drill`, SIGSTOP, only."""
    calls = 80
    with (
        LateUpstream(answer(), patient_for=calls) as upstream,
        running(upstream, upstream_timeout_seconds=0.1) as transport,
    ):
        connection = http2.Connection(transport.port)
        for at in range(calls):
            connection.send(http2.request(2 * at + 1, message()))
        assert {call.outcome[0] for call in handed_over(transport, 1)} == {4}
        time.sleep(1.3)  # h2 itself remembers a stream that was given up for a second
        assert Neighbour(transport.port).ask() == http2.framed(answer())
        assert (upstream.asked, transport.endings()["retried"]) == (calls + 1, 0)
