"""What /status says: which bundles are active since when, in which modes, and what keeps us from being ready."""

import datetime
import importlib.metadata

from sidecar.proxy.active_bundle import ActiveBundle, Registry
from sidecar.proxy.readiness import Readiness


def describe(
    registry: Registry, readiness: Readiness, upstream: str, active_since: datetime.datetime
) -> dict[str, object]:
    """The document, as JSON values."""
    why = readiness.why
    return {
        "version": importlib.metadata.version("gate-sidecar"),
        "ready": not why,
        "why": list(why),
        "draining": readiness.draining,
        "upstream": upstream,
        "active_since": active_since.isoformat(timespec="seconds"),
        "models": [
            {**_describe_bundle(bundle), "upstream_ready": readiness.model_ready(name)}
            for name, bundle in sorted(registry.current.bundles.items())
        ],
    }


def _describe_bundle(bundle: ActiveBundle) -> dict[str, object]:
    manifest = bundle.bundle.manifest
    return {
        "model": bundle.model_name,
        "digest": bundle.digest,
        "revision": bundle.revision,
        "model_digest": manifest.model_digest,
        "arithmetic": manifest.arithmetic,
        "outside": bundle.outside,
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
