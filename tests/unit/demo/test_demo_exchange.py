"""Servers that are not there or not ready end the demo with one clear line."""

import socket
from collections.abc import Iterator

import grpc
import pytest

from sidecar.demo import exchange
from sidecar.demo.exchange import Line, connected
from sidecar.errors import OperationError


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as reserved:  # bound, but not listening
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_call_to_nobody_names_server_and_status(closed_port: int) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{closed_port}") as channel,
        pytest.raises(OperationError, match="the sidecar answered UNAVAILABLE"),
    ):
        Line("sidecar", channel).ask(b"")


def test_server_that_never_gets_ready_is_not_waited_for_for_ever(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_READY_SECONDS", 0.3)
    with pytest.raises(OperationError, match="the sidecar is not ready"), connected("sidecar", closed_port):
        pass
