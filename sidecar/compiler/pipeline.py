"""Journey one: a model and its properties become a gate bundle.

gates -> jointly satisfiable? -> search every region -> hints for the checker -> replay counterexamples -> vectors, with
certified answers -> encode -> accept -> self-test -> check. The last three are the sidecar's and the auditor's own:
what leaves here has been accepted as it will be activated, and proved as it will be checked.
"""

import dataclasses
import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from sidecar.bundle.acceptance import accept
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import CoverageTree
from sidecar.bundle.gate_codec import encode_gates
from sidecar.bundle.naming import naming_in
from sidecar.bundle.self_test import expected_decisions, self_test
from sidecar.bundle.values import WITHOUT_PROOF, Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.compiler.certified_answers import certified_answers, require_within
from sidecar.compiler.certify import ProofStatus, Provable, certificate_of, nothing_to_prove, provable, widened
from sidecar.compiler.compiled import kernels_digest, load_kernels
from sidecar.compiler.consistency import require_joint_satisfiability
from sidecar.compiler.graph_search import partition_graph
from sidecar.compiler.progress import Progress
from sidecar.compiler.replay import answers
from sidecar.compiler.rounding import declared_arithmetic
from sidecar.compiler.search import Partition, SearchLimits, StopReason, partition
from sidecar.compiler.search_state import Interrupted, SearchState
from sidecar.compiler.split_tree import SplitTree
from sidecar.compiler.vectors import vector_inputs
from sidecar.errors import InputError
from sidecar.gates.effective import effective_region
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.movable import held_tensors
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Gate, Region, Requirement
from sidecar.network.dense import checkable
from sidecar.network.graph import Graph
from sidecar.network.values import AnyModel, Model, Network, OpaqueModel
from sidecar.properties.values import Property, PropertyFile
from sidecar.tensors import ModelSignature, Rows

_NOTHING_PROVED = (
    "compiled without proof: every region is open, and no violation can be told to be a breach. Every answer is"
    " checked and corrected all the same"
)


_NOT_CHECKABLE = (
    "the checker follows dense layers, convolutions, average pools and ReLUs, one after the other and up to a size, and"
    " this model is of another kind: nothing is claimed of it that the checker could not establish (--no-certificate"
    " claims what the search proves, with nobody to check it)"
)


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """What the person who compiles decides.

    Args:
        name: the served model's name; None takes the property file's, then the ONNX file's stem.
        revision: of the bundle, >= 1.
        action: overrides every property's action; not ``fallback``, which needs values. None keeps them.
        time_limit_seconds: for all searches together; None for no limit.
        max_regions: boxes bounded at most, per search in order (one number serves all); None for no limit.
        minimum_volume: share of a region's box below which an undecided leaf stays open.
        model_versions: of the served model, that are this one; none makes no distinction.
        certify: make a certificate, and leave open what cannot be proved with it.
        workers: processes that find its hints, and check it.
        resumable: keep where searches are that the time limit stops.
        arithmetic: of the served model; None takes the IEEE arithmetic of its tensors' datatype.
    """

    name: str | None = None
    revision: int = 1
    action: Action | None = None
    time_limit_seconds: float | None = 60.0
    max_regions: tuple[int, ...] | None = None
    minimum_volume: float = 1e-6
    model_versions: tuple[str, ...] = ()
    certify: bool = True
    workers: int = 1
    resumable: bool = False
    arithmetic: Arithmetic | None = None


@dataclasses.dataclass(frozen=True)
class SearchStatus:
    """Progress of one search among all.

    Args:
        property_id, region: which search; regions of a domain count from 0.
        number, total: its place among all searches, from 1.
        progress: how far it is.
    """

    property_id: str
    region: int
    number: int
    total: int
    progress: Progress


ModelT = TypeVar("ModelT", bound=AnyModel)
Status: TypeAlias = SearchStatus | ProofStatus


@dataclasses.dataclass(frozen=True, eq=False)
class CompiledBundle:
    """What compiling gave.

    Args:
        content: the bundle's bytes.
        certificate: its certificate's bytes, checked; None where none was asked for.
        bundle: what they say.
        counterexamples: per gate, wire inputs on which onnxruntime's answer violates the requirement.
        notes: remarks that a person should read, e.g. overlaps in which every answer will be refused.
        interrupted: to go on from, if it was to be kept and the time limit stopped a search.
    """

    content: bytes
    certificate: bytes | None
    bundle: Bundle
    counterexamples: tuple[Rows, ...]
    notes: tuple[str, ...]
    interrupted: Interrupted | None


