"""Operations of gRPC's, of which a cancelled one would keep its memory for ever."""

import asyncio
import gc

import pytest

from sidecar.proxy.receipts import Receipts
from sidecar.proxy.server import _GrpcClient
from sidecar.proxy.undisturbed import undisturbed


class Operations:
    """A context whose operations end when they are told to, and note whether they saw their end."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.seen = asyncio.Event()

    async def read(self) -> bytes:
        self.started.set()
        await self.over.wait()
        self.seen.set()
        return b"message"

    async def write(self, _message: bytes) -> None:
        await self.read()

    async def send_initial_metadata(self, _metadata: object) -> None:
        pass


def test_an_operation_gives_its_result():
    async def waiting() -> bytes:
        operations = Operations()
        operations.over.set()
        return await undisturbed(operations.read())

    assert asyncio.run(waiting()) == b"message"


@pytest.mark.parametrize(
    "waiting",
    [
        lambda operations: undisturbed(operations.read()),
        lambda operations: Receipts(1).read(operations),
        lambda operations: _GrpcClient("call", operations).read(),
        lambda operations: _GrpcClient("call", operations).write(b"", ()),
    ],
    ids=["by itself", "a request", "a stream's request", "a stream's response"],
)
def test_an_operation_sees_its_end_when_nobody_waits_any_more(waiting):
    asyncio.run(_cancel(waiting))


async def _cancel(waiting) -> None:
    operations = Operations()
    task = asyncio.ensure_future(waiting(operations))
    await operations.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    operations.over.set()
    await asyncio.wait_for(operations.seen.wait(), 5)


def test_an_operation_that_fails_when_nobody_waits_any_more_is_no_error_in_the_log():
    complaints: list[dict] = []

    async def failing(operations: Operations) -> bytes:
        await operations.read()
        raise ConnectionError("Locally aborted.")

    async def cancelling() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await _cancel(lambda operations: undisturbed(failing(operations)))
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(cancelling())
    assert complaints == []
