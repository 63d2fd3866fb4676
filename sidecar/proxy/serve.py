"""Starting and stopping a sidecar: the one place where its parts are put together."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.config import ServeSettings
from sidecar.errors import OperationError
from sidecar.proxy.activation import Activation, ActivationState
from sidecar.proxy.active_bundle import ActiveBundle, Registry, active_models
from sidecar.proxy.admin import AdminServer, admin_pages
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.health import HealthHandler
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.live_settings import LiveSettings, SettingsFile
from sidecar.proxy.load import CountedUpstream, Load
from sidecar.proxy.matching import Prober
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.native_module import load
from sidecar.proxy.native_tls import NativeCredentials
from sidecar.proxy.native_transport import NativeTransport
from sidecar.proxy.portable_transport import PortableTransport
from sidecar.proxy.prediction_stream import PredictionStream
from sidecar.proxy.probe import Probe
from sidecar.proxy.probing import ProbeResult, Verdict
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.receipts import Receipts
from sidecar.proxy.reflection import ReflectionHandler
from sidecar.proxy.server import ProxyHandler
from sidecar.proxy.status import describe
from sidecar.proxy.stream_infer import ModelStreamInfer
from sidecar.proxy.tls import CredentialPaths, Credentials, listen_paths, upstream_paths
from sidecar.proxy.transport import Handlers, Transport, TransportKind
from sidecar.proxy.unix_sockets import SCHEME
from sidecar.proxy.upstream import GrpcUpstream, UnaryUpstream, Upstream
from sidecar.proxy.upstream_token import TokenFile, UpstreamWithToken
from sidecar.proxy.workers import Workers

_LOGGER: Final = logging.getLogger("sidecar.proxy")

SWITCH_INTERVAL_SECONDS: Final = 0.0001
"""How long a thread may keep the interpreter from the event loop, which has to get it several times for one call.
Python's own 5 ms show in the calls' latency while a bundle of megabytes is accepted. Of 1, 0.2 and 0.1 ms beside
corrections of full batches, one noisy run of each, the last had the smallest p99 and corrected no slower."""


@dataclasses.dataclass(frozen=True, eq=False)
class RunningSidecar:
    """A started sidecar.

    Args:
        listen_port, admin_port: as bound; the first means nothing for a Unix socket.
        registry: the active bundles.
        activation, metrics, readiness: to look at.
        look_now: looks for new bundles at once; to be called on the event loop.
        ended: waits until the gRPC server has ended; raises what ended it where that was not ``stop``.
        transport: what carries the calls.
        stop: drains and ends it: not ready at once, calls in flight get ``drain_seconds``.
    """

    listen_port: int
    admin_port: int
    registry: Registry
    activation: Activation
    metrics: Metrics
    readiness: Readiness
    look_now: Callable[[], None]
    ended: Callable[[], Awaitable[object]]
    transport: TransportKind
    stop: Callable[[], Awaitable[None]]


def check_bundles(settings: ServeSettings) -> ActivationState:
    """Look at the bundles as a start would, without serving anything and without keeping or using last good ones.

    Returns:
        What would be active; what would not, and would not keep the sidecar from starting.

    Raises:
        InputError: see :class:`Activation` and :meth:`Activation.start`.
    """
    activation = Activation(dataclasses.replace(settings, state_folder=None), Registry(active_models([])), Metrics())
    activation.start()
    return activation.state


class _Watch:
    """Looks at the settings file and the bundles' sources again and again, in a thread of its own."""

    def __init__(
        self,
        activation: Activation,
        live: LiveSettings | None,
        readiness: Readiness,
        probe: Probe,
        settings: ServeSettings,
    ) -> None:
        self._activation = activation
        self._live = live
        self._readiness = readiness
        self._probe = probe
        self._poll_seconds = settings.bundle_poll_seconds
        # A probe's last question may begin just before its time is over, and waits for another probe to end.
        self._probe_seconds = 4.0 * settings.upstream_timeout_seconds
        self._now = asyncio.Event()

    def look_now(self) -> None:
        """Look at once, also at what seems unchanged. To be called on the event loop."""
        self._now.set()

    async def keep_looking(self) -> None:
        """Look until cancelled; a look under way is finished by its thread."""
        loop = asyncio.get_running_loop()
        thread = concurrent.futures.ThreadPoolExecutor(1, "activation")
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._now.wait(), self._poll_seconds)
                asked = self._now.is_set()
                self._now.clear()
                await self._look(asked, functools.partial(loop.run_in_executor, thread))
        finally:
            thread.shutdown(wait=False)

    def _prober(self, loop: asyncio.AbstractEventLoop) -> Prober:
        """Probes on the event loop, for the thread that looks."""

        def probe(bundle: ActiveBundle) -> Verdict:
            asking = asyncio.run_coroutine_threadsafe(self._probe.ask(bundle, is_to_be_active=True), loop)
            try:
                return asking.result(self._probe_seconds)
            except (TimeoutError, concurrent.futures.CancelledError):
                asking.cancel()
                return Verdict(ProbeResult.UNASKED, "the upstream's answers took too long")

        return probe

    async def _look(self, asked: bool, run: Callable[..., Awaitable[bool]]) -> None:
        try:
            if await run(self._look_around, asked, self._prober(asyncio.get_running_loop())):
                self._readiness.ask_now()
        except Exception:  # what is active stays active, and the next look may do better
            _LOGGER.exception("looking for new bundles failed")
        if asked:
            failing = len(self._activation.state.failures)
            _LOGGER.info("looked for new bundles as asked; %d places give none that is active", failing)

    def _look_around(self, asked: bool, probe: Prober) -> bool:
        settings = None if self._live is None else self._live.look(asked)
        if settings is not None:
            self._activation.adopt(settings)
        return self._activation.look(asked, probe) or settings is not None


