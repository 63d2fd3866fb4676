"""Clients that mean harm, or are broken: their own connection ends, the reason is counted, and neighbours go on.

The transport alone is started, without anything that answers for Python: what it does here it does by itself.
"""

import contextlib
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.active_bundle import activate
from tests.conformance.guarded_model import MODEL, bundle_bytes
from tests.native import raw_http2 as http2
from tests.native.raw_http2 import Connection, EchoUpstream, frame
from tests.waiting import wait_until

native = pytest.importorskip("gate_sidecar_native", reason="NOT RUN: the native transport is not built (make native)")

IDLE_BYTES_AT_MOST = 20_000
"""Resident, for each idle connection."""


def message(rows: int = 1) -> bytes:
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.raw_input_contents.append(struct.pack("<2f", 0.25, 1.0) * rows)
    return request.SerializeToString()


def answer(rows: int = 1, bulk: int = 0) -> bytes:
    response = pb.ModelInferResponse(model_name=MODEL)
    response.outputs.add(name="y", datatype="FP32", shape=[rows, 3])
    response.outputs.add(name="z", datatype="FP64", shape=[rows, 1])
    response.raw_output_contents.append(struct.pack("<3f", 0.5, 0.25, 0.1) * rows)
    response.raw_output_contents.append(struct.pack("<d", 0.5) * rows)
    if bulk:
        response.outputs.add(name="bulk", datatype="UINT8", shape=[bulk])
        response.raw_output_contents.append(bytes(bulk))
    return response.SerializeToString()


@contextlib.contextmanager
def running(upstream: EchoUpstream, **settings: Any) -> Iterator[Any]:
    from sidecar.proxy.native_tables import bundle_tables

    given = {
        "listen": "127.0.0.1:0",
        "upstream": f"127.0.0.1:{upstream.port}",
        "workers": 1,
        "upstream_connections": 1,
        "upstream_timeout_seconds": 5.0,
        "limit_bytes": 1 << 22,
        "limit_held_bytes": 1 << 26,
        "limit_calls": 400,
        "refusals": {name: (8, name) for name in ("too_many_calls", "memory_exhausted", "message_too_large")},
        "infer_methods": [http2.INFER],
        "call_bounds": [0.001, 0.01],
        "gate_bounds": [1e-5, 1e-4],
        **settings,
    }
    transport = native.Transport(**given)
    transport.activate({MODEL: bundle_tables(activate(bundle_bytes()), 4096)}, None)
    transport.start()
    try:
        yield transport
    finally:
        transport.stop()


