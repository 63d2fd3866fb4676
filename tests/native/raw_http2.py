"""Just enough HTTP/2 for attacks: frames are made by hand, so that they may be wrong. And an upstream of that kind."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4

CANCEL: Final = 8
ENHANCE_YOUR_CALM: Final = 11
INITIAL_WINDOW_SIZE: Final = 4

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: str, value: str) -> bytes:
    """Into no table of known headers (RFC 7541, section 6.2.2); both shorter than 127 bytes."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def framed(message: bytes, *, flag: int = 0) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message)) + message


HEAD: Final = b"".join(
    header(*pair)
    for pair in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", INFER),
        (":authority", "sidecar"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
)


def request(stream: int, message: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, HEAD) + frame(DATA, END_STREAM, stream, framed(message))


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """A client's; raises OSError once the other side is gone."""

    def __init__(self, port: int, settings: bytes = b"", seconds: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        opened = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0) + opened)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frames(self) -> Iterator[Frame]:
        """Until the other side ends the connection."""
        while len(head := self._file.read(9)) == 9:
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:], "big")
            yield Frame(kind, flags, stream, self._file.read(length))

    def answer(self, stream: int) -> bytes:
        """The DATA of a stream up to its end; empty where it had none."""
        data = b""
        for each in self.frames():
            if each.stream == stream:
                if each.kind == DATA:
                    data += each.payload
                if each.kind == RST_STREAM or each.flags & END_STREAM:
                    return data
        raise ConnectionError("the connection ended")

    def reason(self) -> int | None:
        """Of the GOAWAY that ends the connection; None where it ends without one."""
        reason = None
        with contextlib.suppress(ConnectionError):
            for each in self.frames():
                if each.kind == GOAWAY:
                    reason = int.from_bytes(each.payload[4:8], "big")
        return reason

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@dataclass
class EchoUpstream:
    """Answers every call with the same message, marked as compressed or not; knows how many there were."""

    answer: bytes
    flag: int = 0
    asked: int = 0
    port: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> "EchoUpstream":
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            file.read(len(PREFACE))
            opened = struct.pack(">I", 1 << 30)
            settings = struct.pack(">H", INITIAL_WINDOW_SIZE) + opened
            connection.sendall(frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, opened))
            while len(head := file.read(9)) == 9:
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                payload = file.read(int.from_bytes(head[:3], "big"))
                connection.sendall(self._reply(kind, flags, stream, payload))

    def _reply(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind in (SETTINGS, PING) and not flags & ACK:
            return frame(kind, ACK, 0, payload if kind == PING else b"")
        if kind not in (DATA, HEADERS) or not flags & END_STREAM:
            return b""
        self.asked += 1
        head = frame(HEADERS, END_HEADERS, stream, b"\x88" + header("content-type", "application/grpc"))
        body = framed(self.answer, flag=self.flag)
        pieces = (body[at : at + 16384] for at in range(0, len(body), 16384))
        data = b"".join(frame(DATA, 0, stream, piece) for piece in pieces)
        return head + data + frame(HEADERS, END_HEADERS | END_STREAM, stream, header("grpc-status", "0"))
