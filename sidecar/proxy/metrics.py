"""All metrics of the proxy, in a registry of their own. Only modules named after metrics know the metrics library.

Names start with `gate_`; units are seconds and counts. Every label takes its values from a closed list or
from the active bundles, and all children exist from activation on, so that a rate over a counter that never
moved is zero rather than absent.
"""

import datetime
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.config import FailureMode
from sidecar.errors import Reason
from sidecar.gates.values import Action, Mode
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.proxy.events import REGIONS, Events, RequestOutcome, RowOutcome
from sidecar.proxy.failure_table import FAILURES
from sidecar.proxy.histograms import ModelHistogram
from sidecar.proxy.in_force_metrics import InForceMetrics
from sidecar.proxy.load import Load
from sidecar.proxy.methods import DENIED, UNSUPPORTED, Rule
from sidecar.proxy.probe_metrics import ProbeMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

NO_MODEL: Final = ""
"""The model label of requests for a model that no bundle guards: names that clients make up are no labels."""

CALL_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GATE_BUCKETS: Final = (0.00005, 0.0001, 0.00015, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)

_WITHOUT_BUNDLE: Final = (
    RequestOutcome.REFUSED,
    RequestOutcome.FAILED,
    RequestOutcome.CANCELLED,
    RequestOutcome.UNGUARDED,
    RequestOutcome.BYPASSED,
)
_BYPASS_REASONS: Final = tuple(row.reason for row in FAILURES.values() if row.passes_open)
_FALLBACK_REASONS: Final = tuple(row.reason for row in FAILURES.values() if row.falls_back)
_REQUEST_REASONS: Final = tuple(reason for reason in Reason if not reason.startswith(("bundle_", "settings_")))


class _Lost(Collector):
    """A counter that others count."""

    def __init__(self) -> None:
        self.count: Callable[[], int] = lambda: 0

    def describe(self) -> Iterable[Metric]:
        """By which it is found under its name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The one sample."""
        text = "Log records, audit records among them, that could not be written: a full disk, or nobody reads."
        yield CounterMetricFamily("gate_log_records_lost", text, value=self.count())


