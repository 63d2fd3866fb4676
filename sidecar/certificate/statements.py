"""What else must be true of a bundle: it is about this model and these properties, and its vectors are right."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sidecar.bundle.values import Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.certificate.bounds import Floats, Staged, enclose, lower_bound, output_rows
from sidecar.certificate.values import Certificate
from sidecar.errors import InputError, NegativeAnswer
from sidecar.gates.effective import effective_region
from sidecar.gates.values import Action, Gate
from sidecar.properties.reader import properties_in
from sidecar.properties.values import Property, PropertyFile
from sidecar.tensors import ModelSignature


def require_bound(certificate: Certificate, manifest: Manifest, bundle_digest: str, model_digest: str) -> None:
    """That bundle, certificate and model file are about one another."""
    _require_same("the certificate's bundle digest", certificate.bundle_digest, bundle_digest)
    _require_same("the certificate's model digest", certificate.model_digest, manifest.model_digest)
    _require_same("the model file's digest", model_digest, manifest.model_digest)
    _require_same("the certificate's arithmetic", certificate.arithmetic, manifest.arithmetic)


def property_files(bundle: Bundle, signature: ModelSignature) -> tuple[PropertyFile, ...]:
    """The embedded property files, read again. Raises NegativeAnswer where one is not understood."""
    return tuple(_read(source, signature) for source in bundle.sources)


def _read(source: PropertySource, signature: ModelSignature) -> PropertyFile:
    try:
        return properties_in(source.origin, source.content, signature)
    except InputError as error:
        raise NegativeAnswer(f"the embedded property file cannot be read: {error}") from error


def require_signature(manifest: Manifest, model: ModelSignature, files: Sequence[PropertyFile]) -> None:
    """That the tensors are the model's, with a batch axis in front where the model or a property file has one."""
    if any(file.batch_axis == 0 for file in files) and model.batch_axis is None:
        model = _batched(model)
    _require_same("the signature", manifest.signature, model)


def _batched(signature: ModelSignature) -> ModelSignature:
    """A model with a static first dimension of one, served with batches."""
    inputs, outputs = (
        tuple(dataclasses.replace(spec, row_shape=spec.row_shape[spec.row_shape[:1] == (1,) :]) for spec in specs)
        for specs in (signature.inputs, signature.outputs)
    )
    return ModelSignature(inputs, outputs, batch_axis=0)


def require_properties(bundle: Bundle, files: Sequence[PropertyFile]) -> None:
    """That each gate is its property's: domain (widened to the wire), requirement, margin, norm, fallback and action.

    An action in the bundle's options, as ``--action`` records it, stands for all properties' own.
    """
    stated = [each for file in files for each in file.properties]
    records = [PropertyRecord(each.trace, each.mode) for each in stated]
    _require_same("the number of properties", len(bundle.gates), len(stated))
    override = dict(bundle.manifest.options).get("action")
    for number, (gate, each) in enumerate(zip(bundle.gates, stated, strict=True)):
        where = f"property {each.trace.property_id!r}"
        _require_same(f"{where}: its record", bundle.manifest.properties[number], records[number])
        expected = _gate(each, bundle.manifest.signature, Action(override) if override else each.action)
        for field in dataclasses.fields(Gate):
            _require_same(f"{where}: {field.name}", getattr(gate, field.name), getattr(expected, field.name))


def _gate(stated: Property, signature: ModelSignature, action: Action) -> Gate:
    """What a property's gate must be; not asked of the compiler, whose gates are judged by it."""
    datatypes = signature.input_datatypes()
    return Gate(
        property_id=stated.trace.property_id,
        domain=tuple(effective_region(region, datatypes) for region in stated.domain),
        requirement=stated.requirement,
        action=action,
        margin=stated.margin,
        norm=stated.norm,
        fallback=stated.fallback if action is Action.FALLBACK else None,
    )


def require_vectors(bundle: Bundle, network: Staged) -> None:
    """That the self-test vectors' outputs can be the model's, and its answers lie between the bounds given there."""
    vectors = bundle.vectors
    lower, upper = answers_between(network, vectors.inputs)
    claimed, known = np.isfinite(vectors.lower), np.isfinite(lower) & np.isfinite(upper)
    wrong = claimed & ~((vectors.lower <= lower) & (upper <= vectors.upper))
    wrong |= known & ~((lower <= vectors.outputs) & (vectors.outputs <= upper))
    if wrong.any():
        row, output = np.argwhere(wrong)[0].tolist()
        raise NegativeAnswer(
            f"self-test vector {row}, output {output}: got {vectors.outputs[row, output]} within the bounds "
            f"[{vectors.lower[row, output]}, {vectors.upper[row, output]}], proved is [{lower[row, output]}, "
            f"{upper[row, output]}]; compile the bundle again"
        )


def answers_between(network: Staged, inputs: Floats) -> tuple[Floats, Floats]:
    """Bounds (row, output) of the answers to input rows; infinite or no number where nothing is known."""
    found = [_at(network, inputs[start : start + network.batch]) for start in range(0, len(inputs), network.batch)]
    return np.concatenate([lower for lower, _ in found]), np.concatenate([upper for _, upper in found])


def _at(network: Staged, points: Floats) -> tuple[Floats, Floats]:
    known, outputs = enclose(network, points, points), len(network.stages[-1].bias)
    box = np.repeat(np.arange(len(points)), outputs)
    one = np.tile(np.eye(outputs), (len(points), 1))
    lower, upper = lower_bound(known, output_rows(known, one), box), -lower_bound(known, output_rows(known, -one), box)
    return lower.reshape(len(points), outputs), upper.reshape(len(points), outputs)


def _require_same(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise NegativeAnswer(f"{what}: got {_shown(got)}, expected {_shown(expected)}")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int)) or value is None else str(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
