"""Whatever a hostile client sends to the port: it is refused or hung up on, the upstream sees nothing of it, nothing
of the upstream leaks, and a neighbour's calls are answered as ever.

What is no HTTP/2, or no gRPC message, never reaches our code: there the transport itself decides, with statuses of its
own (INTERNAL or UNIMPLEMENTED for a broken frame), and what counts is that it decides.
"""

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator

import grpc
import pytest

from sidecar.config import TransportChoice
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_METADATA, MODEL_READY, MODEL_STREAM_INFER, SERVICE
from tests.conformance.guarded_model import request, response, values
from tests.integration.proxy_harness import READY, call, settings
from tests.integration.served_upstream import sidecar_before
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_FRAME = b"\0\0\0\x04\0\0\0\0\0"
INSIDE = request([0.75, 0]).SerializeToString()
FINE = response([[0.5, 0, 0]]).SerializeToString()
HEADERS, DATA, RESET, PING, CONTINUATION = 1, 0, 3, 6, 9
END_STREAM, END_HEADERS = 1, 4
UPSTREAM = "upstream-of-nobodys-business:7"


@pytest.fixture
def upstream():
    return MemoryUpstream({MODEL_READY: READY, MODEL_INFER: FINE})


@pytest.fixture
def running(loop, upstream, tmp_path):
    with sidecar_before(loop, settings(tmp_path, 1, upstream=UPSTREAM, limit_bytes=1 << 20), upstream) as running:
        yield running


@pytest.fixture(autouse=True)
def _neighbour(running, upstream, request: pytest.FixtureRequest) -> Iterator[None]:
    """Open before and after, on one connection: it notices nothing. The upstream sees nothing of what is hostile."""
    with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        infer = channel.unary_unary(MODEL_INFER)
        assert infer(INSIDE, timeout=10) == FINE
        upstream.asked.clear()
        yield
        ours = (MODEL_READY, MODEL_METADATA)
        forwarded = [asked.request for asked in upstream.asked if asked.method not in ours]
        assert forwarded == ([INSIDE] if "sloppy" in request.node.name else [])
        assert infer(INSIDE, timeout=10) == FINE


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(**changes: bytes | None) -> bytes:
    """A header block of a call, literal and without Huffman codes; None takes a field away."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": MODEL_INFER.encode(),
        b":authority": b"sidecar",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    fields |= {name.replace("_", "-").encode(): value for name, value in changes.items()}
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items() if value is not None)


def _text(value: bytes) -> bytes:
    """A length in seven bits and what goes on in further bytes (RFC 7541, 5.1), then the text."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, digits = len(value) - 127, [127]
    while rest >= 128:
        digits.append(rest % 128 | 128)
        rest //= 128
    return bytes([*digits, rest]) + value


def a_call(message: bytes, **changes: bytes | None) -> bytes:
    """A whole connection with one call in it; ``message`` with its gRPC frame."""
    return (
        PREFACE
        + SETTINGS_FRAME
        + frame(HEADERS, END_HEADERS, 1, headers(**changes))
        + frame(DATA, END_STREAM, 1, message)
    )


def framed(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message) if length is None else length) + message


