"""Asks the upstream for its answers to the bundles' vectors: when a bundle becomes active, after the upstream was away
or a connection was lost, and now and then. Never on the request path, one probe at a time, one row at a time.

What the answers show is for :mod:`sidecar.proxy.probing` to say. Where a match is required, the registry learns of it
here, and withholds the model without it.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import math
import random
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.config import Probing
from sidecar.errors import UpstreamError
from sidecar.proxy.active_bundle import ActiveBundle, Registry
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.probing import NOTHING_CERTIFIED, ProbeResult, Verdict, another_model, mismatch, probed_rows
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.trial import trial
from sidecar.proxy.upstream import UnaryUpstream, UpstreamFailure

_LOGGER: Final = logging.getLogger("sidecar.proxy")

LOOK_SECONDS: Final = 1.0
"""How often is looked whether a probe is due; also whenever the readiness may have changed."""

RETRY_SECONDS: Final = 5.0
"""After how long a probe that did not match is made again: what was wrong may have been put right."""

_NOT_SERVED: Final = Verdict(ProbeResult.UNASKED, "the upstream does not have the model ready")

_DEFECT: Final = Verdict(ProbeResult.UNASKED, "probing failed; the log has the trace")

JITTER: Final = 0.1
"""Share of the interval by which it varies, so that many sidecars do not probe one upstream all at once."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The last probe of a model.

    Args:
        digest: of the bundle.
        verdict: what it showed.
        at: when it ended.
        matched_at: when that bundle was last matched; None for never.
    """

    digest: str
    verdict: Verdict
    at: datetime.datetime
    matched_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class _Told:
    """What the log has last said: of which bundle, and which result."""

    digest: str
    result: ProbeResult


@dataclasses.dataclass(frozen=True)
class _Mark:
    """How often the model has come back and connections were lost: the same server as long as neither changes."""

    returns: int
    losses: int


@dataclasses.dataclass(frozen=True)
class _Next:
    """When a model is probed next, if nothing changes before: at what time, on the clock that only goes on."""

    mark: _Mark
    at_seconds: float


class Probe:
    """Probes one upstream. Belongs to the event loop."""

    def __init__(
        self,
        registry: Registry,
        upstream: UnaryUpstream,
        metrics: Metrics,
        readiness: Readiness,
        interval_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._metrics = metrics
        self._readiness = readiness
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._reports: dict[str, Report] = {}
        self._candidates: dict[str, _Told] = {}
        self._next: dict[str, _Next] = {}
        self._turn = 0
        self._asking = asyncio.Lock()

    @property
    def reports(self) -> Mapping[str, Report]:
        """The last probes by model, of active bundles. To be read from any thread."""
        return MappingProxyType(dict(self._reports))

    async def keep_probing(self) -> None:
        """Probe whatever is due, until cancelled."""
        while True:
            changed = self._readiness.changed
            for bundle in self._registry.current.bundles.values():
                if self._is_due(bundle):
                    await self._try(bundle)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_SECONDS)

    async def _try(self, bundle: ActiveBundle) -> None:
        try:
            await self.ask(bundle)
        except Exception:  # a defect of ours must not end the probing
            _LOGGER.exception("probing model %s failed", bundle.model_name)
            self._note(bundle, _DEFECT, self._mark(bundle))

    def _is_due(self, bundle: ActiveBundle) -> bool:
        name = bundle.model_name
        if bundle.policy.probe is Probing.OFF or not self._readiness.served(name):
            return False
        report, planned = self._reports.get(name), self._next.get(name)
        if report is None or planned is None or report.digest != bundle.digest:
            return True
        return planned.mark != self._mark(bundle) or time.monotonic() >= planned.at_seconds

    def _mark(self, bundle: ActiveBundle) -> _Mark:
        return _Mark(self._readiness.returns(bundle.model_name), self._upstream.losses)

    async def ask(self, bundle: ActiveBundle, is_to_be_active: bool = False) -> Verdict:
        """Probe now, for an active bundle, or for one that is to be active if it matches."""
        if is_to_be_active and not self._readiness.served(bundle.model_name):
            return _NOT_SERVED  # who looks for bundles does not wait for an upstream that hangs
        async with self._asking:
            before, self._turn = self._mark(bundle), self._turn + 1
            verdict = await self._verdict(bundle)
            self._metrics.probe.probed(bundle, verdict.result)
            if self._is_active(bundle) or (is_to_be_active and verdict.result is ProbeResult.MATCH):
                self._note(bundle, verdict, before)
            else:
                self._log_if_new(self._candidates.get(bundle.model_name), bundle, verdict)
                self._candidates[bundle.model_name] = _Told(bundle.digest, verdict.result)
        self._readiness.tell()
        return verdict

    def _is_active(self, bundle: ActiveBundle) -> bool:
        active = self._registry.current.bundles.get(bundle.model_name)
        return active is not None and active.digest == bundle.digest

    async def _verdict(self, bundle: ActiveBundle) -> Verdict:
        rows = probed_rows(bundle.bundle.vectors, self._turn)
        if not rows:
            return NOTHING_CERTIFIED
        until, compared = time.monotonic() + self._timeout_seconds, 0
        for row in rows:
            if time.monotonic() >= until:
                break
            found = await self._compare(bundle, row)
            if found is not None:
                return dataclasses.replace(found, rows=compared)
            compared += 1
        return Verdict(ProbeResult.MATCH, f"{compared} answers lie within the certified bounds", compared)

    async def _compare(self, bundle: ActiveBundle, row: int) -> Verdict | None:
        """What speaks against a match in the answer to one vector, or in there being none."""
        dialect, request = trial(bundle, row)
        reply = await self._upstream.call(dialect.method, request, (), self._timeout_seconds)
        if isinstance(reply, UpstreamFailure):
            return Verdict(ProbeResult.UNASKED, f"vector {row}: {reply.code.name}: {reply.details}")
        try:
            answer = dialect.read_response(reply.body, bundle, 1)
        except UpstreamError as error:
            return another_model(bundle, row, error.message)
        return mismatch(bundle, row, answer.outputs[0])

    def _note(self, bundle: ActiveBundle, verdict: Verdict, before: _Mark) -> None:
        """Make known what was found of a bundle that is active, or about to be."""
        seconds = min(self._interval_seconds, RETRY_SECONDS)
        match verdict.result:
            case ProbeResult.MATCH:
                self._metrics.probe.matches(bundle, True)
                # An upstream that was away meanwhile may be another one by now; then the next probe says.
                if self._readiness.served(bundle.model_name) and self._mark(bundle) == before:
                    self._registry.matched(bundle)
                    seconds = self._interval_seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)
            case ProbeResult.MISMATCH:
                self._metrics.probe.matches(bundle, False)
                self._registry.unmatched(bundle)
            case ProbeResult.UNASKED:
                # What was known before still holds, or has been forgotten with the upstream's absence.
                seconds = math.inf if verdict is NOTHING_CERTIFIED else seconds
        self._report(bundle, verdict)
        self._next[bundle.model_name] = _Next(before, time.monotonic() + seconds)

    def _report(self, bundle: ActiveBundle, verdict: Verdict) -> None:
        """Keep the report, and log what is new."""
        name, now = bundle.model_name, datetime.datetime.now(datetime.UTC)
        last = self._reports.get(name)
        known = last if last is not None and last.digest == bundle.digest else None
        matched_at = now if verdict.result is ProbeResult.MATCH else None if known is None else known.matched_at
        self._reports[name] = Report(bundle.digest, verdict, now, matched_at)
        self._log_if_new(None if last is None else _Told(last.digest, last.verdict.result), bundle, verdict)

    def _log_if_new(self, told: "_Told | None", bundle: ActiveBundle, verdict: Verdict) -> None:
        if told == _Told(bundle.digest, verdict.result):
            return
        level = logging.INFO if verdict.result is ProbeResult.MATCH else logging.WARNING
        where = f"model {bundle.model_name}, bundle {bundle.digest[:12]}"
        _LOGGER.log(level, "probe of %s: %s: %s", where, verdict.result, verdict.detail)
