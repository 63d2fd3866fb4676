"""Whether the sidecar may get traffic: every bundle is active, its model is ready upstream, and we are not
stopping. The upstream is asked now and then; who wants to know reads the last answer, from any thread.
"""

import asyncio
import logging
from typing import Final

from sidecar.protocols.open_inference.readiness import decode_model_ready, encode_model_ready_request
from sidecar.proxy.active_bundle import Registry
from sidecar.proxy.methods import MODEL_READY
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.upstream import Upstream, UpstreamReply

_LOGGER: Final = logging.getLogger("sidecar.proxy")


class Readiness:
    """Keeps asking the upstream."""

    def __init__(self, registry: Registry, upstream: Upstream, metrics: Metrics, interval_seconds: float) -> None:
        self._registry = registry
        self._upstream = upstream
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._ready_models: frozenset[str] = frozenset()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the sidecar is stopping."""
        return self._draining

    def drain(self) -> None:
        """Be not ready from now on."""
        self._draining = True

    def model_ready(self, model_name: str) -> bool:
        """What the upstream last said of a model."""
        return model_name in self._ready_models

    @property
    def ready(self) -> bool:
        """Whether the sidecar may get traffic."""
        bundles = self._registry.current.bundles
        return bool(bundles) and not self._draining and all(self.model_ready(name) for name in bundles)

    async def keep_asking(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(self._interval_seconds)

    async def ask(self) -> None:
        """Ask once about every guarded model."""
        names = tuple(self._registry.current.bundles)
        # An exception is no yes, and must not end the asking.
        answers = await asyncio.gather(*(self._ask(name) for name in names), return_exceptions=True)
        ready = frozenset(name for name, answer in zip(names, answers, strict=True) if answer is True)
        if ready != self._ready_models:
            _LOGGER.info("models ready upstream: %s of %s", sorted(ready), sorted(names))
        self._ready_models = ready
        for name in names:
            self._metrics.model_ready(name, name in ready)

    async def _ask(self, model_name: str) -> bool:
        """Raises UpstreamError for an answer that cannot be read."""
        request = encode_model_ready_request(model_name)
        reply = await self._upstream.call(MODEL_READY, request, (), max(self._interval_seconds, 1.0))
        return isinstance(reply, UpstreamReply) and decode_model_ready(reply.body)