class Neighbour:
    """Asks all the time while an attack goes on."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port)
        self._stream = 1
        self.latencies: list[float] = []

    def ask(self) -> bytes:
        began = time.monotonic()
        self._connection.send(http2.request(self._stream, message()))
        got = self._connection.answer(self._stream)
        self._stream += 2
        self.latencies.append(time.monotonic() - began)
        return got

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        over = threading.Event()
        failures: list[bytes | OSError] = []

        def ask() -> None:
            try:
                while not over.is_set():
                    if (got := self.ask()) != http2.framed(answer()):
                        failures.append(got)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert failures == []
        assert len(self.latencies) >= 1
        assert max(self.latencies) < 2.0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def flood(connection: Connection, attack: Iterator[bytes]) -> int | None:
    """Send until the other side has enough; the reason that it gives."""
    with contextlib.suppress(OSError):
        for each in attack:
            connection.send(each)
    return connection.reason()


def rapid_resets() -> Iterator[bytes]:
    for at in range(20_000):
        stream = 2 * at + 1
        reset = frame(http2.RST_STREAM, 0, stream, struct.pack(">I", http2.CANCEL))
        yield http2.request(stream, message()) + reset


def resets_of_begun_requests() -> Iterator[bytes]:
    for at in range(2000):
        stream = 2 * at + 1
        yield frame(http2.HEADERS, http2.END_HEADERS, stream, http2.HEAD)
        time.sleep(0.0005)
        yield frame(http2.RST_STREAM, 0, stream, struct.pack(">I", http2.CANCEL))


def continuations() -> Iterator[bytes]:
    yield frame(http2.HEADERS, 0, 1, http2.HEAD)
    for _ in range(20_000):
        yield frame(http2.CONTINUATION, 0, 1, http2.header("x", "y")) * 10


def small_frames(kind: int, stream: int, payload: bytes, flags: int = 0) -> Iterator[bytes]:
    if stream:
        yield frame(http2.HEADERS, http2.END_HEADERS, stream, http2.HEAD)
    for _ in range(2000):
        yield frame(kind, flags, stream, payload) * 100


FLOODS = {
    "rapid resets": (rapid_resets, {"reset_flood", "too_much"}),
    "resets of begun requests": (resets_of_begun_requests, {"reset_flood", "too_much"}),
    "CONTINUATION": (continuations, {"frame_flood", "too_much", "protocol_errors"}),
    "SETTINGS": (lambda: small_frames(http2.SETTINGS, 0, struct.pack(">HI", 3, 100)), {"settings_flood"}),
    "PING": (lambda: small_frames(http2.PING, 0, bytes(8)), {"ping_flood"}),
    "WINDOW_UPDATE": (
        lambda: small_frames(http2.WINDOW_UPDATE, 0, struct.pack(">I", 1)),
        {"window_update_flood"},
    ),
    "PRIORITY": (lambda: small_frames(http2.PRIORITY, 3, bytes(5)), {"frame_flood"}),
    "unknown frames": (lambda: small_frames(0xEE, 0, b""), {"frame_flood"}),
    "empty DATA": (lambda: small_frames(http2.DATA, 1, b""), {"frame_flood", "too_much"}),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_is_counted_and_leaves_neighbours_alone(name: str) -> None:
    attack, reasons = FLOODS[name]
    with EchoUpstream(answer()) as upstream, running(upstream) as transport:
        neighbour = Neighbour(transport.port)
        assert neighbour.ask() == http2.framed(answer())
        before = resident_bytes()
        with neighbour.asking():
            reason = flood(Connection(transport.port), attack())
        counted = {reason for reason, count in transport.endings().items() if count}
        assert counted & reasons, counted
        assert reason in (http2.ENHANCE_YOUR_CALM, None)  # None: we sent on after its GOAWAY, and it was lost
        assert resident_bytes() - before < 64 << 20
        assert neighbour.ask() == http2.framed(answer())
        assert transport.endings()["panics"] == 0


def test_resets_of_one_client_reach_the_upstream_in_bounds() -> None:
    with EchoUpstream(answer()) as upstream, running(upstream) as transport:
        flood(Connection(transport.port), rapid_resets())
        assert upstream.asked < 600


def test_an_ordinary_client_is_no_flood() -> None:
    """With a window update and a ping for each answer, as clients with an estimate of their bandwidth send them."""
    with EchoUpstream(answer()) as upstream, running(upstream) as transport:
        connection = Connection(transport.port)
        extra = frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 100)) + frame(http2.PING, 0, 0, bytes(8))
        for at in range(3000):
            connection.send(http2.request(2 * at + 1, message()) + extra)
            assert connection.answer(2 * at + 1) == http2.framed(answer())


def test_header_lists_have_a_limit_however_small_they_arrive() -> None:
    """A value of 4,000 bytes goes into the table of known headers, and is then named 2,000 times in a byte each."""
    size = 3900
    large = b"\x40\x01b" + b"\x7f" + bytes([(size - 127) & 127 | 128, (size - 127) >> 7]) + b"v" * size
    bomb = http2.HEAD + large + b"\xbe" * 2000
    with EchoUpstream(answer()) as upstream, running(upstream) as transport:
        neighbour = Neighbour(transport.port)
        before = resident_bytes()
        with neighbour.asking():
            connection = Connection(transport.port)
            with contextlib.suppress(OSError):
                for at in range(200):
                    connection.send(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 2 * at + 1, bomb))
                connection.answer(399)
        assert resident_bytes() - before < 32 << 20
        assert transport.in_flight() == (0, 0)


def test_a_client_that_does_not_read_loses_its_connection_and_what_was_held_for_it() -> None:
    bulky = answer(bulk=1 << 20)
    settings = struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, 1 << 30)
    with EchoUpstream(bulky) as upstream, running(upstream, stall_timeout_seconds=0.5) as transport:
        connection = Connection(transport.port, settings)
        for at in range(60):
            connection.send(http2.request(2 * at + 1, message()))
        wait_until(lambda: transport.endings()["stalled"] >= 1)
        wait_until(lambda: transport.in_flight() == (0, 0))


def test_slow_bodies_hold_no_stream_of_the_upstream_and_end() -> None:
    with EchoUpstream(answer()) as upstream, running(upstream, receive_timeout_seconds=0.5) as transport:
        connection = Connection(transport.port)
        for at in range(100):
            begun = frame(http2.HEADERS, http2.END_HEADERS, 2 * at + 1, http2.HEAD)
            connection.send(begun + frame(http2.DATA, 0, 2 * at + 1, http2.framed(message())[:7]))
        with (neighbour := Neighbour(transport.port)).asking():
            wait_until(lambda: transport.endings()["slow_request"] == 100)
        assert upstream.asked == len(neighbour.latencies)
        wait_until(lambda: transport.in_flight() == (0, 0))


def test_streams_beyond_the_limit_are_refused_and_memory_stays() -> None:
    with EchoUpstream(answer()) as upstream, running(upstream, limit_streams=50) as transport:
        before = resident_bytes()
        connection = Connection(transport.port)
        head = frame(http2.HEADERS, http2.END_HEADERS, 0, http2.HEAD)
        with contextlib.suppress(OSError), (neighbour := Neighbour(transport.port)).asking():
            for at in range(20_000):
                connection.send(head[:5] + struct.pack(">I", 2 * at + 1) + head[9:])
        assert transport.in_flight()[0] <= 51
        assert resident_bytes() - before < 64 << 20
        connection.close()
        wait_until(lambda: transport.in_flight() == (0, 0))
        assert neighbour.ask() == http2.framed(answer())


def test_what_waits_for_python_is_bounded_by_connection() -> None:
    with EchoUpstream(b"not a response") as upstream, running(upstream, limit_waiting_by_peer=20) as transport:
        connection = Connection(transport.port)
        for at in range(100):
            connection.send(http2.request(2 * at + 1, message()))
        wait_until(lambda: transport.endings()["python_lane_full"] == 80)
        assert transport.handed() == (20, 0)
        connection.close()
        wait_until(lambda: transport.handed() == (0, 0) and transport.in_flight() == (0, 0))


def test_two_thousand_idle_connections_are_small_and_more_than_allowed_are_turned_away() -> None:
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * count + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"NOT RUN: {needed} descriptors are needed, {hard} may be opened")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with (
        EchoUpstream(answer()) as upstream,
        running(upstream, limit_connections=count + 1) as transport,
        contextlib.ExitStack() as stack,
    ):
        neighbour = Neighbour(transport.port)
        neighbour.ask()
        hello = http2.PREFACE + frame(http2.SETTINGS, 0, 0) + frame(http2.SETTINGS, http2.ACK, 0)
        resident, idle = list[int](), list[socket.socket]()
        for more in (count // 4, count - count // 4):  # what the first ones take once is not counted for each
            for _ in range(more):
                idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", transport.port))))
                idle[-1].sendall(hello)
            wait_until(lambda: transport.endings()["open_connections"] == len(idle) + 1)
            time.sleep(0.3)
            resident.append(resident_bytes())
        each_bytes = (resident[1] - resident[0]) / more
        print(f"resident for each idle connection: {each_bytes:.0f} bytes")
        assert each_bytes < IDLE_BYTES_AT_MOST
        one_more = stack.enter_context(socket.create_connection(("127.0.0.1", transport.port), timeout=5))
        assert one_more.recv(1) == b""
        assert transport.endings()["too_many_connections"] == 1
        assert neighbour.ask() == http2.framed(answer())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