def exchanged(port: int, sent: bytes, wait_seconds: float = 1.0) -> bytes:
    """What comes back until the connection ends, or nothing more comes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        connection.settimeout(wait_seconds)
        while chunk := connection.recv(65536):
            received += chunk
            if re.search(rb"grpc-status.\d", received, re.DOTALL):
                break
    return received


def answers(received: bytes) -> list[bytes]:
    """The gRPC messages in what the server sent; only calls that end well have one."""
    data, at = b"", 0
    while at + 9 <= len(received):
        length, kind = int.from_bytes(received[at : at + 3], "big"), received[at + 3]
        data += received[at + 9 : at + 9 + length] if kind == DATA else b""
        at += 9 + length
    messages = []
    while data.startswith(b"\0"):  # not the text of an HTTP error
        end = 5 + int.from_bytes(data[1:5], "big")
        messages.append(data[5:end])
        data = data[end:]
    return messages


NO_HTTP2 = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: sidecar\r\n\r\n",
    "an HTTP/1 upgrade": b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100310100002d0303") + bytes(32) + bytes.fromhex("000002130100000000"),
    "noise": os.urandom(4096),
    "nothing": b"",
    "half a preface": PREFACE[:10],
    "a preface and noise": PREFACE + bytes(range(256)) * 16,
    "a frame of 16 MiB announced": PREFACE + frame(DATA, 0, 1, b"", length=(1 << 24) - 1),
    "settings on a stream": PREFACE + frame(4, 0, 1, b""),
    "settings of a torn length": PREFACE + frame(4, 0, 0, b"12345"),
    "data without a call": PREFACE + SETTINGS_FRAME + frame(DATA, END_STREAM, 1, framed(INSIDE)),
    "an even stream": PREFACE + SETTINGS_FRAME + frame(HEADERS, END_HEADERS, 2, headers()),
    "headers that are no HPACK": PREFACE + SETTINGS_FRAME + frame(HEADERS, END_HEADERS, 1, b"\xff" * 50),
    "a header of a table that is empty": PREFACE + SETTINGS_FRAME + frame(HEADERS, END_HEADERS, 1, b"\xfe"),
    "a continuation of nothing": PREFACE + SETTINGS_FRAME + frame(CONTINUATION, END_HEADERS, 1, headers()),
    "a window beyond its limit": PREFACE + SETTINGS_FRAME + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a window of nothing": PREFACE + SETTINGS_FRAME + frame(8, 0, 0, bytes(4)),
    "a torn ping": PREFACE + SETTINGS_FRAME + frame(PING, 0, 0, b"123"),
}


@pytest.mark.parametrize("sent", NO_HTTP2.values(), ids=[name.replace(" ", "-") for name in NO_HTTP2])
def test_what_is_no_http2_is_hung_up_on(running, sent: bytes):
    received = exchanged(running.listen_port, sent, wait_seconds=0.3)
    assert answers(received) == []
    assert UPSTREAM.encode() not in received


CALLS = {
    "an unknown method": a_call(framed(INSIDE), **{":path": SERVICE.encode() + b"Nothing"}),
    "an unknown service": a_call(framed(INSIDE), **{":path": b"/a.b/C"}),
    "an empty path": a_call(framed(INSIDE), **{":path": b""}),
    "a path of 4 KiB": a_call(framed(INSIDE), **{":path": b"/" + b"a" * 4096}),
    "a path with a query": a_call(framed(INSIDE), **{":path": MODEL_INFER.encode() + b"?x=1"}),
    "a path with a line break": a_call(framed(INSIDE), **{":path": MODEL_INFER.encode() + b"\r\n"}),
    "the path in other case": a_call(framed(INSIDE), **{":path": MODEL_INFER.lower().encode()}),
    "no path": a_call(framed(INSIDE), **{":path": None}),
    "the method GET": a_call(framed(INSIDE), **{":method": b"GET"}),
    "no method": a_call(framed(INSIDE), **{":method": None}),
    "a header of 1 MiB": PREFACE
    + SETTINGS_FRAME
    + frame(HEADERS, 0, 1, headers()[:100])
    + frame(CONTINUATION, 0, 1, headers()[100:] + b"\0" + _text(b"x") + b"\x7f\x81\xff\x3f" + b"a" * 10_000)
    + frame(CONTINUATION, 0, 1, b"a" * 16_000) * 64,
    "continuations without an end": PREFACE
    + SETTINGS_FRAME
    + frame(HEADERS, 0, 1, headers())
    + frame(CONTINUATION, 0, 1, b"") * 20_000,
    "ten thousand headers": PREFACE
    + SETTINGS_FRAME
    + frame(HEADERS, 0, 1, headers())
    + frame(CONTINUATION, 0, 1, b"\0\x01a\x01b" * 3000) * 20,
    "a message cut in its frame": a_call(framed(INSIDE)[:-3]),
    "a message cut in its length": a_call(b"\0\0\0"),
    "no message": a_call(b""),
    "a message of 4 GiB announced": a_call(framed(INSIDE, length=2**32 - 1)),
    "a message over the limit announced": a_call(framed(INSIDE, length=(1 << 20) + 1)),
    "a message with a flag that does not exist": a_call(framed(INSIDE, flag=0x82)),
    "a message marked as gzip that is none": a_call(framed(INSIDE, flag=1), grpc_encoding=b"gzip"),
    "a compression that does not exist": a_call(framed(INSIDE, flag=1), grpc_encoding=b"zip9"),
    "a gzip of nothing": a_call(framed(b"", flag=1), grpc_encoding=b"gzip"),
    "a deadline that is none": a_call(framed(INSIDE)[:-1], grpc_timeout=b"soon"),
}


@pytest.mark.parametrize("sent", CALLS.values(), ids=[name.replace(" ", "-") for name in CALLS])
def test_a_call_that_is_none_is_not_answered_well(running, sent: bytes):
    received = exchanged(running.listen_port, sent, wait_seconds=0.3)
    assert answers(received) == []
    assert UPSTREAM.encode() not in received


SLOPPY_TO_GRPC = {
    "text as content": a_call(framed(INSIDE), content_type=b"text/html"),
    "no kind of content": a_call(framed(INSIDE), content_type=None),
    "a message marked as compressed by nothing": a_call(framed(INSIDE, flag=1)),
}
"""Which gRPC's own library takes. The native transport does not: such calls are none by gRPC's protocol."""

SLOPPY = {
    "two messages in a call of one": a_call(framed(INSIDE) + framed(b"\xff")),
}


@pytest.mark.parametrize("sent", SLOPPY.values(), ids=[name.replace(" ", "-") for name in SLOPPY])
def test_what_is_only_sloppy_is_judged_as_one_ordinary_call(running, upstream, sent: bytes):
    _judged_as_one(running, upstream, sent)


def _judged_as_one(running, upstream, sent: bytes) -> None:
    upstream.answers[MODEL_INFER] = response([[3, 2, 1]]).SerializeToString()
    (answer,) = answers(exchanged(running.listen_port, sent))
    upstream.answers[MODEL_INFER] = FINE
    assert values(answer, "y").tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("sent", SLOPPY_TO_GRPC.values(), ids=[name.replace(" ", "-") for name in SLOPPY_TO_GRPC])
def test_what_only_grpc_takes_is_a_call_to_it_and_none_to_others(running, upstream, transport, sent: bytes):
    if transport is TransportChoice.PORTABLE:
        _judged_as_one(running, upstream, sent)
    else:
        assert answers(exchanged(running.listen_port, sent, wait_seconds=0.3)) == []
    upstream.asked.clear()


def test_a_compressed_message_over_the_limit_once_inflated_is_too_large(running):
    inflated = request([0.75, 0], id="x" * (2 << 20)).SerializeToString()
    reply = call(running.listen_port, MODEL_INFER, inflated, compression=grpc.Compression.Gzip)
    assert reply.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert UPSTREAM not in reply.details


def test_a_thousand_streams_opened_and_reset_at_once(running):
    """The neighbour's next call is answered."""
    streams = b"".join(
        frame(HEADERS, END_HEADERS, number, headers()) + frame(RESET, 0, number, b"\0\0\0\x08")
        for number in range(1, 2001, 2)
    )
    exchanged(running.listen_port, PREFACE + SETTINGS_FRAME + streams, wait_seconds=0.3)


