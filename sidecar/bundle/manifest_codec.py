"""The manifest section: JSON that people can read in the file itself."""

import json
import re
from typing import Final

from sidecar.bundle.limits import (
    MAX_DIMENSIONS,
    MAX_GATES,
    MAX_MANIFEST_BYTES,
    MAX_OPTIONS,
    MAX_ROW_VALUES,
    MAX_TENSORS,
    MAX_VERSIONS,
)
from sidecar.bundle.strict_json import Node, parse
from sidecar.bundle.values import Arithmetic, Manifest, PropertyRecord
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.properties.values import Severity, Traceability
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

MAX_REVISION: Final = 2**63 - 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def encode_manifest(manifest: Manifest) -> bytes:
    """The section's payload."""
    # Lone surrogates are written as they are, for acceptance to refuse.
    text = json.dumps(manifest_document(manifest), indent=1, ensure_ascii=False)
    return (text + "\n").encode(errors="surrogatepass")


def manifest_document(manifest: Manifest) -> dict[str, object]:
    """The manifest as JSON values."""
    return {
        "name": manifest.name,
        "revision": manifest.revision,
        "model_digest": manifest.model_digest,
        "signature": {
            "batch_axis": manifest.signature.batch_axis,
            "inputs": [_tensor(spec) for spec in manifest.signature.inputs],
            "outputs": [_tensor(spec) for spec in manifest.signature.outputs],
        },
        "arithmetic": manifest.arithmetic,
        "properties": [_property(record) for record in manifest.properties],
        "compiler_version": manifest.compiler_version,
        "options": dict(manifest.options),
        # Left out where there are none: bundles from before it was thought of stay as they are.
        **({"versions": list(manifest.versions)} if manifest.versions else {}),
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "row_shape": list(spec.row_shape)}


def _property(record: PropertyRecord) -> dict[str, object]:
    trace = record.trace
    return {
        "id": trace.property_id,
        "title": trace.title,
        "hazard": trace.hazard,
        "rationale": trace.rationale,
        "owner": trace.owner,
        "severity": trace.severity,
        "mode": record.mode,
    }


def decode_manifest(payload: bytes) -> Manifest:
    """The manifest, every field checked by itself. Raises BUNDLE_MANIFEST."""
    document = parse(payload, "manifest", Reason.BUNDLE_MANIFEST, MAX_MANIFEST_BYTES)
    optional = ("versions",) if document.has("versions") else ()
    name, revision, model_digest, signature, arithmetic, properties, compiler_version, options, *rest = document.fields(
        "name",
        "revision",
        "model_digest",
        "signature",
        "arithmetic",
        "properties",
        "compiler_version",
        "options",
        *optional,
    )
    if not _SHA256.fullmatch(model_digest.name()):
        model_digest.refuse("a SHA-256 digest, 64 lower-case hex digits")
    return Manifest(
        name=name.name(),
        revision=revision.integer(1, MAX_REVISION),
        model_digest=model_digest.name(),
        signature=_read_signature(signature),
        arithmetic=arithmetic.choice(Arithmetic),
        properties=_read_properties(properties),
        compiler_version=compiler_version.name(),
        options=tuple((key, value.text()) for key, value in options.pairs(MAX_OPTIONS)),
        versions=_read_versions(rest[0]) if rest else (),
    )


def _read_versions(node: Node) -> tuple[str, ...]:
    versions = tuple(version.name() for version in node.elements(MAX_VERSIONS))
    if not versions or list(versions) != sorted(set(versions)):
        node.refuse("at least one version, ascending and distinct")
    return versions


def _read_signature(node: Node) -> ModelSignature:
    batch_axis, inputs, outputs = node.fields("batch_axis", "inputs", "outputs")
    axis = batch_axis.optional()
    try:
        return ModelSignature(
            inputs=_read_tensors(inputs),
            outputs=_read_tensors(outputs),
            batch_axis=None if axis is None else axis.integer(0, 0),
        )
    except ValueError as error:
        node.refuse(f"tensors that can be gated ({error})")


def _read_tensors(node: Node) -> tuple[TensorSpec, ...]:
    specs = tuple(_read_tensor(tensor) for tensor in node.elements(MAX_TENSORS))
    if sum(spec.row_size for spec in specs) > MAX_ROW_VALUES:
        node.refuse(f"at most {MAX_ROW_VALUES} values in a row")
    return specs


def _read_tensor(node: Node) -> TensorSpec:
    name, datatype, row_shape = node.fields("name", "datatype", "row_shape")
    dimensions = row_shape.elements(MAX_DIMENSIONS)
    return TensorSpec(
        name=name.name(),
        datatype=datatype.choice(Datatype),
        row_shape=tuple(dimension.integer(1, MAX_ROW_VALUES) for dimension in dimensions),
    )


def _read_properties(node: Node) -> tuple[PropertyRecord, ...]:
    records = tuple(_read_property(record) for record in node.elements(MAX_GATES))
    ids = [record.trace.property_id for record in records]
    if not ids or len(set(ids)) != len(ids):
        node.refuse("at least one property, ids distinct")
    return records


def _read_property(node: Node) -> PropertyRecord:
    property_id, title, hazard, rationale, owner, severity, mode = node.fields(
        "id", "title", "hazard", "rationale", "owner", "severity", "mode"
    )
    trace = Traceability(
        property_id=property_id.name(),
        title=title.text(),
        hazard=hazard.text(),
        rationale=rationale.text(),
        owner=owner.text(),
        severity=severity.choice(Severity),
    )
    return PropertyRecord(trace, mode.choice(Mode))
