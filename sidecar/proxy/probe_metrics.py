"""What the probes have shown, as metrics.

The gauges speak of the active bundle. A probe may have matched it before it took over, and one that is under way may
end when nobody asks for probes any more: both are known here, in whichever order and by whichever thread they are told.
"""

import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from sidecar.config import Probing
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.probing import ProbeResult


class ProbeMetrics:
    """The metrics of one sidecar's probes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._matched: dict[str, tuple[str, float]] = {}  # by model: the digest matched last, and when
        self._active: dict[str, str] = {}  # by model: the digest that guards
        self._switched_off: set[str] = set()
        self._probes = Counter(
            "gate_probe",
            "Probes of the upstream with a bundle's vectors by what they showed: match, mismatch, or unasked for want "
            "of answers.",
            ["model", "result"],
            registry=registry,
        )
        self._mismatch = Gauge(
            "gate_probe_mismatch",
            "1 where the last probe that got answers had one that the verified model cannot give: the upstream serves "
            "another model, or computes in another arithmetic than was declared.",
            ["model"],
            registry=registry,
        )
        self._matched_at = Gauge(
            "gate_probe_last_match_timestamp_seconds",
            "When a probe last matched the active bundle, in Unix time; 0 for never.",
            ["model"],
            registry=registry,
        )

    def activated(self, bundle: ActiveBundle) -> None:
        """Speak of another bundle from now on, and make all its series exist."""
        with self._lock:
            self._active[bundle.model_name] = bundle.digest
            for result in ProbeResult:
                self._probes.labels(bundle.model_name, result)
            self._mismatch.labels(bundle.model_name).set(0)
            digest, at = self._matched.get(bundle.model_name, ("", 0.0))
            self._matched_at.labels(bundle.model_name).set(at if digest == bundle.digest else 0)

    def in_force(self, bundle: ActiveBundle) -> None:
        """Show no mismatch that nobody looks for any more."""
        with self._lock:
            if bundle.policy.probe is Probing.OFF:
                self._switched_off.add(bundle.model_name)
                self._mismatch.labels(bundle.model_name).set(0)
            else:
                self._switched_off.discard(bundle.model_name)

    def probed(self, bundle: ActiveBundle, result: ProbeResult) -> None:
        """Count a probe."""
        self._probes.labels(bundle.model_name, result).inc()

    def matches(self, bundle: ActiveBundle, matches: bool) -> None:
        """Note whether the upstream answers as a bundle's verified model does; also before that bundle is active."""
        model = bundle.model_name
        with self._lock:
            if matches:
                self._matched[model] = bundle.digest, time.time()
            if self._active.get(model) != bundle.digest:
                return
            if matches:
                self._matched_at.labels(model).set_to_current_time()
            self._mismatch.labels(model).set(not matches and model not in self._switched_off)