def compile_bundle(
    model: AnyModel,
    files: Sequence[PropertyFile],
    options: CompileOptions,
    progress: Callable[[Status], None],
    start: Interrupted | None = None,
) -> CompiledBundle:
    """Verify, synthesise and seal.

    Args:
        model: with the signature that :func:`with_batch_axis` gives. Of an opaque one nothing is proved.
        files: at least one; property ids distinct over all of them.
        options: see :class:`CompileOptions`.
        progress: called a few times a second while a search runs.
        start: where a compilation of the same was stopped; the result is that of one that never was.

    Raises:
        InputError: property ids clash, the files name different models, the model gives no finite answer, or another
            compilation was stopped.
        NegativeAnswer: properties contradict each other, or cannot be proved jointly satisfiable.
    """
    model, unchecked = _checkable(model, options)
    signature = model.signature
    properties = distinct([stated for file in files for stated in file.properties])
    gates = tuple(_gate(stated, options.action, signature) for stated in properties)
    sources = tuple(PropertySource(file.origin, file.source) for file in files)
    notes = require_joint_satisfiability(gates, signature, naming_in(sources, signature))
    if isinstance(model, OpaqueModel):
        partitions = _unsearched(gates, signature)
        notes = (*notes, *unchecked, _NOTHING_PROVED)
    else:
        partitions = _search(model, gates, options, progress, _states(start, _key(model, gates, options)))
    arithmetic = declared_arithmetic(signature, options.arithmetic)
    found = _provable(model, arithmetic, gates, partitions, options.workers, progress) if options.certify else None
    coverage = _merged(partitions) if found is None else found.coverage
    notes = (*notes, *(found.notes if found else ()))
    counterexamples = _replayed(model, gates, partitions)
    inputs, outputs = _answered(model, vector_inputs(gates, counterexamples, signature.input_datatypes()))
    if not len(inputs):
        raise InputError(
            "the model answers NaN or infinity to every input tried in the properties' domains: expected some finite "
            "answers; see whether the model, and the units of the domains, are the intended ones"
        )
    lower, upper = _certified(model, arithmetic, inputs, outputs, options.certify)
    manifest = Manifest(
        name=served_name(model, files, options.name),
        revision=options.revision,
        model_digest=model.digest,
        signature=signature,
        arithmetic=arithmetic,
        properties=tuple(PropertyRecord(stated.trace, stated.mode) for stated in properties),
        compiler_version=importlib.metadata.version("gate-sidecar"),
        options=(
            *(WITHOUT_PROOF if isinstance(model, OpaqueModel) else _limits(options, partitions)),
            *_action(options),
        ),
        versions=tuple(sorted(set(options.model_versions))),
    )
    bundle = Bundle(
        manifest=manifest,
        gates=gates,
        coverage=coverage,
        vectors=expected_decisions(gates, signature, inputs, outputs, lower, upper),
        sources=sources,
    )
    content = encode(bundle)
    accepted = accept(content)
    self_test(accepted, prepare(accepted.gates, accepted.manifest.signature))
    certificate = None if found is None else certificate_of(content, accepted, model, found, options.workers, progress)
    interrupted = _interrupted(partitions, _key(model, gates, options))
    return CompiledBundle(content, certificate, accepted, counterexamples, notes, interrupted)


def _key(model: AnyModel, gates: Sequence[Gate], options: CompileOptions) -> str:
    """Of all that decides how the searches go on, but for how long they may."""
    version = importlib.metadata.version("gate-sidecar"), kernels_digest()
    arithmetic = declared_arithmetic(model.signature, options.arithmetic)
    decides = model.digest, encode_gates(gates), options.minimum_volume, options.max_regions, arithmetic.value, version
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def _states(start: Interrupted | None, key: str) -> Sequence[SearchState] | None:
    if start is not None and start.key != key:
        raise InputError(
            f"what was stopped was another compilation (key {start.key}, expected {key}): it goes on with the same "
            "model, properties, --max-regions, --minimum-volume, --arithmetic and release only; remove its file to "
            "begin anew"
        )
    return None if start is None else start.searches


def _interrupted(partitions: Sequence[Sequence[Partition]], key: str) -> Interrupted | None:
    found = [each for of_gate in partitions for each in of_gate]
    states = tuple(each.state for each in found if each.state is not None)
    stopped = any(each.stopped_by is StopReason.TIME_LIMIT for each in found)
    return Interrupted(key, states) if stopped and states else None


def _checkable(model: AnyModel, options: CompileOptions) -> tuple[AnyModel, tuple[str, ...]]:
    """The model, opaque where a certificate is wanted that the checker could not follow; and why."""
    if isinstance(model, OpaqueModel) or not options.certify or checkable(model.network) is not None:
        return model, ()
    return OpaqueModel(model.name, model.digest, model.content, model.signature), (_NOT_CHECKABLE,)


def _merged(partitions: Sequence[Sequence[Partition]]) -> tuple[tuple[CoverageTree, ...], ...]:
    return tuple(tuple(found.tree for found in of_gate) for of_gate in partitions)


def _provable(
    model: AnyModel,
    arithmetic: Arithmetic,
    gates: Sequence[Gate],
    partitions: Sequence[Sequence[Partition]],
    workers: int,
    progress: Callable[[Status], None],
) -> Provable:
    """Coverage that the checker can prove too."""
    if isinstance(model, OpaqueModel):
        return nothing_to_prove(_merged(partitions))
    unmerged = [
        [dataclasses.replace(found.unmerged, volume=found.tree.volume) for found in of_gate] for of_gate in partitions
    ]
    return provable(_written_out(model), arithmetic, gates, unmerged, workers, progress)


