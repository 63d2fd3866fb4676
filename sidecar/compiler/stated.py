"""What property files state, made fit for a model: its batch axis and name, gates, and what must hold in a region."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from sidecar.errors import InputError
from sidecar.gates.effective import effective_region
from sidecar.gates.movable import held_tensors
from sidecar.gates.values import Action, Gate, Region, Requirement
from sidecar.network.values import AnyModel, OpaqueModel
from sidecar.properties.values import Property, PropertyFile
from sidecar.tensors import ModelSignature

ModelT = TypeVar("ModelT", bound=AnyModel)


def with_batch_axis(model: ModelT, files: Sequence[PropertyFile]) -> ModelT:
    """The model, its signature read with the batch axis that the property files declare.

    A file that declares batch axis 0 for a model with a static first dimension of 1 says that the served
    model takes batches along it.

    Raises:
        InputError: the first dimension is static and not 1.
    """
    signature = model.signature
    if signature.batch_axis == 0 or all(file.batch_axis is None for file in files):
        return model
    for spec in (*signature.inputs, *signature.outputs):
        if len(spec.row_shape) < 2 or spec.row_shape[0] != 1:
            raise InputError(
                f"the properties declare batch_axis 0, but tensor {spec.name!r} has the static shape {spec.row_shape}: "
                "expected a first dimension of 1 or a symbolic one; drop batch_axis or export the model with a batch"
            )
    batched = ModelSignature(
        inputs=tuple(dataclasses.replace(spec, row_shape=spec.row_shape[1:]) for spec in signature.inputs),
        outputs=tuple(dataclasses.replace(spec, row_shape=spec.row_shape[1:]) for spec in signature.outputs),
        batch_axis=0,
    )
    if isinstance(model, OpaqueModel):
        return dataclasses.replace(model, signature=batched)
    return dataclasses.replace(model, network=dataclasses.replace(model.network, signature=batched))


def served_name(model: AnyModel, files: Sequence[PropertyFile], override: str | None) -> str:
    """The name under which the model is served: the override, the files' common name, or the ONNX file's stem.

    Raises:
        InputError: the files name different models.
    """
    names = {file.model_name for file in files if file.model_name is not None}
    if len(names) > 1:
        raise InputError(
            f"the property files name different models: {', '.join(sorted(names))}; "
            "a bundle guards one model, so compile one bundle for each"
        )
    return override or next(iter(names), model.name)


def distinct(properties: list[Property]) -> list[Property]:
    """The same properties.

    Raises:
        InputError: two of them have one id.
    """
    seen: set[str] = set()
    for stated in properties:
        if stated.trace.property_id in seen:
            raise InputError(
                f"property {stated.trace.property_id!r} is stated twice: give each property an id of its own"
            )
        seen.add(stated.trace.property_id)
    return properties


def gate_of(stated: Property, override: Action | None, signature: ModelSignature) -> Gate:
    """The property's gate on the wire. Raises InputError where its action moves integers."""
    datatypes = signature.input_datatypes()
    action = override or stated.action
    gate = Gate(
        property_id=stated.trace.property_id,
        domain=tuple(effective_region(region, datatypes) for region in stated.domain),
        requirement=stated.requirement,
        action=action,
        margin=stated.margin,
        norm=stated.norm,
        fallback=stated.fallback if action is Action.FALLBACK else None,
    )
    if action is Action.PROJECT and (held := held_tensors(gate, signature)):
        raise InputError(
            f"property {gate.property_id!r} has action project (the default) and speaks about {', '.join(held)}: only "
            "floating-point outputs are projected, since the nearest integer is another answer; give the property "
            "action fallback with the values to send instead, or action refuse (--action refuse for all)"
        )
    return gate


def in_box(requirement: Requirement, region: Region) -> Requirement:
    """What a gate requires on the whole of a region's box: the requirement, or to lie outside the cuts.

    So a silent leaf may be one that the cuts take away, and a violating one lies within them.
    """
    outside = tuple(cut.negated() for cut in region.cuts)
    return Requirement(tuple((*clause, *outside) for clause in requirement.clauses))
