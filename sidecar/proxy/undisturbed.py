"""Waiting for an operation of gRPC's without disturbing it.

grpc.aio gives back what an operation took in native memory once the coroutine that started it has seen its end. A
coroutine that is cancelled before never does: up to 1 KiB for every call stays taken, for ever, and a client may
cancel as often as it likes. So nothing here cancels such a coroutine. The call is ended instead, by the client or by
:func:`end`, and with it all its operations end by themselves.
"""

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc.aio

_Result = TypeVar("_Result")


async def undisturbed(operation: Coroutine[Any, Any, _Result]) -> _Result:
    """The operation's result. Where the waiting is cancelled, the operation goes on until its call ends."""
    # What asyncio.shield does, in half its time.
    loop = asyncio.get_running_loop()
    going_on, over = loop.create_task(operation), loop.create_future()
    going_on.add_done_callback(functools.partial(_note, over))
    await over
    return going_on.result()


async def answer_of(call: "grpc.aio.UnaryUnaryCall[bytes, bytes]") -> bytes:
    """A unary call's answer, or the error that it raises; the same, and without another task beside the call's own."""
    # There is no public way to it; see `end`.
    await asyncio.shield(call._call_response)  # type: ignore[attr-defined]
    return await call  # which is over


def _note(over: "asyncio.Future[None]", operation: "asyncio.Future[Any]") -> None:
    """See how it ended; asyncio would log an error that nobody has seen, for nobody may be there to see it any more."""
    if not operation.cancelled():
        operation.exception()
    if not over.done():
        over.set_result(None)


def end(call: "grpc.aio.Call") -> None:
    """Cancel a call to the upstream, where it is not over; what waits for it is told, and not cancelled."""
    # The public one cancels the coroutine that waits, too. grpcio's version is bounded, and a test measures the memory.
    call._cancel("cancelled by the sidecar")  # type: ignore[attr-defined]
