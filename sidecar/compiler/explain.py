"""One row explained for a person: `sidecar try`.

Runs the very functions that judge traffic, with every gate enforced, and says what they found and why.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label, label, prepare_coverage
from sidecar.bundle.naming import Named, Naming, naming_of
from sidecar.bundle.readable import literal_text, requirement_lines, value_text
from sidecar.bundle.values import Bundle
from sidecar.compiler.opaque import read_opaque_model
from sidecar.compiler.replay import answers
from sidecar.errors import InputError
from sidecar.gates.decide import Decisions, Outcome, decide
from sidecar.gates.exact import clause_holds, literal_holds
from sidecar.gates.membership import contains
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Gate, Mode, Region, Requirement
from sidecar.numerics import round_to_datatype
from sidecar.properties.rationals import decimal
from sidecar.properties.source import Complaint
from sidecar.properties.vocabulary import IDENTITY
from sidecar.tensors import INTEGER_RANGES, Datatype, TensorSpec

SHOWN_CHARACTERS: Final = 60
"""How much of a text that is no JSON a message repeats."""

_IN_WORDS = {
    Label.SILENT: "proved silent here: the verified model keeps it",
    Label.VIOLATING: "proved violating here: the verified model breaks it",
    Label.OPEN: "open here: neither is proved",
}

_Row: TypeAlias = npt.NDArray[np.float64]
"""float64 (value,), wire units."""


def explain(bundle: Bundle, input_text: str, model_path: Path | None, answer_text: str | None) -> str:
    """What the sidecar would make of one row.

    Args:
        bundle: accepted.
        input_text: JSON; features by name in physical units where the bundle's property file names them, else
            tensors by name in wire units, flattened.
        model_path: the model that answers; None where ``answer_text`` does, or nothing.
        answer_text: JSON, like ``input_text`` for the outputs.

    Raises:
        InputError: the JSON is not understood, values are missing, unknown or not finite, or the model has other
            tensors than the bundle guards.
    """
    signature = bundle.manifest.signature
    naming = naming_of(bundle)
    inputs = _row("--input", input_text, signature.inputs, naming.inputs, naming.origin)
    prepared = prepare(bundle.gates, signature)
    lines = ["input", *value_lines(inputs, naming.inputs)]
    outputs = None
    if answer_text is not None:
        outputs = _row("--answer", answer_text, signature.outputs, naming.outputs, naming.origin)
    elif model_path is not None:
        outputs, notes = _answered(bundle, model_path, inputs)
        lines += notes
    if outputs is None:
        contained = contains(prepared, inputs[np.newaxis])[0]
        lines += _verdicts(bundle, naming, inputs, contained)
        return "\n".join([*lines, "no answer to judge: give --model M.onnx or --answer JSON"])
    decisions = decide(prepared, [Mode.ENFORCE] * len(bundle.gates), inputs[np.newaxis], outputs[np.newaxis])
    lines += ["answer", *value_lines(outputs, naming.outputs)]
    lines += _verdicts(bundle, naming, inputs, decisions.contained[0], outputs, decisions.violated[0])
    return "\n".join([*lines, *_outcome(decisions, naming, outputs)])


def _answered(bundle: Bundle, model_path: Path, inputs: _Row) -> tuple[_Row, list[str]]:
    """The model's answer, and what is to be said about the model."""
    model = read_opaque_model(model_path)
    got, guarded = model.signature, bundle.manifest.signature
    if (got.input_size, got.output_size) != (guarded.input_size, guarded.output_size):
        raise InputError(
            f"{model_path}: takes {got.input_size} values and gives {got.output_size}; the bundle guards a model that"
            f" takes {guarded.input_size} and gives {guarded.output_size}; give the model that it was compiled from"
        )
    same = model.digest == bundle.manifest.model_digest
    notes = [] if same else [f"note: {model_path} is not the model that the bundle was compiled from"]
    return answers(model, inputs[np.newaxis])[0], notes


# -- reading a row ---------------------------------------------------------------------------------------------


def _row(option: str, text: str, specs: Sequence[TensorSpec], named: Sequence[Named], origin: str | None) -> _Row:
    """A row in wire values, from physical values by name or wire values by tensor."""
    example = _example(specs, named if origin else ())
    try:
        given = json.loads(text, parse_float=decimal, parse_int=decimal)
    except (ValueError, RecursionError) as error:
        got = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
        raise InputError(f"{option}: expected JSON such as {example}, got {got!r} ({error})") from None
    if not isinstance(given, dict):
        raise InputError(f"{option}: expected a JSON object such as {example}")
    if set(given) == {spec.name for spec in specs}:
        wire = [value for spec in specs for value in _flat(option, spec, given[spec.name])]
    elif set(given) == {entry.name for entry in named}:
        wire = [_on_the_wire(option, entry, _number(option, entry.name, given)) for entry in named]
    else:
        raise InputError(f"{option}: got {', '.join(given) or 'nothing'}; expected {example}")
    datatypes = [spec.datatype for spec in specs for _ in range(spec.row_size)]
    return np.array([_rounded(option, value, kind) for value, kind in zip(wire, datatypes, strict=True)])


