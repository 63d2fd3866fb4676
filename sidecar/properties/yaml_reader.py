"""Property files in YAML: names, units and properties in a form that people write and review.

::

    model:                         # optional
      name: safe_distance          # the served model's name, optional
      batch_axis: 0                # 0, or none (the default): is the first dimension on the wire a batch?
    inputs:                        # every input of the model
      - tensor: features
        features:                  # one for each value of a row: in order, or each with an index
          - {name: gap, unit: m, range: [0, 150], wire: {scale: 1/150, offset: 0}}
          - {name: closing_speed, unit: m/s, range: [-20, 20], wire: {scale: 0.05}}
    outputs:
      - tensor: scores
        best: largest              # or smallest; needed where expressions speak about best
        classes: [BRAKE, HOLD, ACCELERATE]   # or {name: torque, unit: Nm, wire: {scale: 1/200}} for each
    properties:
      - id: brake_when_close
        title: Brakes when close   # title, hazard, rationale, owner, severity travel into bundle and report
        severity: critical         # critical (the default), warning, info
        when: gap <= 20 and closing_speed >= 5     # optional; without it everywhere in the declared ranges
        require: best == BRAKE
        action: fallback           # project (the default), fallback, refuse
        fallback: {BRAKE: 1, HOLD: 0, ACCELERATE: 0}  # one number for each output; with action fallback only
        margin: 0.001              # not negative, 0 by default
        norm: l2                   # l2 (the default), l1, linf
        mode: enforce              # enforce (the default), shadow, off

``when`` and ``require`` are expressions (:mod:`sidecar.properties.expressions` has the grammar,
:mod:`sidecar.properties.meaning` what they mean, ties included). Everything is in physical units, with
``wire = scale * physical + offset``; only the fallback is turned into wire values, rounded to the output's datatype
(of an integer datatype it must be a value itself).
``margin`` is in the units of a required inequality as it is written: with ``score(A) >= score(B)``, margin 0.1 aims at
a difference of 0.1 in physical units. Numbers are exact: decimals such as 0.1, or quotients such as 1/150.

A feature that ``when`` does not bound on some side takes that side from its range. ``<`` in ``when`` is read as
``<=``, which guards a little more than was asked for.
"""

import re
from fractions import Fraction
from pathlib import Path
from typing import Final

from sidecar.gates.values import Action, Mode, Norm, Region, Requirement
from sidecar.numerics import DEFAULT_MARGIN, round_to_datatype
from sidecar.properties.expressions import parse
from sidecar.properties.formulas import TRUE, Formula
from sidecar.properties.meaning import Purpose, meaning
from sidecar.properties.normal_form import MAX_LITERALS, conjuncts, requirement
from sidecar.properties.regions import EMPTY_DOMAIN, regions
from sidecar.properties.source import Complaint, decode, read_content, shown
from sidecar.properties.values import Property, PropertyFile, Severity, Traceability
from sidecar.properties.vocabulary import Vocabulary
from sidecar.properties.yaml_nodes import Value, compose
from sidecar.properties.yaml_vocabulary import read_vocabulary
from sidecar.tensors import INTEGER_RANGES, ModelSignature

MAX_FILE_BYTES: Final = 1 << 19
"""Size of a file; one with 3072 features takes about 200 kB."""

SUFFIXES: Final = (".yaml", ".yml")

MAX_NAME_CHARACTERS: Final = 128
"""Length of a property's id, and of a served model's name."""

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_NAME_CHARACTERS - 1}}}")

_TRACE = ("title", "hazard", "rationale", "owner")
_OPTIONAL = (*_TRACE, "severity", "when", "action", "fallback", "margin", "norm", "mode")


def read_yaml(path: Path, signature: ModelSignature) -> PropertyFile:
    """The properties of one YAML file.

    Args:
        path: the file.
        signature: the model's; the file must describe its inputs, and outputs that it has.

    Raises:
        InputError: unreadable, not understood, or not about this model; says where.
    """
    return properties_in(path, read_content(path, MAX_FILE_BYTES), signature)


def properties_in(path: Path, content: bytes, signature: ModelSignature) -> PropertyFile:
    """The properties in a file's content; else as :func:`read_yaml`."""
    sections = _sections(path, content)
    name, batch_axis = _model(sections.get("model"))
    vocabulary = read_vocabulary(sections["inputs"], sections["outputs"], signature)
    items = list(sections["properties"].items())
    if len(items) * signature.input_size > MAX_LITERALS:
        raise sections["properties"].error(f"{len(items)} properties of so many features; split the file")
    properties: dict[str, Property] = {}
    for item in items:
        found = _property(item, vocabulary, signature)
        if found.trace.property_id in properties:
            raise item.error(f"the id {shown(found.trace.property_id)} is taken already; give each property its own")
        properties[found.trace.property_id] = found
    return PropertyFile(path.name, content, name, batch_axis, tuple(properties.values()))


