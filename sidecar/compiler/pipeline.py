"""Journey one: a model and its properties become a gate bundle.

gates -> jointly satisfiable? -> search every region -> hints for the checker -> replay counterexamples -> vectors, with
certified answers -> encode -> accept -> self-test -> check. The last three are the sidecar's and the auditor's own:
what leaves here has been accepted as it will be activated, and proved as it will be checked.
"""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from sidecar.bundle.acceptance import accept
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import CoverageTree
from sidecar.bundle.naming import naming_in
from sidecar.bundle.self_test import expected_decisions, self_test
from sidecar.bundle.values import WITHOUT_PROOF, Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.compiler.certified_answers import certified_answers, require_within
from sidecar.compiler.certify import ProofStatus, Provable, certificate_of, nothing_to_prove, provable, widened
from sidecar.compiler.consistency import require_joint_satisfiability
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.region_searches import (
    SearchStatus,
    interrupted,
    limits_record,
    search_key,
    search_regions,
    states_of,
    unsearched,
)
from sidecar.compiler.replay import answers
from sidecar.compiler.rounding import declared_arithmetic
from sidecar.compiler.search import Partition
from sidecar.compiler.search_state import Interrupted
from sidecar.compiler.stated import distinct, gate_of, served_name
from sidecar.compiler.vectors import vector_inputs
from sidecar.errors import InputError
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Gate
from sidecar.network.dense import checkable
from sidecar.network.values import AnyModel, Model, Network, OpaqueModel
from sidecar.properties.values import PropertyFile
from sidecar.tensors import Rows

_NOTHING_PROVED = (
    "compiled without proof: every region is open, and no violation can be told to be a breach. Every answer is"
    " checked and corrected all the same"
)


_NOT_CHECKABLE = (
    "the checker follows dense layers, convolutions, average pools and ReLUs, one after the other and up to a size, and"
    " this model is of another kind: nothing is claimed of it that the checker could not establish (--no-certificate"
    " claims what the search proves, with nobody to check it)"
)


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
    gates = tuple(gate_of(stated, options.action, signature) for stated in properties)
    sources = tuple(PropertySource(file.origin, file.source) for file in files)
    notes = require_joint_satisfiability(gates, signature, naming_in(sources, signature))
    arithmetic = declared_arithmetic(signature, options.arithmetic)
    key = search_key(model, gates, arithmetic, options)
    if isinstance(model, OpaqueModel):
        partitions = unsearched(gates, signature)
        notes = (*notes, *unchecked, _NOTHING_PROVED)
    else:
        partitions = search_regions(model, gates, arithmetic, options, progress, states_of(start, key))
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
            *(WITHOUT_PROOF if isinstance(model, OpaqueModel) else limits_record(options, partitions)),
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
    stopped = interrupted(partitions, key)
    return CompiledBundle(content, certificate, accepted, counterexamples, notes, stopped)


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


def _action(options: CompileOptions) -> tuple[tuple[str, str], ...]:
    """What stands for the properties' own actions, where something does."""
    return () if options.action is None else (("action", options.action),)


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