@pytest.mark.parametrize("what", [frame(PING, 0, 0, b"12345678"), SETTINGS_FRAME], ids=["pings", "settings"])
def test_a_flood_of_small_frames(running, what: bytes):
    exchanged(running.listen_port, PREFACE + SETTINGS_FRAME + what * 20_000, wait_seconds=0.3)


def test_a_hundred_connections_that_say_nothing(running):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", running.listen_port), timeout=5))
            connection.sendall(PREFACE[:5])
        reply = call(running.listen_port, MODEL_READY, pb.ModelReadyRequest(name="guarded").SerializeToString())
        assert reply.code is grpc.StatusCode.OK


HOSTILE_MESSAGES = {
    "noise": os.urandom(500),
    "nothing": b"",
    "groups nested deep": b"\xfb\x3f" * 50_000,
    "a group of 400 thousand fields": b"\xfb\x3f" + b"\x08\x01" * 400_000 + b"\xfc\x3f",
    "a name of 500 KB": pb.ModelInferRequest(model_name="g" * 500_000).SerializeToString(),
    "half a million empty tensors": b"\x2a\x00" * 500_000,
    "a message over the limit": b"\x0a" + b"\x80" * ((1 << 20) + 100),
    "a shape of 900 KB": INSIDE + b"\x2a\x84\xf7\x36\x1a\x80\xf7\x36" + b"\x01" * 900_000,
}
messages = pytest.mark.parametrize(
    "message", HOSTILE_MESSAGES.values(), ids=[name.replace(" ", "-") for name in HOSTILE_MESSAGES]
)
ALLOWED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.PERMISSION_DENIED}


@messages
def test_a_hostile_message_gets_one_of_three_statuses(running, message: bytes):
    reply = call(running.listen_port, MODEL_INFER, message)
    assert reply.code in ALLOWED
    assert UPSTREAM not in f"{reply.details}{reply.trailing}{reply.initial}"


@messages
@pytest.mark.parametrize("method", [SERVICE + "RepositoryModelLoad", SERVICE + "CudaSharedMemoryRegister"])
def test_a_denied_method_is_denied_whatever_it_carries(running, method: str, message: bytes):
    reply = call(running.listen_port, method, message)
    assert reply.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert UPSTREAM not in f"{reply.details}{reply.trailing}{reply.initial}"


@messages
def test_a_hostile_message_on_a_stream(running, message: bytes):
    with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}") as channel:
        stream = channel.stream_stream(MODEL_STREAM_INFER)(iter([message]), timeout=10)
        told = []
        with contextlib.suppress(grpc.RpcError):
            told += [pb.ModelStreamInferResponse.FromString(each).error_message for each in stream]
        # In the stream, which goes on, or as its end.
        assert (len(told) == 1 and told[0]) or stream.code() in ALLOWED
        assert UPSTREAM not in f"{told}{stream.details()}"
