"""Whether the sidecar may get traffic, and if not, why: every bundle is active, the upstream has its model and
says that it is ready, and, where that is required, has answered as the verified model does; and we are not stopping.
The upstream is asked now and then; who wants to know reads the
last answer, from any thread.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Final

from sidecar.protocols.open_inference.model_metadata import encode_model_metadata_request
from sidecar.protocols.open_inference.readiness import encode_model_ready_request
from sidecar.proxy.active_bundle import ActiveBundle, Registry
from sidecar.proxy.methods import MODEL_METADATA, MODEL_READY
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.trial import trial
from sidecar.proxy.upstream import UnaryUpstream
from sidecar.proxy.upstream_model import Cause, Obstacle, obstacle, obstacle_in_trial

_LOGGER: Final = logging.getLogger("sidecar.proxy")

TRIAL_TIMEOUT_SECONDS: Final = 10.0
"""How long a model may take for one row of ours."""

TRIAL_HOLDS_SECONDS: Final = 10.0
"""How long a model that answered counts as ready: every trial is work for it."""

_NOT_ASKED: Final = Obstacle(Cause.NOT_READY, "the upstream has not been asked yet")

_UNMATCHED: Final = Obstacle(
    Cause.UNMATCHED,
    "the upstream has not been seen to serve the verified model, as probe: required asks; see probe in /status",
)


class Readiness:
    """Keeps asking the upstream."""

    def __init__(self, registry: Registry, upstream: UnaryUpstream, metrics: Metrics, interval_seconds: float) -> None:
        self._registry = registry
        self._upstream = upstream
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._obstacles: Mapping[str, Obstacle | None] = {}
        self._away: set[str] = set()
        self._returns: dict[str, int] = {}
        self._draining = False
        self._asking_now = asyncio.Event()
        self._changed = asyncio.Event()
        self._asking: asyncio.Future[None] | None = None
        self._trials: dict[str, tuple[ActiveBundle, float]] = {}

    @property
    def draining(self) -> bool:
        """Whether the sidecar is stopping."""
        return self._draining

    def drain(self) -> None:
        """Be not ready from now on."""
        self._draining = True
        self.tell()

    @property
    def changed(self) -> asyncio.Event:
        """An event that is set when any answer here may be another one than now. For the loop's own thread."""
        return self._changed

    def tell(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def guards(self, model_name: str) -> bool:
        """Whether a bundle is active for a model."""
        return model_name in self._registry.current.bundles

    def obstacle(self, model_name: str) -> Obstacle | None:
        """What stands between a guarded model and its bundle, as far as is known."""
        current = self._registry.current
        bundle = current.bundles.get(model_name)
        unmatched = _UNMATCHED if bundle is not None and current.withheld(bundle) else None
        return self._obstacles.get(model_name, _NOT_ASKED) or unmatched

    def model_ready(self, model_name: str) -> bool:
        """Whether nothing does."""
        return self.obstacle(model_name) is None

    def served(self, model_name: str) -> bool:
        """Whether the upstream, when it was last asked, had the model ready; whatever it computes."""
        return self._obstacles.get(model_name, _NOT_ASKED) is None

    def returns(self, model_name: str) -> int:
        """How often a guarded model has appeared upstream: once at first, and again whenever it was away."""
        return self._returns.get(model_name, 0)

    @property
    def ready(self) -> bool:
        """Whether the sidecar may get traffic."""
        return not self.why

    @property
    def why(self) -> tuple[str, ...]:
        """Why it may not; empty where it may."""
        if self._draining:
            return ("stopping",)
        current = self._registry.current
        found = {name: self.obstacle(name) for name in current.bundles}
        if not found and not current.awaited:
            return ("no gate bundle is active",)
        return (
            *(f"no gate bundle is active from {source}" for source in current.awaited),
            *(f"{name}: {obstacle.why}" for name, obstacle in sorted(found.items()) if obstacle),
        )

    def ask_now(self) -> None:
        """Have the next question asked without waiting, for instance because other bundles are active."""
        self._asking_now.set()

    async def keep_asking(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asking_now.wait(), self._interval_seconds)
            self._asking_now.clear()

    async def look_again(self, model_name: str) -> bool:
        """Whether a guarded model is ready, with a question sent after this call where it was before."""
        if not self.served(model_name):
            return False
        if self._asking is not None:
            await asyncio.shield(self._asking)
        await self.ask()
        return self.served(model_name)

    async def ask(self) -> None:
        """Ask about every guarded model; who asks meanwhile shares the answers."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask_all())
        await asyncio.shield(self._asking)

    async def _ask_all(self) -> None:
        try:
            await self._ask_each()
        finally:
            self._asking = None

    async def _ask_each(self) -> None:
        bundles = self._registry.current.bundles
        found = await asyncio.gather(*(self._ask(bundle) for bundle in bundles.values()))
        before, self._obstacles = self._obstacles, dict(zip(bundles, found, strict=True))
        for name, now in self._obstacles.items():
            self._metrics.model_ready(name, now is None)
            self._note_absence(bundles[name], now)
            _report(name, before.get(name, _NOT_ASKED), now)
        self.tell()

    def _note_absence(self, bundle: ActiveBundle, now: Obstacle | None) -> None:
        """What comes back may be another model: what it has matched counts no more."""
        name = bundle.model_name
        if now is not None and now.cause.is_absence:
            self._away.add(name)
            self._registry.unmatched(bundle)
        elif now is None and (name in self._away or name not in self._returns):
            self._away.discard(name)
            self._returns[name] = self._returns.get(name, 0) + 1

    async def _ask(self, bundle: ActiveBundle) -> Obstacle | None:
        name, timeout = bundle.model_name, max(self._interval_seconds, 1.0)
        try:
            if bundle.policy.torchserve is not None:
                return await self._try(bundle)
            ready = await self._upstream.call(MODEL_READY, encode_model_ready_request(name), (), timeout)
            metadata = await self._upstream.call(MODEL_METADATA, encode_model_metadata_request(name), (), timeout)
        except Exception as error:  # no yes, and it must not end the asking
            return Obstacle(Cause.UNREACHABLE, f"asking the upstream failed: {error!r}")
        return obstacle(name, bundle.signature, ready, metadata)

    async def _try(self, bundle: ActiveBundle) -> Obstacle | None:
        """Ask for a row: TorchServe says "healthy" while a model hangs. A row that came is believed for a while."""
        now = time.monotonic()
        tried, holds_until = self._trials.get(bundle.model_name, (None, 0.0))
        if tried is bundle and now < holds_until:
            return None
        dialect, request = trial(bundle, 0)
        outcome = await self._upstream.call(dialect.method, request, (), TRIAL_TIMEOUT_SECONDS)
        found = obstacle_in_trial(bundle.model_name, outcome, lambda body: dialect.read_response(body, bundle, 1))
        if found is None:
            self._trials[bundle.model_name] = (bundle, now + TRIAL_HOLDS_SECONDS)
        return found


def _report(model_name: str, before: Obstacle | None, now: Obstacle | None) -> None:
    """Log what is new; the words alone may differ each time."""
    if now is None and before is not None:
        _LOGGER.info("model %s is ready upstream", model_name)
    elif now is not None and (before is None or before.cause is not now.cause or before is _NOT_ASKED):
        _LOGGER.warning("not ready: %s: %s", model_name, now.why)
