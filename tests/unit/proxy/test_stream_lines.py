"""A stream has its connection to the upstream for as long as it lives, and gives it back once."""

import asyncio

import grpc
import pytest

from sidecar.errors import Reason
from sidecar.proxy.methods import MODEL_STREAM_INFER
from sidecar.proxy.upstream import GrpcUpstream, UpstreamFailure, _failed


def _calls(upstream: GrpcUpstream) -> list[int]:
    return sorted(line.calls for line in upstream._lines._lines)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_stream_keeps_its_line_until_it_is_cancelled(replaced):
    async def go():
        upstream = GrpcUpstream("127.0.0.1:1", 1_000, connections=2)
        stream = upstream.stream(MODEL_STREAM_INFER, (), None)
        assert _calls(upstream) == [0, 1]
        if replaced:
            upstream._lines.replace()
            assert (_calls(upstream), [line.calls for line in upstream._lines._replaced]) == ([0, 0], [1])
        assert isinstance(await stream.receive(), UpstreamFailure)
        stream.cancel()
        stream.cancel()
        assert (_calls(upstream), upstream._lines._replaced) == ([0, 0], [])
        await upstream.close()

    asyncio.run(go())


def test_a_stream_that_is_refused_takes_no_line():
    async def go():
        upstream = GrpcUpstream("127.0.0.1:1", 1_000)
        stream = upstream.stream(MODEL_STREAM_INFER, (("k", "\u00fc"),), None)
        assert isinstance(await stream.receive(), UpstreamFailure)
        assert _calls(upstream) == [0]
        await upstream.close()

    asyncio.run(go())


class _Ready:
    """A channel that is connected."""

    def get_state(self) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY


@pytest.mark.parametrize(
    "details",
    [
        "Stream removed (recvmsg:Connection reset by peer (104))",
        "Socket closed",
        "Cancelling all calls",
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1: Failed to connect to remote host",
    ],
)
def test_what_our_grpc_says_of_a_broken_connection_is_not_the_upstreams_word(details):
    """Also where the next connection is ready already."""
    assert not _failed(_Ready(), grpc.StatusCode.UNAVAILABLE, details, (), ()).answered


def test_what_the_upstream_says_itself_is_its_word():
    assert _failed(_Ready(), grpc.StatusCode.UNAVAILABLE, "draining", (), ()).answered
    assert _failed(_Ready(), grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'socket'", (), ()).answered


def test_a_connection_that_breaks_under_a_message_is_unavailable_and_not_the_upstreams_word():
    """grpc.aio then speaks of an internal error from its core."""
    failure = _failed(None, grpc.StatusCode.INTERNAL, "Internal error from Core", (), ())
    assert (failure.reason, failure.code) == (Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    assert not failure.answered
