"""One row explained for a person: `sidecar try`.

Runs the very functions that judge traffic, with every gate enforced, and says what they found and why.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label, label, prepare_coverage
from sidecar.bundle.readable import requirement_lines, value_names
from sidecar.bundle.values import Bundle
from sidecar.compiler.replay import answers
from sidecar.errors import InputError
from sidecar.gates.decide import Decisions, Outcome, decide
from sidecar.gates.membership import contains
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Mode
from sidecar.network.onnx_reader import read_model
from sidecar.numerics import round_to_datatype
from sidecar.properties.reader import vocabulary_of
from sidecar.properties.vocabulary import Feature, Score
from sidecar.tensors import Datatype, TensorSpec

_IN_WORDS = {
    Label.SILENT: "a region proved silent: the verified model cannot violate it here",
    Label.VIOLATING: "a region where the model is proved to violate it everywhere",
    Label.OPEN: "an open region: neither proved nor refuted",
}


def explain(bundle: Bundle, input_text: str, model_path: Path | None, answer_text: str | None) -> str:
    """What the sidecar would make of one row.

    Args:
        bundle: accepted.
        input_text: JSON; features by name in physical units where the bundle's property file names them, else
            tensors by name in wire units, flattened.
        model_path: the model that answers; None where ``answer_text`` does, or nothing.
        answer_text: JSON, like ``input_text`` for the outputs.

    Raises:
        InputError: the JSON is not understood, or values are missing, unknown or not finite.
    """
    signature = bundle.manifest.signature
    features, scores = _names(bundle)
    inputs = _row("--input", input_text, signature.inputs, features)
    prepared = prepare(bundle.gates, signature)
    lines = ["input", *_values(inputs, signature.inputs, features)]
    outputs = None
    if answer_text is not None:
        outputs = _row("--answer", answer_text, signature.outputs, scores)
    elif model_path is not None:
        model = read_model(model_path)
        outputs = answers(model, inputs[np.newaxis])[0]
        if model.digest != bundle.manifest.model_digest:
            lines.append(f"note: {model_path} is not the model that was verified")
    if outputs is None:
        contained = contains(prepared, inputs[np.newaxis])[0]
        return "\n".join(
            [*lines, *_coverage(bundle, inputs, contained, None), "no answer to judge: give --model or --answer"]
        )
    decisions = decide(prepared, [Mode.ENFORCE] * len(bundle.gates), inputs[np.newaxis], outputs[np.newaxis])
    lines += ["answer", *_values(outputs, signature.outputs, scores)]
    lines += _coverage(bundle, inputs, decisions.contained[0], decisions.violated[0])
    return "\n".join([*lines, *_outcome(bundle, decisions, scores)])


def _names(bundle: Bundle) -> tuple[Sequence[Feature], Sequence[Score]]:
    """Features and scores as the first property file with names calls them; both empty where none has."""
    for source in bundle.sources:
        vocabulary = vocabulary_of(source.origin, source.content, bundle.manifest.signature)
        if vocabulary is not None:
            return vocabulary.features, sorted(vocabulary.scores.values(), key=lambda score: score.position)
    return (), ()


def _row(
    option: str, text: str, specs: Sequence[TensorSpec], named: Sequence[Feature | Score]
) -> npt.NDArray[np.float64]:
    """A row in wire values, from physical values by name or wire values by tensor."""
    try:
        given = json.loads(text, parse_float=Fraction, parse_int=Fraction)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{option}: expected JSON such as {_example(specs, named)}, got {text!r} ({error})") from None
    if not isinstance(given, dict):
        raise InputError(f"{option}: expected a JSON object such as {_example(specs, named)}")
    if set(given) == {spec.name for spec in specs}:
        wire = [value for spec in specs for value in _flat(option, spec, given[spec.name])]
    elif named and set(given) == {entry.name for entry in named}:
        wire = [entry.wire.to_wire(_number(option, entry.name, given)) for entry in named]
    else:
        raise InputError(f"{option}: got {', '.join(given) or 'nothing'}; expected {_example(specs, named)}")
    datatypes = [spec.datatype for spec in specs for _ in range(spec.row_size)]
    return np.array([_rounded(option, value, kind) for value, kind in zip(wire, datatypes, strict=True)])


def _example(specs: Sequence[TensorSpec], named: Sequence[Feature | Score]) -> str:
    by_tensor = ", ".join(f'"{spec.name}": [{spec.row_size} numbers]' for spec in specs)
    by_name = ", ".join(f'"{entry.name}": number' for entry in named[:8])
    return f"{{{by_name}}} or {{{by_tensor}}}" if named else f"{{{by_tensor}}}"


def _flat(option: str, spec: TensorSpec, value: object) -> list[Fraction]:
    pending, flat = [value], []
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, Fraction):
            flat.append(item)
        else:
            raise InputError(f"{option}: tensor {spec.name!r} holds {item!r}; expected numbers")
    if len(flat) != spec.row_size:
        raise InputError(f"{option}: tensor {spec.name!r} has {len(flat)} values; one row has {spec.row_size}")
    return flat


def _number(option: str, name: str, given: Mapping[str, object]) -> Fraction:
    value = given[name]
    if not isinstance(value, Fraction):
        raise InputError(f"{option}: {name!r} is {value!r}; expected a number")
    return value


def _rounded(option: str, value: Fraction, datatype: Datatype) -> float:
    try:
        return round_to_datatype(value, datatype)
    except OverflowError:
        raise InputError(f"{option}: {float(value):g} is beyond the range of {datatype}") from None


def _values(row: npt.NDArray[np.float64], specs: Sequence[TensorSpec], named: Sequence[Feature | Score]) -> list[str]:
    if not named:
        return [f"  {name} = {value:.9g}" for name, value in zip(value_names(specs), row, strict=True)]
    width = max(len(entry.name) for entry in named)
    return [f"  {entry.name:<{width}} {_physical(entry, row[entry.position])}" for entry in named]


def _physical(entry: Feature | Score, wire: float) -> str:
    if not np.isfinite(wire):
        return str(wire)
    unit = entry.unit if isinstance(entry, Feature) else ""
    shown = f"{float(entry.wire.to_physical(Fraction(wire))):>12.6g} {unit}".rstrip()
    return shown if entry.wire.to_wire(Fraction(1)) == 1 and not entry.wire.offset else f"{shown}  (wire {wire:.9g})"


def _coverage(
    bundle: Bundle,
    inputs: npt.NDArray[np.float64],
    contained: npt.NDArray[np.bool_],
    violated: npt.NDArray[np.bool_] | None,
) -> list[str]:
    signature = bundle.manifest.signature
    prepared = prepare_coverage(bundle.gates, bundle.coverage, signature)
    lines = []
    for index, gate in enumerate(bundle.gates):
        if not contained[index]:
            lines.append(f"property {gate.property_id}: does not apply to this input")
            continue
        where = _IN_WORDS[Label(int(label(prepared, index, inputs[np.newaxis])[0]))]
        verdict = "applies" if violated is None else "VIOLATED" if violated[index] else "satisfied"
        lines.append(f"property {gate.property_id}: {verdict}; the input lies in {where}")
        if violated is not None and violated[index]:
            lines += [
                f"  requires {line}" if not n else f"           {line}"
                for n, line in enumerate(requirement_lines(gate.requirement, signature))
            ]
    return lines


def _outcome(bundle: Bundle, decisions: Decisions, scores: Sequence[Score]) -> list[str]:

    if not decisions.rows:
        return ["the client gets the answer as it is"]
    (decision,) = decisions.rows
    if decision.outcome is Outcome.REFUSED or decision.output is None:
        return [f"the client gets an error: {decision.reason}"]
    changed = f"{decision.action}, largest change {decision.largest_change:.6g} (wire units)"
    return [
        f"the client gets this instead ({changed})",
        *_values(decision.output, bundle.manifest.signature.outputs, scores),
    ]
