"""What tests over sockets start with: an event loop in a thread, and a model server that tells what it was asked."""

import asyncio

import pytest

from tests.integration.proxy_harness import Loop, SocketUpstream


@pytest.fixture(scope="module")
def loop():
    """For all tests of a module."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def socket_upstream(loop):
    """It answers as it is told to."""
    upstream = SocketUpstream()
    upstream.port = loop.run(upstream.start())
    yield upstream
    loop.run(upstream.server.stop(0))


@pytest.fixture
def held_upstream(socket_upstream):
    """It answers with ``fine`` once ``release`` is set."""
    socket_upstream.release = asyncio.Event()

    async def behave(_, __):
        await socket_upstream.release.wait()
        return socket_upstream.fine

    socket_upstream.behaviour = behave
    return socket_upstream
