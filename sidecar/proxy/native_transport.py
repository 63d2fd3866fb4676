"""The native transport's Python side: hands it the active bundles, and answers the calls that it gives away.

The only module that imports ``gate_sidecar_native``. A call that is given away is answered by the same handlers as on
the portable transport; :class:`_Context` stands for gRPC's there. A call whose request went upstream already is judged
by the same :class:`~sidecar.proxy.infer.ModelInfer`, with the upstream's outcome in place of an upstream.
"""

import asyncio
import contextlib
import dataclasses
import inspect
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import gate_sidecar_native as native
import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

from sidecar.config import Outside
from sidecar.gates.filter import LiteralTable
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels
from sidecar.proxy.metadata import Metadata
from sidecar.tensors import TensorSpec

_LOGGER: Final = logging.getLogger("sidecar.proxy")

_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclasses.dataclass(frozen=True)
class CallDetails:
    """What a handler is asked by."""

    method: str
    invocation_metadata: Metadata


class _Context:
    """What handlers need of gRPC's context, over a call of the native transport."""

    def __init__(self, call: native.Call, loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self._loop = loop
        self._ends_at = None if call.timeout is None else loop.time() + call.timeout
        self._reading: asyncio.Future[Any] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._trailing: Metadata = ()
        self._over = False

    # For handlers.

    def invocation_metadata(self) -> Metadata:
        return metadata_of(self.call.metadata)

    def time_remaining(self) -> float | None:
        return None if self._ends_at is None else self._ends_at - self._loop.time()

    async def read(self) -> Any:
        self._reading = self._loop.create_future()
        self.call.read()
        return await self._reading

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        self.call.open(_pairs(metadata))

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self._trailing = metadata

    async def write(self, message: bytes) -> None:
        self._writing = self._loop.create_future()
        self.call.write(message)
        await self._writing

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Metadata = ()) -> None:
        self._over = True
        self.call.end(code.value[0], details, _pairs(trailing))
        raise grpc.aio.AbortError("aborted")

    # For the transport.

    def end(self) -> None:
        if not self._over:
            self._over = True
            self.call.end(0, "", _pairs(self._trailing))

    def break_off(self) -> None:
        if not self._over:
            self._over = True
            self.call.end(grpc.StatusCode.INTERNAL.value[0], "internal: the sidecar failed", [])

    def got(self, message: bytes | None) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(grpc.aio.EOF if message is None else message)

    def written(self) -> None:
        if self._writing is not None and not self._writing.done():
            self._writing.set_result(None)


class NativeTransport:
    """A started native transport. All methods belong to the event loop's thread."""

    def __init__(self, transport: native.Transport, handlers: Sequence[grpc.GenericRpcHandler], judge: Any) -> None:
        self._transport = transport
        self._handlers = handlers
        self._judge = judge
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, tuple[_Context, asyncio.Task[None]]] = {}
        self._loop.add_reader(transport.fileno(), self._drain)

    @property
    def port(self) -> int:
        return self._transport.port

    def activate(self, models: ActiveModels) -> None:
        tables = {name: bundle_tables(bundle, models.limit_rows) for name, bundle in models.bundles.items()}
        self._transport.activate({name: each for name, each in tables.items() if each is not None}, models)

    def _drain(self) -> None:
        for kind, call, payload, why in self._transport.take():
            key = call.key()
            if kind == "started":
                context = _Context(call, self._loop)
                task = self._loop.create_task(self._answer(context))
                self._calls[key] = context, task
                task.add_done_callback(lambda _, key=key: self._calls.pop(key, None))
            elif (known := self._calls.get(key)) is not None:
                context, task = known
                if kind == "read":
                    context.got(payload)
                elif kind == "written":
                    context.written()
                else:
                    task.cancel()

    async def _answer(self, context: _Context) -> None:
        try:
            if context.call.outcome is not None:
                await self._judge(context)
            else:
                await self._handle(context)
            context.end()
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            raise
        except Exception:
            _LOGGER.exception("call %s of %s failed", context.call.call_id, context.call.method)
        finally:
            context.break_off()

    async def _handle(self, context: _Context) -> None:
        details: Any = CallDetails(context.call.method, ())
        handler: Any = next(found for each in self._handlers if (found := each.service(details)) is not None)
        if handler.stream_stream is not None:
            await handler.stream_stream(None, context)
        elif handler.unary_unary is not None:
            await context.write(await handler.unary_unary(await self._only(context), context))
        elif handler.unary_stream is not None:
            async for message in handler.unary_stream(await self._only(context), context):
                await context.write(message)

    async def _only(self, context: _Context) -> bytes:
        message = await context.read()
        if not isinstance(message, bytes):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a message")
        return message

    async def stop(self, seconds: float) -> None:
        self._transport.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._calls:
                    await asyncio.sleep(0.02)
        self._transport.stop()
        self._loop.remove_reader(self._transport.fileno())


def metadata_of(pairs: Iterable[tuple[str, bytes]]) -> Metadata:
    return tuple((name, value if name.endswith("-bin") else value.decode("latin-1")) for name, value in pairs)


def _pairs(metadata: Metadata) -> list[tuple[str, bytes]]:
    return [(name, value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in metadata]


# -- tables ------------------------------------------------------------------------------------------------


def bundle_tables(bundle: ActiveBundle, limit_rows: int) -> dict[str, Any] | None:
    """The flat arrays of a bundle, or None where the native transport cannot judge its answers."""
    gates, coverage, signature = bundle.gates, bundle.coverage, bundle.signature
    return {
        "key": "\0".join([bundle.model_name, *bundle.property_ids]),
        "limit_rows": limit_rows,
        "refuses_outside": bundle.policy.outside is Outside.REFUSE,
        "versions": list(getattr(bundle.bundle.manifest, "versions", ())),
        "batched": signature.batch_axis is not None,
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
        "input_size": signature.input_size,
        "width": 1 + signature.input_size + signature.output_size,
        "modes": [str(mode) for mode in bundle.modes],
        "lower": _floats(gates.lower),
        "upper": _floats(gates.upper),
        "gate_regions": _indices(gates.gate_regions),
        "cut_regions": _indices(gates.cut_regions),
        "region_cuts": _indices(gates.region_cuts),
        "gate_clauses": _indices(gates.gate_clauses),
        "clause_literals": _indices(gates.clause_literals),
        **_literals("cuts", gates.cuts),
        **_literals("literals", gates.literals),
        "coverage.root": _indices(coverage.root),
        "coverage.feature": np.ascontiguousarray(coverage.feature, dtype="<i4").tobytes(),
        "coverage.threshold": _floats(coverage.threshold),
        "coverage.left": _indices(coverage.left),
        "coverage.right": _indices(coverage.right),
        "coverage.label": np.ascontiguousarray(coverage.label, dtype="u1").tobytes(),
    }


def _tensors(specs: Sequence[TensorSpec]) -> list[tuple[str, str, list[int]]]:
    return [(spec.name, str(spec.datatype), list(spec.row_shape)) for spec in specs]


def _literals(name: str, table: LiteralTable) -> dict[str, bytes]:
    return {
        f"{name}.offsets": _indices(table.offsets),
        f"{name}.columns": _indices(table.columns),
        f"{name}.coefficients": _floats(table.coefficients),
        f"{name}.strict": np.ascontiguousarray(table.strict, dtype="u1").tobytes(),
        f"{name}.relative": _floats(table.relative),
        f"{name}.absolute": _floats(table.absolute),
    }


def _floats(array: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype="<f8").tobytes()


def _indices(array: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype="<i8").tobytes()