class Metrics:
    """The counters of one sidecar."""

    def __init__(self) -> None:
        # They would double the series, and nothing reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: Final = CollectorRegistry()
        self.in_force: Final = InForceMetrics(self.registry)
        self.probe: Final = ProbeMetrics(self.registry)
        self._children: dict[tuple[object, tuple[str, ...]], Any] = {}
        self._requests = self._counter(
            "gate_requests",
            "Requests by what became of them; streamed ones by the worst of their responses.",
            "outcome",
        )
        self._rows = self._counter(
            "gate_rows", "Rows of answered or refused batches by what became of them.", "outcome"
        )
        self._violations = self._counter(
            "gate_violations",
            "Rows of the upstream's answers that violate a property, by what is proved where they lie.",
            "property",
            "mode",
            "region",
        )
        self._breaches = self._counter(
            "gate_breaches", "Violations in regions proved silent: the upstream is not the verified model.", "property"
        )
        self._corrections = self._counter("gate_corrections", "Rows that reached the client corrected.", "action")
        self._refusals = self._counter(
            "gate_refusals", "Errors that clients got, as a status or within a stream; denied calls aside.", "reason"
        )
        self._domain_rows = self._counter(
            "gate_in_domain_rows", "Rows in a property's domain, by what is proved there.", "property", "region"
        )
        self._bypasses = self._counter(
            "gate_bypassed", "Answers that nobody could judge and that reached the client: failure_mode open.", "reason"
        )
        self._fallbacks = self._counter(
            "gate_fallbacks", "Answers made of the properties' fallbacks, for an upstream that failed.", "reason"
        )
        self._failure_mode_open = Gauge(
            "gate_failure_mode_open",
            "1 for a model whose answers go to the client where nobody can judge them.",
            ["model"],
            registry=self.registry,
        )
        self._denials = Counter(
            "gate_denied_calls", "Calls of methods that are not let through.", ["rule"], registry=self.registry
        )
        self.call_seconds: Final = ModelHistogram(
            "gate_request_duration_seconds",
            "From the whole request received to its (last) answer ready; the upstream's time included.",
            CALL_BUCKETS,
            self.registry,
        )
        self.gate_seconds: Final = ModelHistogram(
            "gate_decision_duration_seconds",
            "The sidecar's own computing for one request.",
            GATE_BUCKETS,
            self.registry,
        )
        self._last_good_failing = Gauge(
            "gate_bundle_last_good_failing",
            "Whether the last good bundles cannot be kept on disk: a start without their source would lack one.",
            registry=self.registry,
        )
        self._model_ready = Gauge(
            "gate_upstream_model_ready",
            "Whether the upstream says that the model is ready.",
            ["model"],
            registry=self.registry,
        )
        self._certificate_end = Gauge(
            "gate_certificate_expiry_timestamp_seconds",
            "When our own TLS certificate ends, in seconds since 1970.",
            ["side"],
            registry=self.registry,
        )
        self._certificate_failures = Counter(
            "gate_certificate_reload_failures",
            "New TLS files that were not acceptable: the ones before stayed in use.",
            ["side"],
            registry=self.registry,
        )
        self._calls = Gauge(
            "gate_calls_in_flight",
            "Calls that are being answered, streams and their requests included.",
            registry=self.registry,
        )
        self._held = Gauge(
            "gate_held_bytes", "Of requests and answers of the calls in flight, inflated.", registry=self.registry
        )
        self._lost = _Lost()
        self.registry.register(self._lost)
        self._transport = Gauge(
            "gate_transport_info", "What carries the calls.", ["transport", "version"], registry=self.registry
        )
        self._native_handed_over = Counter(
            "gate_native_handed_over",
            "ModelInfer calls that the native transport had decided in Python, by why.",
            ["reason"],
            registry=self.registry,
        )
        self._native_events = Counter(
            "gate_native_events",
            "What happened to connections and calls of the native transport.",
            ["event"],
            registry=self.registry,
        )
        self._native_connections = Gauge(
            "gate_native_open_connections", "Clients' connections to the native transport.", registry=self.registry
        )
        self._before_reading: Callable[[], None] = lambda: None
        self._initialise_closed_labels()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["model", *labels], registry=self.registry)

    def _initialise_closed_labels(self) -> None:
        for rule in (*DENIED, *UNSUPPORTED):
            self._denials.labels(rule)
        for outcome in _WITHOUT_BUNDLE:
            self._requests.labels(NO_MODEL, outcome)
        for reason in _REQUEST_REASONS:
            self._refusals.labels(NO_MODEL, reason)

    def bundle_activated(self, bundle: ActiveBundle, replaced: ActiveBundle | None = None) -> None:
        """Announce a bundle in place of another one, and make all its series exist."""
        model = bundle.model_name
        self.in_force.bundle_activated(bundle, replaced)
        if replaced is None:
            self._model_ready.labels(model).set(0)
        self.call_seconds.open(model)
        self.gate_seconds.open(model)
        self.probe.activated(bundle)
        for request_outcome in RequestOutcome:
            self._requests.labels(model, request_outcome)
        for row_outcome in RowOutcome:
            self._rows.labels(model, row_outcome)
        for action in Action:
            self._corrections.labels(model, action)
        self._failure_mode_open.labels(model).set(bundle.policy.failure_mode is FailureMode.OPEN)
        for reason in _BYPASS_REASONS:
            self._bypasses.labels(model, reason)
        for reason in _FALLBACK_REASONS:
            self._fallbacks.labels(model, reason)
        for reason in _REQUEST_REASONS:
            self._refusals.labels(model, reason)
        for property_id in bundle.property_ids:
            self._initialise_property(model, property_id)

    def bundle_in_force(self, bundle: ActiveBundle, replaced: ActiveBundle | None = None) -> None:
        """Show under which terms a bundle is in force, in place of another one's."""
        self.in_force.bundle_in_force(bundle, replaced)
        self.probe.in_force(bundle)

    def _initialise_property(self, model: str, property_id: str) -> None:
        self._breaches.labels(model, property_id)
        for region in REGIONS:
            self._domain_rows.labels(model, property_id, region)
            for mode in (Mode.ENFORCE, Mode.SHADOW):
                self._violations.labels(model, property_id, mode, region)

    def request_finished(
        self, bundle: ActiveBundle | None, outcome: RequestOutcome, total_seconds: float, gate_seconds: float
    ) -> None:
        """Count a request that got an answer or an error; ``bundle`` is None where no model was found for it."""
        self._child(self._requests, _model(bundle), outcome).inc()
        if bundle is not None:
            self.call_seconds.observe(bundle.model_name, total_seconds)
            self.gate_seconds.observe(bundle.model_name, gate_seconds)

    def refused(self, bundle: ActiveBundle | None, reason: Reason) -> None:
        """Count an error that a client got instead of an answer."""
        self._refusals.labels(_model(bundle), reason).inc()

    def judged(self, model: str, events: Events) -> None:
        """Count what was seen in one answer."""
        for outcome, count in events.rows:
            self._child(self._rows, model, outcome).inc(count)
        for domain in events.in_domain:
            self._child(self._domain_rows, model, domain.property_id, domain.region).inc(domain.count)
        if events.bypassed is not None:
            self.bypassed(model, events.bypassed.reason)
        if events.fell_back is not None:
            self._fallbacks.labels(model, events.fell_back.reason).inc()
        for row in events.fired:
            if row.outcome is RowOutcome.CORRECTED and row.action is not None:
                self._child(self._corrections, model, row.action).inc()
            for violation in row.violations:
                where = violation.property_id, violation.mode, violation.region
                self._child(self._violations, model, *where).inc()
                if violation.is_breach:
                    self._breaches.labels(model, violation.property_id).inc()

    def bypassed(self, model: str, reason: Reason) -> None:
        """Count an answer that nobody could judge and that went to the client; ``model`` is one that settings name."""
        self._bypasses.labels(model, reason).inc()

    def open_models(self, models: Iterable[str]) -> None:
        """Note whose failure mode is open, also before there is a bundle."""
        for model in models:
            self._failure_mode_open.labels(model).set(1)
            for reason in _BYPASS_REASONS:
                self._bypasses.labels(model, reason)

    def _child(self, metric: Counter, *labels: str) -> Counter:
        """One series of a metric. Asked for with every request, and the library's own way to it takes its time."""
        key = (metric, labels)
        if key not in self._children:
            self._children[key] = metric.labels(*labels)
        child: Counter = self._children[key]
        return child

    def denied(self, rule: Rule) -> None:
        """Count a call of a method that is not let through."""
        self._denials.labels(rule).inc()

    def model_ready(self, model: str, ready: bool) -> None:
        """Note what the upstream says of a model."""
        self._model_ready.labels(model).set(ready)

    def certificate_expires(self, side: str, at: datetime.datetime) -> None:
        """Note when a certificate of ours ends."""
        self._certificate_end.labels(side).set(at.timestamp())
        self._certificate_failures.labels(side)

    def certificate_failed(self, side: str) -> None:
        """Count new TLS files that were not acceptable."""
        self._certificate_failures.labels(side).inc()

    def watch(self, load: Load) -> None:
        """Show what is in flight, whenever asked."""
        self._calls.set_function(lambda: load.calls)
        self._held.set_function(lambda: load.held_bytes)

    def watch_log(self, lost_records: Callable[[], int]) -> None:
        """Show how many log records are lost, whenever asked."""
        self._lost.count = lost_records

    def last_good_failing(self, failing: bool) -> None:
        """Note whether the last good bundles cannot be kept."""
        self._last_good_failing.set(failing)

    def carried_by(self, transport: str, version: str) -> None:
        """Note what carries the calls."""
        self._transport.labels(transport, version).set(1)

    def before_reading(self, bring: Callable[[], None]) -> None:
        """Have what is counted elsewhere brought here whenever it is read."""
        self._before_reading = bring

    # Several at once, counted elsewhere.

    def requests_finished(self, model: str, outcome: RequestOutcome, count: int) -> None:
        """Count requests, their durations aside."""
        self._child(self._requests, model, outcome).inc(count)

    def rows_judged(self, model: str, outcome: RowOutcome, count: int) -> None:
        """Count rows."""
        self._child(self._rows, model, outcome).inc(count)

    def rows_in_domain(self, model: str, property_id: str, region: str, count: int) -> None:
        """Count rows in a property's domain."""
        self._child(self._domain_rows, model, property_id, region).inc(count)

    def refused_many(self, reason: Reason, count: int) -> None:
        """Count errors for calls at which nobody looked whose they are."""
        self._refusals.labels(NO_MODEL, reason).inc(count)

    def native_handed_over(self, reason: str, count: int) -> None:
        """Count calls that were looked at natively and decided in Python."""
        self._native_handed_over.labels(reason).inc(count)

    def native_event(self, event: str, count: int) -> None:
        """Count what happened to connections and calls of the native transport."""
        self._native_events.labels(event).inc(count)

    def native_open_connections(self, count: int) -> None:
        """Note how many there are."""
        self._native_connections.set(count)

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, for tests and the demonstration; None where the series does not exist."""
        self._before_reading()
        families = self.registry.restricted_registry([name]).collect()
        samples = (sample for family in families for sample in family.samples)
        return next((each.value for each in samples if (each.name, each.labels) == (name, labels)), None)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        self._before_reading()
        return generate_latest(self.registry)


def _model(bundle: ActiveBundle | None) -> str:
    return NO_MODEL if bundle is None else bundle.model_name
