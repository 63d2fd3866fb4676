"""What /status says: which bundles are active since when, in which modes, why others are not, how the settings in
force stand to their file, and what keeps us from being ready.
"""

import datetime
import importlib.metadata
from collections.abc import Mapping

from sidecar.config import Probing
from sidecar.proxy.activation import ActivationState
from sidecar.proxy.first_seen import FirstSeen
from sidecar.proxy.live_settings import SettingsState
from sidecar.proxy.probe import Report
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.succession import Guard


def describe(
    state: ActivationState,
    readiness: Readiness,
    reports: Mapping[str, Report],
    upstream: str,
    first_seen: FirstSeen,
    settings: SettingsState | None = None,
) -> dict[str, object]:
    """The document, as JSON values.

    Args:
        state: the bundles.
        readiness: ours, and what the upstream says.
        reports: the last probes, by model.
        upstream: its address.
        first_seen: models without a bundle and versions without a proof, that requests were for.
        settings: how those in force stand to their file; None where there is none.
    """
    why = readiness.why
    return {
        "version": importlib.metadata.version("gate-sidecar"),
        "ready": not why,
        "why": list(why),
        "draining": readiness.draining,
        "upstream": upstream,
        "models": [
            {
                **_describe_guard(guard),
                "unproved_versions": list(first_seen.unproved_versions(name)),
                "upstream_ready": readiness.served(name),
                "probe": _describe_probe(guard, reports.get(name)),
            }
            for name, guard in sorted(state.guards.items())
        ],
        "models_settings_without_bundle": list(state.unused_models),
        "unguarded_models": list(first_seen.unguarded_models),
        "not_active": [
            {"place": failure.place, "reason": failure.reason, "message": failure.message, "since": _time(since)}
            for failure, since in sorted(state.failures.items(), key=lambda each: each[0].place)
        ],
        "settings": None if settings is None else _describe_settings(settings),
        "last_good_error": state.last_good_error,
        "looked_at": None if state.looked_at is None else _time(state.looked_at),
    }


def _describe_settings(settings: SettingsState) -> dict[str, object]:
    return {
        "file": str(settings.path),
        "changed_at": None if settings.changed_at is None else _time(settings.changed_at),
        "reason": settings.reason,
        "message": settings.message or None,
    }


def _time(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _describe_probe(guard: Guard, report: Report | None) -> dict[str, object]:
    bundle = guard.bundle
    if bundle.policy.probe is Probing.OFF or report is None or report.digest != bundle.digest:
        return {"policy": bundle.policy.probe, "result": None}
    return {
        "policy": bundle.policy.probe,
        "result": report.verdict.result,
        "detail": report.verdict.detail,
        "rows": report.verdict.rows,
        "at": _time(report.at),
        "last_match": None if report.matched_at is None else _time(report.matched_at),
    }


def _describe_guard(guard: Guard) -> dict[str, object]:
    bundle = guard.bundle
    manifest = bundle.bundle.manifest
    return {
        "model": bundle.model_name,
        "digest": bundle.digest,
        "revision": bundle.revision,
        "place": guard.place,
        "active_since": _time(guard.since),
        "signed_by": None if bundle.signed is None else bundle.signed.key,
        "signature_ends": None if bundle.signed is None or bundle.signed.end is None else _time(bundle.signed.end),
        "is_last_good": guard.is_last_good,
        "model_digest": manifest.model_digest,
        "arithmetic": manifest.arithmetic,
        "versions": list(manifest.versions),
        "outside": bundle.policy.outside,
        "failure_mode": bundle.policy.failure_mode,
        "on_upstream_failure": bundle.policy.on_upstream_failure,
        "properties": [
            {
                "id": gate.property_id,
                "title": record.trace.title,
                "severity": record.trace.severity,
                "action": gate.action,
                "mode": mode,
            }
            for gate, record, mode in zip(bundle.bundle.gates, manifest.properties, bundle.modes, strict=True)
        ],
    }