def _certified(
    model: AnyModel, arithmetic: Arithmetic, inputs: Rows, outputs: Rows, certify: bool
) -> tuple[Rows, Rows]:
    """Between which values the answers must lie; infinite where nothing is proved."""
    if isinstance(model, OpaqueModel):
        return np.full_like(outputs, -np.inf), np.full_like(outputs, np.inf)
    lower, upper = certified_answers(model.network, arithmetic, inputs)
    if certify:
        lower, upper = widened(_written_out(model), arithmetic, inputs, lower, upper)
    require_within(lower, outputs, upper)
    return lower, upper


def _written_out(model: Model) -> Network:
    """What the checker will be given; there is such, for else the model counts as opaque."""
    network = checkable(model.network)
    if network is None:
        raise ValueError(f"{model.name} cannot be checked")
    return network


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


def _gate(stated: Property, override: Action | None, signature: ModelSignature) -> Gate:
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


def _search(
    model: Model,
    gates: Sequence[Gate],
    options: CompileOptions,
    progress: Callable[[SearchStatus], None],
    states: Sequence[SearchState] | None,
) -> list[list[Partition]]:
    """One search per region of every gate; each gets an equal share of the time that is left."""
    total = sum(len(gate.domain) for gate in gates)
    limits_by_search = _regions_by_search(options, total)
    if isinstance(model.network, Network):
        load_kernels()
    deadline = None if options.time_limit_seconds is None else time.monotonic() + options.time_limit_seconds
    partitions: list[list[Partition]] = []
    number = 0
    for gate in gates:
        partitions.append([])
        for index, region in enumerate(gate.domain):
            number += 1

            def report(state: Progress, gate: Gate = gate, index: int = index, number: int = number) -> None:
                progress(SearchStatus(gate.property_id, index, number, total, state))

            share = None if deadline is None else max(0.0, deadline - time.monotonic()) / (total - number + 1)
            limits = SearchLimits(share, limits_by_search[number - 1], options.minimum_volume)
            arithmetic = declared_arithmetic(model.network.signature, options.arithmetic)
            start, network = None if states is None else states[number - 1], model.network
            about = region.box, in_box(gate.requirement, region), arithmetic, limits, report
            if isinstance(network, Graph):
                partitions[-1].append(partition_graph(network, *about))
            else:
                partitions[-1].append(partition(network, *about, start=start, keep_state=options.resumable))
    return partitions


def _unsearched(gates: Sequence[Gate], signature: ModelSignature) -> list[list[Partition]]:
    """Every region open."""
    nothing = np.empty((0, signature.input_size))
    whole = SplitTree().finished()
    return [[Partition(whole, whole, 0, nothing, StopReason.OPAQUE) for _ in gate.domain] for gate in gates]


def in_box(requirement: Requirement, region: Region) -> Requirement:
    """What a gate requires on the whole of a region's box: the requirement, or to lie outside the cuts.

    So a silent leaf may be one that the cuts take away, and a violating one lies within them.
    """
    outside = tuple(cut.negated() for cut in region.cuts)
    return Requirement(tuple((*clause, *outside) for clause in requirement.clauses))


def _regions_by_search(options: CompileOptions, total: int) -> list[int | None]:
    if options.max_regions is None:
        return [None] * total
    if len(options.max_regions) == 1:
        return [options.max_regions[0]] * total
    if len(options.max_regions) != total:
        raise InputError(f"--max-regions lists {len(options.max_regions)} numbers, but there are {total} searches")
    return list(options.max_regions)


def _action(options: CompileOptions) -> tuple[tuple[str, str], ...]:
    """What stands for the properties' own actions, where something does."""
    return () if options.action is None else (("action", options.action),)


def _limits(options: CompileOptions, partitions: Sequence[Sequence[Partition]]) -> tuple[tuple[str, str], ...]:
    """What determined the result. The time limit is not among it: the region counts that it led to are."""
    regions = [str(found.regions) for of_gate in partitions for found in of_gate]
    return (("max-regions", ",".join(regions)), ("minimum-volume", repr(options.minimum_volume)))


def _answered(model: AnyModel, inputs: Rows) -> tuple[Rows, Rows]:
    """The inputs with a finite answer, and the answers; a bundle's vectors hold finite values only."""
    outputs = answers(model, inputs)
    finite = np.isfinite(outputs).all(axis=1)
    return inputs[finite], outputs[finite]


def _replayed(model: AnyModel, gates: Sequence[Gate], partitions: Sequence[Sequence[Partition]]) -> tuple[Rows, ...]:
    """Per gate, the counterexamples that onnxruntime's answer confirms, judged exactly."""
    confirmed = []
    for gate, of_gate in zip(gates, partitions, strict=True):
        inputs, outputs = _answered(model, np.concatenate([found.counterexamples for found in of_gate]))
        violates = [
            any(region_contains(region, x) for region in gate.domain) and not requirement_holds(gate.requirement, x, y)
            for x, y in zip(inputs, outputs, strict=True)
        ]
        confirmed.append(inputs[np.array(violates, dtype=np.bool_)])
    return tuple(confirmed)
