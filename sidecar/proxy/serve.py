"""Starting and stopping a sidecar: the one place where its parts are put together."""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.config import BundleSource, ServeSettings
from sidecar.errors import BundleError, InputError, OperationError
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels, Registry, activate, active_models
from sidecar.proxy.admin import AdminServer, admin_pages
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.server import ProxyHandler, bind_server
from sidecar.proxy.status import describe
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.upstream import GrpcUpstream, Upstream
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True, eq=False)
class RunningSidecar:
    """A started sidecar.

    Args:
        listen_port, admin_port: as bound.
        registry: the active bundles.
        metrics, readiness: to look at.
        ended: waits until the gRPC server has ended; raises what ended it where that was not ``stop``.
        stop: drains and ends it: not ready at once, calls in flight get ``drain_seconds``.
    """

    listen_port: int
    admin_port: int
    registry: Registry
    metrics: Metrics
    readiness: Readiness
    ended: Callable[[], Awaitable[bool]]
    stop: Callable[[], Awaitable[None]]


def load_bundles(settings: ServeSettings) -> ActiveModels:
    """Activate the bundles of the settings.

    Raises:
        InputError: a file cannot be read, is no acceptable bundle, or two of them guard one model.
    """
    try:
        return active_models([_load(source, settings) for source in settings.bundles], settings.limit_rows)
    except BundleError as error:
        raise InputError(f"{error.reason}: {error.message}") from error


def _load(source: BundleSource, settings: ServeSettings) -> ActiveBundle:
    try:
        with source.path.open("rb") as file:
            content = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot read gate bundle {source.path}: {error.strerror}; give --bundle another path"
        ) from error
    try:
        return activate(content, source.model_name, settings.mode, settings.outside)
    except BundleError as error:
        raise InputError(f"gate bundle {source.path}: {error.reason}: {error.message}") from error


async def start_sidecar(settings: ServeSettings, upstream: Upstream | None = None) -> RunningSidecar:
    """Start everything, here and now; ``upstream`` stands in for the one that the settings name.

    Raises:
        InputError: see :func:`load_bundles`.
        OperationError: an address cannot be bound.
    """
    models = load_bundles(settings)
    registry = Registry(models)
    active_since = datetime.datetime.now(datetime.UTC)
    metrics = Metrics()
    for bundle in models.bundles.values():
        metrics.bundle_activated(bundle)
        _LOGGER.info("bundle %s revision %d active for %s", bundle.digest[:12], bundle.revision, bundle.model_name)
    async with contextlib.AsyncExitStack() as stack:
        upstream = upstream or GrpcUpstream(settings.upstream, settings.limit_bytes)
        stack.push_async_callback(upstream.close)
        readiness = Readiness(registry, upstream, metrics, settings.readiness_interval_seconds)
        pages = admin_pages(metrics, readiness, lambda: describe(registry, readiness, settings.upstream, active_since))
        admin = AdminServer(settings.admin, pages)
        stack.callback(admin.close)
        workers = Workers()
        stack.callback(workers.close)
        infer = ModelInfer(registry, upstream, metrics, workers)
        stream_infer = ModelStreamInfer(registry, upstream, metrics, workers, settings.upstream_timeout_seconds)
        handler = ProxyHandler(infer, stream_infer, upstream, readiness, metrics, settings.upstream_timeout_seconds)
        server, listen_port = bind_server(handler, settings.listen, settings.limit_bytes)
        await readiness.ask()
        asking = asyncio.create_task(readiness.keep_asking())
        stack.callback(asking.cancel)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        stack.callback(stream_infer.drain)
        stack.callback(readiness.drain)
        return RunningSidecar(
            listen_port, admin.port, registry, metrics, readiness, server.wait_for_termination, stack.pop_all().aclose
        )


async def serve(settings: ServeSettings) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it.

    Raises:
        InputError, OperationError: see :func:`start_sidecar`.
        OperationError: the gRPC server broke off. Who supervises the process has to start it again: it must not
            stay there alive and deaf.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    running = await start_sidecar(settings)
    ports = running.listen_port, running.admin_port
    _LOGGER.info("listening on port %d, admin on port %d, upstream %s", *ports, settings.upstream)
    ended = asyncio.create_task(_ended(running))
    await asyncio.wait((ended, asyncio.create_task(stopping.wait())), return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        await running.stop()
        raise OperationError(f"the gRPC server broke off: {ended.result()!r}; start the sidecar again")
    _LOGGER.info("stopping: calls in flight get %g s", settings.drain_seconds)
    await running.stop()


async def _ended(running: RunningSidecar) -> Exception | None:
    try:
        await running.ended()
    except Exception as error:
        return error
    return None
