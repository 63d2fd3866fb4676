"""Starting and stopping a sidecar: the one place where its parts are put together."""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from sidecar.bundle.limits import MAX_BUNDLE_BYTES
from sidecar.config import BundleSource, ServeSettings
from sidecar.errors import BundleError, InputError, OperationError
from sidecar.proxy.active_bundle import ActiveBundle, ActiveModels, Registry, activate, active_models
from sidecar.proxy.admin import AdminServer, admin_pages
from sidecar.proxy.health import HealthHandler
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.load import CountedUpstream, Load
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.receipts import Receipts
from sidecar.proxy.reflection import ReflectionHandler
from sidecar.proxy.server import ProxyHandler, bind_server
from sidecar.proxy.status import describe
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.tls import CredentialPaths, Credentials, listen_paths, server_credentials, upstream_paths
from sidecar.proxy.unix_sockets import SCHEME
from sidecar.proxy.upstream import GrpcUpstream, Upstream
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")


@dataclasses.dataclass(frozen=True, eq=False)
class RunningSidecar:
    """A started sidecar.

    Args:
        listen_port, admin_port: as bound; the first means nothing for a Unix socket.
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
        InputError: see :func:`load_bundles`; or a TLS file is not acceptable.
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
        upstream = upstream or _upstream(settings, metrics)
        stack.push_async_callback(upstream.close)
        load = Load(settings.limit_calls, settings.limit_held_bytes)
        metrics.watch(load)
        receipts = Receipts(settings.limit_held_bytes // settings.limit_bytes)
        readiness = Readiness(registry, upstream, metrics, settings.readiness_interval_seconds)
        pages = admin_pages(metrics, readiness, lambda: describe(registry, readiness, settings.upstream, active_since))
        admin = AdminServer(settings.admin, pages)
        stack.callback(admin.close)
        workers = Workers()
        stack.callback(workers.close)
        counted, timeout_seconds = CountedUpstream(upstream), settings.upstream_timeout_seconds
        infer = ModelInfer(registry, counted, metrics, workers, readiness.look_again)
        stream_infer = ModelStreamInfer(registry, counted, metrics, workers, load, timeout_seconds)
        handler = ProxyHandler(infer, stream_infer, counted, readiness, metrics, load, receipts, timeout_seconds)
        health = HealthHandler(readiness, metrics)
        handlers = (health, ReflectionHandler(metrics), handler)
        credentials = _listen_credentials(settings, metrics)
        server, listen_port = bind_server(
            handlers, settings.listen, settings.limit_bytes, settings.keepalive_seconds, credentials
        )
        await readiness.ask()
        for task in (readiness.keep_asking(), receipts.keep_sweeping()):
            stack.callback(asyncio.create_task(task).cancel)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        stack.callback(stream_infer.drain)
        stack.callback(health.close)
        stack.callback(readiness.drain)
        return RunningSidecar(
            listen_port, admin.port, registry, metrics, readiness, server.wait_for_termination, stack.pop_all().aclose
        )


def _upstream(settings: ServeSettings, metrics: Metrics) -> GrpcUpstream:
    tls = settings.upstream_tls
    return GrpcUpstream(
        settings.upstream,
        settings.limit_bytes,
        credentials=None if tls is None else _credentials(upstream_paths(tls), metrics),
        server_name=None if tls is None else tls.server_name,
        connections=settings.upstream_connections,
        keepalive_seconds=settings.keepalive_seconds,
    )


def _listen_credentials(settings: ServeSettings, metrics: Metrics) -> grpc.ServerCredentials | None:
    tls = settings.listen_tls
    return None if tls is None else server_credentials(_credentials(listen_paths(tls), metrics))


def _credentials(paths: CredentialPaths, metrics: Metrics) -> Credentials:
    return Credentials(paths, metrics.certificate_expires, metrics.certificate_failed)


async def serve(settings: ServeSettings) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it: not ready at once, listening for a while yet, then calls
    in flight to their end. SIGINT, which a person sends, or a second signal cuts the middle part short.

    Raises:
        InputError, OperationError: see :func:`start_sidecar`.
        OperationError: the gRPC server broke off. Who supervises the process has to start it again: it must not
            stay there alive and deaf.
    """
    signals = _Signals()
    running = await start_sidecar(settings)
    where = settings.listen if settings.listen.startswith(SCHEME) else f"port {running.listen_port}"
    _LOGGER.info("listening on %s, admin on port %d, upstream %s", where, running.admin_port, settings.upstream)
    ended = asyncio.create_task(_ended(running))
    await asyncio.wait((ended, asyncio.create_task(signals.stop.wait())), return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        await running.stop()
        raise OperationError(f"the gRPC server broke off: {ended.result()!r}; start the sidecar again")
    running.readiness.drain()
    times = settings.drain_delay_seconds, settings.drain_seconds
    _LOGGER.info("stopping: not ready, listening for %g s yet; then calls in flight get %g s", *times)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(signals.hurry.wait(), settings.drain_delay_seconds)
    await running.stop()


class _Signals:
    """What the process is told from outside."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._got, False)
        loop.add_signal_handler(signal.SIGINT, self._got, True)

    def _got(self, hurry: bool) -> None:
        if hurry or self.stop.is_set():
            self.hurry.set()
        self.stop.set()


async def _ended(running: RunningSidecar) -> Exception | None:
    try:
        await running.ended()
    except Exception as error:
        return error
    return None