def _example(specs: Sequence[TensorSpec], named: Sequence[Named]) -> str:
    by_tensor = ", ".join(f'"{spec.name}": [{spec.row_size} numbers]' for spec in specs)
    by_name = ", ".join(f'"{entry.name}": number' for entry in named[:8]) + (", ..." if len(named) > 8 else "")
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


def _on_the_wire(option: str, entry: Named, value: Fraction) -> Fraction:
    try:
        return entry.wire.to_wire(value)
    except Complaint as complaint:
        raise InputError(f"{option}: {entry.name!r}: {complaint}") from None


def _rounded(option: str, value: Fraction, datatype: Datatype) -> float:
    try:
        rounded = round_to_datatype(value, datatype)
    except OverflowError:
        raise InputError(f"{option}: {float(value):g} is beyond the range of {datatype}") from None
    if datatype in INTEGER_RANGES and rounded != value:
        raise InputError(f"{option}: {float(value):g} is no value of {datatype}; give a whole number on the wire")
    return rounded


# -- telling ---------------------------------------------------------------------------------------------------


def value_lines(row: _Row, named: Sequence[Named], before: _Row | None = None) -> list[str]:
    """A line for each value; with ``before``, what it was where it has changed."""
    names = max(len(entry.name) for entry in named)
    texts = [_text(entry, value) for entry, value in zip(named, row, strict=True)]
    width = max(map(len, texts))
    lines = []
    for number, (entry, text, value) in enumerate(zip(named, texts, row, strict=True)):
        notes = [] if entry.wire == IDENTITY else [f"wire {value:.9g}"]
        if before is not None and before[number] != value:
            notes.append(f"was {_text(entry, before[number])}")
        noted = f"({', '.join(notes)})" if notes else ""
        lines.append(f"  {entry.name:<{names}}  {text:<{width}}  {noted}".rstrip())
    return lines


def _text(entry: Named, wire: float) -> str:
    """Shown rounded without saying so each time: the wire value beside it says more."""
    return value_text(entry, Fraction(wire)).removeprefix("~") if np.isfinite(wire) else str(wire)


def _verdicts(
    bundle: Bundle,
    naming: Naming,
    inputs: _Row,
    contained: npt.NDArray[np.bool_],
    outputs: _Row | None = None,
    violated: npt.NDArray[np.bool_] | None = None,
) -> list[str]:
    """Property by property: whether it applies, whether it is kept, what is proved where the input lies."""
    prepared = prepare_coverage(bundle.gates, bundle.coverage, bundle.manifest.signature)
    lines = []
    for index, gate in enumerate(bundle.gates):
        head = f"property {gate.property_id}:"
        if not contained[index]:
            lines.append(f"{head} does not apply: {_why_outside(gate, naming, inputs)}")
            continue
        where = Label(int(label(prepared, index, inputs[np.newaxis])[0]))
        breaks = outputs is not None and violated is not None and bool(violated[index])
        verdict = "VIOLATED" if breaks else "applies" if outputs is None else "satisfied"
        lines.append(f"{head} {verdict}; {_IN_WORDS[where]}")
        if breaks and outputs is not None:
            lines += missed_lines(gate.requirement, naming, inputs, outputs)
        if breaks and where is Label.SILENT:
            lines.append("  a breach: the verified model cannot give this answer here, so another one did")
    return lines


def _why_outside(gate: Gate, naming: Naming, inputs: _Row) -> str:
    if len(gate.domain) > 1:
        return f"the input lies in none of the {len(gate.domain)} boxes of its domain"
    (region,) = gate.domain
    return _missed_bound(region, naming, inputs) or next(
        f"{literal_text(cut, naming)} does not hold" for cut in region.cuts if not literal_holds(cut, inputs, ())
    )


def _missed_bound(region: Region, naming: Naming, inputs: _Row) -> str | None:
    for named, low, value, high in zip(naming.inputs, region.box.lower, inputs, region.box.upper, strict=True):
        if not low <= Fraction(value) <= high:
            first, last = (value_text(named, end) for end in sorted((low, high), key=named.wire.to_physical))
            return f"{named.name} is {_text(named, value)}, not from {first} to {last}"
    return None


def missed_lines(requirement: Requirement, naming: Naming, inputs: _Row, outputs: _Row) -> list[str]:
    """The clauses that do not hold; of an answer that is not finite, none does."""
    finite = bool(np.isfinite(outputs).all())
    missed = tuple(each for each in requirement.clauses if not (finite and clause_holds(each, inputs, outputs)))
    first, *more = requirement_lines(Requirement(missed), naming)
    return [f"  required: {first}", *(f"            {line}" for line in more)]


def _outcome(decisions: Decisions, naming: Naming, outputs: _Row) -> list[str]:
    if not decisions.rows:
        return ["the client gets the answer as it is"]
    (decision,) = decisions.rows
    if decision.outcome is Outcome.REFUSED or decision.output is None:
        return [f"the client gets an error: {decision.reason}"]
    return [
        f"the client gets this instead ({decision.action})",
        *value_lines(decision.output, naming.outputs, before=outputs),
    ]