def vocabulary_of(origin: str, content: bytes, signature: ModelSignature) -> Vocabulary:
    """The names and units of a file's content, as a bundle keeps it. Raises InputError as :func:`read_yaml` does."""
    sections = _sections(Path(origin), content)
    return read_vocabulary(sections["inputs"], sections["outputs"], signature)


def _sections(path: Path, content: bytes) -> dict[str, Value]:
    return compose(decode(path, content)).fields(["inputs", "outputs", "properties"], ["model"])


def _model(section: Value | None) -> tuple[str | None, int | None]:
    """Served name and batch axis, where the file states them."""
    entry = {} if section is None else section.fields([], ["name", "batch_axis"])
    axis = entry["batch_axis"].scalar() if "batch_axis" in entry else "none"
    if axis not in ("0", "none"):
        raise entry["batch_axis"].error(f"expected 0 or none, got {shown(axis)}")
    return _served_name(entry["name"]) if "name" in entry else None, 0 if axis == "0" else None


def _served_name(value: Value) -> str:
    name = value.text()
    if not name or "\n" in name or "\t" in name or len(name) > MAX_NAME_CHARACTERS:
        raise value.error(f"expected a name on one line of at most {MAX_NAME_CHARACTERS} characters")
    return name


def _property(item: Value, vocabulary: Vocabulary, signature: ModelSignature) -> Property:
    entry = item.fields(["id", "require"], _OPTIONAL)
    action = entry["action"].choice(Action) if "action" in entry else Action.PROJECT
    return Property(
        trace=_trace(entry),
        domain=_domain(item, entry.get("when"), vocabulary),
        requirement=_requirement(entry["require"], vocabulary),
        action=action,
        margin=_margin(entry.get("margin")),
        norm=entry["norm"].choice(Norm) if "norm" in entry else Norm.L2,
        mode=entry["mode"].choice(Mode) if "mode" in entry else Mode.ENFORCE,
        fallback=_fallback(item, entry.get("fallback"), action, vocabulary, signature),
    )


def _trace(entry: dict[str, Value]) -> Traceability:
    name = entry["id"].scalar()
    if not _ID.fullmatch(name):
        raise entry["id"].error(
            f"{shown(name)} cannot be an id; use letters, digits and _ . -, at most {MAX_NAME_CHARACTERS} characters"
        )
    texts = {key: entry[key].text() for key in _TRACE if key in entry}
    severity = entry["severity"].choice(Severity) if "severity" in entry else Severity.CRITICAL
    return Traceability(name, severity=severity, **texts)


def _domain(item: Value, when: Value | None, vocabulary: Vocabulary) -> tuple[Region, ...]:
    formula = TRUE if when is None else _formula(when, vocabulary, Purpose.WHEN)
    place = item if when is None else when
    with place.source.at(place.index):
        found = regions(conjuncts(formula), vocabulary.features)
        if not found:
            raise Complaint(EMPTY_DOMAIN)
    return found


def _requirement(require: Value, vocabulary: Vocabulary) -> Requirement:
    formula = _formula(require, vocabulary, Purpose.REQUIRE)
    with require.source.at(require.index):
        return requirement(formula)


def _formula(value: Value, vocabulary: Vocabulary, purpose: Purpose) -> Formula:
    excerpt = value.excerpt()
    return meaning(parse(excerpt), excerpt, vocabulary, purpose)


def _margin(value: Value | None) -> Fraction:
    margin = DEFAULT_MARGIN if value is None else value.number()
    if value is not None and margin < 0:
        raise value.error("expected a number that is not negative")
    return margin


def _fallback(
    item: Value, value: Value | None, action: Action, vocabulary: Vocabulary, signature: ModelSignature
) -> tuple[Fraction, ...] | None:
    """The whole output row in wire values that the datatypes represent."""
    if (action is Action.FALLBACK) != (value is not None):
        example = ", ".join(f"{name}: 0" for name in [*vocabulary.scores][:3])
        instead = f"add fallback: {{{example}}}" if value is None else "add action: fallback, or drop the fallback"
        raise item.error(f"action: fallback and a fallback go together; {instead}")
    if value is None:
        return None
    if len(vocabulary.scores) != signature.output_size:
        raise value.error("a fallback replaces all outputs of the model; describe all of them under outputs")
    entry = value.fields(vocabulary.scores)
    row = [Fraction(0)] * signature.output_size
    datatypes = signature.output_datatypes()
    for name, score in vocabulary.scores.items():
        with entry[name].source.at(entry[name].index):
            wire = score.wire.to_wire(entry[name].number())
        datatype = datatypes[score.position]
        try:
            row[score.position] = Fraction(round_to_datatype(wire, datatype))
        except OverflowError:
            raise entry[name].error(f"beyond the range of {datatype}") from None
        if datatype in INTEGER_RANGES and row[score.position] != wire:
            raise entry[name].error(f"no value of {datatype}: write one that is a whole number on the wire")
    return tuple(row)