async def start_sidecar(
    settings: ServeSettings, upstream: Upstream | None = None, file: SettingsFile | None = None
) -> RunningSidecar:
    """Start everything, here and now; ``upstream`` stands in for the one that the settings name, ``file`` is what they
    come from, where they are to follow one.

    Raises:
        InputError: see :class:`Activation` and :meth:`Activation.start`; or a TLS file is not acceptable.
        OperationError: an address cannot be bound.
    """
    registry = Registry(active_models([]))
    metrics, first_seen = Metrics(), FirstSeen()
    metrics.open_models(settings.open_models)
    activation = Activation(settings, registry, metrics)
    activation.start()
    async with contextlib.AsyncExitStack() as stack:
        upstream_credentials = _upstream_credentials(settings, metrics)
        transport = _transport(settings, upstream, upstream_credentials, metrics)
        stack.push_async_callback(transport.stop, 0.0)
        registry.tell(transport.judge_by)
        upstream = upstream or _upstream(settings, upstream_credentials)
        stack.push_async_callback(upstream.close)
        load = Load(settings.limit_calls, settings.limit_held_bytes, transport.room)
        metrics.watch(load)
        receipts = Receipts(settings.limit_held_bytes // settings.limit_bytes)
        asked = _asked_by_us(settings, upstream)
        readiness = Readiness(registry, asked, metrics, settings.readiness_interval_seconds)
        probe = Probe(
            registry,
            asked,
            metrics,
            readiness,
            settings.probe_interval_seconds,
            settings.upstream_timeout_seconds,
        )
        live = None if file is None else LiveSettings(file, settings, metrics)

        def status() -> dict[str, object]:
            followed = None if live is None else live.state
            return {
                **describe(activation.state, readiness, probe.reports, settings.upstream, first_seen, followed),
                "transport": {"kind": transport.kind, "version": transport.version},
            }

        pages = admin_pages(metrics, readiness, status)
        admin = AdminServer(settings.admin, pages)
        stack.callback(admin.close)
        workers = Workers()
        stack.callback(workers.close)
        counted, timeout_seconds = CountedUpstream(upstream), settings.upstream_timeout_seconds
        reserve_seconds, is_served = settings.fallback_reserve_seconds, readiness.look_again

        def judging(models: Registry, asked: Upstream) -> ModelInfer:
            return ModelInfer(
                models,
                asked,
                metrics,
                workers,
                is_served,
                reserve_seconds=reserve_seconds,
                first_seen=first_seen,
                words=settings.upstream_words,
            )

        infer = judging(registry, counted)
        stream_infer = ModelStreamInfer(
            registry,
            counted,
            metrics,
            workers,
            load,
            timeout_seconds,
            is_served,
            reserve_seconds=reserve_seconds,
            idle_seconds=settings.stream_idle_seconds,
            first_seen=first_seen,
            words=settings.upstream_words,
        )
        predictions = PredictionStream(registry, counted, metrics, workers, load)
        handler = ProxyHandler(
            infer,
            stream_infer,
            predictions,
            counted,
            readiness,
            metrics,
            load,
            receipts,
            timeout_seconds,
            settings.upstream_words,
        )
        health = HealthHandler(readiness, metrics, receipts)
        handlers = (health, ReflectionHandler(metrics, receipts), handler)
        await readiness.ask()
        watch = _Watch(activation, live, readiness, probe, settings)
        for task in (
            readiness.keep_asking(),
            receipts.keep_sweeping(),
            watch.keep_looking(),
            probe.keep_probing(),
        ):
            stack.callback(asyncio.create_task(task).cancel)
        await transport.start(Handlers(handlers, lambda models, asked: judging(Registry(models), asked)))
        stack.push_async_callback(transport.stop, settings.drain_seconds)
        stack.callback(stream_infer.drain)
        stack.callback(health.close)
        stack.callback(readiness.drain)
        return RunningSidecar(
            transport.port,
            admin.port,
            registry,
            activation,
            metrics,
            readiness,
            watch.look_now,
            transport.ended,
            transport.kind,
            stack.pop_all().aclose,
        )


def _transport(
    settings: ServeSettings, upstream: Upstream | None, upstream_credentials: Credentials | None, metrics: Metrics
) -> Transport:
    """Bound to its address. An upstream that only stands in for the real one has none that could be asked natively."""
    listen_credentials = _listen_credentials(settings, metrics)
    native = None if upstream is not None else load(settings.transport, settings.listen)
    transport: Transport
    if native is None:
        transport = PortableTransport(settings, listen_credentials)
    else:
        transport = NativeTransport(
            native, settings, NativeCredentials(listen_credentials, upstream_credentials), metrics
        )
    metrics.carried_by(transport.kind, transport.version)
    return transport


def _upstream(settings: ServeSettings, credentials: Credentials | None) -> GrpcUpstream:
    tls = settings.upstream_tls
    return GrpcUpstream(
        settings.upstream,
        settings.limit_bytes,
        credentials=credentials,
        server_name=None if tls is None else tls.server_name,
        connections=settings.upstream_connections,
        keepalive_seconds=settings.keepalive_seconds,
    )


def _asked_by_us(settings: ServeSettings, upstream: UnaryUpstream) -> UnaryUpstream:
    path = settings.upstream_token
    return upstream if path is None else UpstreamWithToken(upstream, TokenFile(path))


def _listen_credentials(settings: ServeSettings, metrics: Metrics) -> Credentials | None:
    tls = settings.listen_tls
    return None if tls is None else _credentials(listen_paths(tls), metrics)


def _upstream_credentials(settings: ServeSettings, metrics: Metrics) -> Credentials | None:
    tls = settings.upstream_tls
    return None if tls is None else _credentials(upstream_paths(tls), metrics)


def _credentials(paths: CredentialPaths, metrics: Metrics) -> Credentials:
    return Credentials(paths, metrics.certificate_expires, metrics.certificate_failed)


async def serve(
    settings: ServeSettings, file: SettingsFile | None = None, lost_records: Callable[[], int] = lambda: 0
) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it: not ready at once, listening for a while yet, then calls
    in flight to their end. SIGINT, which a person sends, or a second signal cuts the middle part short. On SIGHUP it
    looks at the settings file and for new bundles at once.

    Args:
        settings: all of them.
        file: that they come from, to be followed; None where there is none.
        lost_records: how many log records could not be written so far.

    Raises:
        InputError, OperationError: see :func:`start_sidecar`.
        OperationError: the gRPC server broke off. Who supervises the process has to start it again: it must not
            stay there alive and deaf.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    signals = _Signals()
    running = await start_sidecar(settings, file=file)
    running.metrics.watch_log(lost_records)
    signals.when_hung_up(running.look_now)
    _LOGGER.info("calls are carried by the %s transport", running.transport)
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
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # what starts up looks anyhow; it must not end by it

    def when_hung_up(self, do: Callable[[], None]) -> None:
        """What to do on SIGHUP."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, do)

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
