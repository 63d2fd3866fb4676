"""What is in force and since when, as metrics: the active bundles, their properties' modes, and the settings file.

What requests did is in :mod:`sidecar.proxy.metrics`, which holds this.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.active_bundle import ActiveBundle

_ACTIVATION_REASONS: Final = (*(reason for reason in Reason if reason.startswith("bundle_")), Reason.INTERNAL)
_SETTINGS_REASONS: Final = (*(reason for reason in Reason if reason.startswith("settings_")), Reason.INTERNAL)


class InForceMetrics:
    """The metrics of what is in force in one sidecar."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge("gate_bundle_info", "Active bundles.", ["model", "revision", "digest"], registry=registry)
        self._revision = Gauge("gate_bundle_revision", "Revision of the active bundle.", ["model"], registry=registry)
        self._activations = Counter(
            "gate_bundle_activations", "Bundles that became active.", ["model"], registry=registry
        )
        self._activated_at = Gauge(
            "gate_bundle_last_activation_timestamp_seconds",
            "When the active bundle became active, in Unix time.",
            ["model"],
            registry=registry,
        )
        self._activation_failures = Counter(
            "gate_bundle_activation_failures",
            "Bundles that were not activated, each counted once until it changes.",
            ["reason"],
            registry=registry,
        )
        self._failed_at = Gauge(
            "gate_bundle_last_failure_timestamp_seconds",
            "When a bundle was last not activated, in Unix time; 0 for never.",
            registry=registry,
        )
        self._failing = Gauge(
            "gate_bundle_failing_places",
            "Places whose latest bundle is not active; what was active before still is.",
            registry=registry,
        )
        self._looked_at = Gauge(
            "gate_bundle_last_look_timestamp_seconds",
            "When the bundles' places were last looked at, in Unix time.",
            registry=registry,
        )
        self._signature_end = Gauge(
            "gate_bundle_signature_expiry_timestamp_seconds",
            "When the signature of the active bundle ends, in Unix time; absent where it does not.",
            ["model"],
            registry=registry,
        )
        self._modes = Gauge(
            "gate_property_mode",
            "1 for the mode that a property of an active bundle is in, 0 for the others.",
            ["model", "property", "mode"],
            registry=registry,
        )
        self._settings_changes = Counter(
            "gate_settings_changes", "Changes of the settings file that took effect.", registry=registry
        )
        self._settings_failures = Counter(
            "gate_settings_failures",
            "Changes of the settings file that did not take effect, or not all of them.",
            ["reason"],
            registry=registry,
        )
        self._settings_failing = Gauge(
            "gate_settings_failing",
            "1 where the settings file is not what is in force: it cannot be used, or a restart is needed.",
            registry=registry,
        )
        for reason in _ACTIVATION_REASONS:
            self._activation_failures.labels(reason)
        for reason in _SETTINGS_REASONS:
            self._settings_failures.labels(reason)

    def bundle_activated(self, bundle: ActiveBundle, replaced: ActiveBundle | None) -> None:
        """Announce a bundle in place of another one."""
        model = bundle.model_name
        if replaced is not None:
            self._info.remove(model, str(replaced.revision), replaced.digest)
        self._activations.labels(model).inc()
        self._activated_at.labels(model).set_to_current_time()
        self._info.labels(model, bundle.revision, bundle.digest).set(1)
        self._revision.labels(model).set(bundle.revision)

    def bundle_failed(self, reason: Reason) -> None:
        """Count a bundle that was not activated."""
        self._activation_failures.labels(reason).inc()
        self._failed_at.set_to_current_time()

    def bundle_in_force(self, bundle: ActiveBundle, replaced: ActiveBundle | None = None) -> None:
        """Show the modes of a bundle and the end of its signature, in place of another one's."""
        if replaced is not None:
            self._forget_terms(replaced, {*bundle.property_ids})
        for property_id, in_force in zip(bundle.property_ids, bundle.modes, strict=True):
            for mode in Mode:
                self._modes.labels(bundle.model_name, property_id, mode).set(mode is in_force)
        if bundle.signed is not None and bundle.signed.end is not None:
            self._signature_end.labels(bundle.model_name).set(bundle.signed.end.timestamp())

    def _forget_terms(self, replaced: ActiveBundle, kept: set[str]) -> None:
        for property_id in {*replaced.property_ids} - kept:
            for mode in Mode:
                self._modes.remove(replaced.model_name, property_id, mode)
        if replaced.signed is not None and replaced.signed.end is not None:
            self._signature_end.remove(replaced.model_name)

    def bundles_looked_at(self, failing_places: int) -> None:
        """Note a look at the places, and at how many of them the latest bundle is not active."""
        self._failing.set(failing_places)
        self._looked_at.set_to_current_time()

    def settings_changed(self) -> None:
        """Count a change of the settings file that took effect."""
        self._settings_changes.inc()

    def settings_failed(self, reason: Reason) -> None:
        """Count one that did not."""
        self._settings_failures.labels(reason).inc()

    def settings_failing(self, failing: bool) -> None:
        """Note whether the settings file is not what is in force."""
        self._settings_failing.set(failing)
