"""What is in a bundle: :func:`render` for people, :func:`describe` for programs."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.acceptance import digest
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.expiry import moment_text
from sidecar.bundle.gate_codec import gate_document
from sidecar.bundle.manifest_codec import manifest_document
from sidecar.bundle.naming import Naming, naming_of
from sidecar.bundle.readable import number_text, region_lines, requirement_lines, share_text, value_text
from sidecar.bundle.signature import SignedBy
from sidecar.bundle.values import FORMAT_VERSION, Bundle, Manifest, PropertyRecord, SelfTestVectors
from sidecar.gates.values import Action, Gate
from sidecar.tensors import TensorSpec

SHOWN_LINES: Final = 24
"""Lines of one domain or requirement that are printed; ``describe`` has all of them."""

WRAPPED_CHARACTERS: Final = 80
"""Line length of titles and rationales; with their names before them they fit a screen of 100."""

_LABELS: Final = (Label.SILENT, Label.VIOLATING, Label.OPEN)

_NOT_VERIFIED: Final = "not verified here; sidecar serve --trust does"

_LEGEND: Final = """\
What is proved (shares of the volume of a domain's box)
  silent     No input there makes the verified model violate the property: not in real arithmetic,
             and not in {arithmetic}.
             Conditions that stand below a box's bounds take a part of it out of the domain; that
             part counts as silent.
  violating  Every input there makes the verified model violate the property.
  open       Neither is proved. A longer --time-limit may settle more.
At run time every answer to an input in a domain is checked exactly, whatever is proved there: in
any region a violation is corrected or refused. In a silent one it is also counted as a breach, for
then the served model is not the verified one, or computes otherwise."""


def describe(bundle: Bundle, signed: SignedBy | None = None) -> dict[str, object]:
    """Everything but vectors and trees, as JSON values; rational numbers as text ``p/q``.

    ``signed`` is what the file's signature says, unverified; None where there is no signature.
    """
    content = encode(bundle)
    return {
        "format_version": FORMAT_VERSION,
        "digest": digest(content),
        "bytes": len(content),
        "signed_by": None if signed is None else signed.key,
        "signature_ends": None if signed is None or signed.end is None else signed.end.isoformat(),
        "manifest": manifest_document(bundle.manifest),
        "gates": [
            gate_document(gate) | {"coverage": [_coverage_document(tree) for tree in trees]}
            for gate, trees in zip(bundle.gates, bundle.coverage, strict=True)
        ],
        "vectors": {
            "rows": len(bundle.vectors.inputs),
            "fired": int(bundle.vectors.fired.any(axis=1).sum()),
            "certified": int(bundle.vectors.certified.sum()),
            "widest": widest_bounds(bundle.vectors),
        },
        "sources": [{"origin": source.origin, "bytes": len(source.content)} for source in bundle.sources],
    }


def _coverage_document(tree: CoverageTree) -> dict[str, object]:
    volumes: dict[str, object] = {label.name.lower(): float(tree.volume[label]) for label in _LABELS}
    return volumes | {"leaves": _leaves(tree)}


def _leaves(tree: CoverageTree) -> int:
    return int((tree.feature == LEAF).sum())


def render(bundle: Bundle, signed: SignedBy | None = None) -> str:
    """The same for people, one fact per line."""
    blocks = [_table(head_facts(bundle, signed))]
    for record, facts in zip(bundle.manifest.properties, property_facts(bundle), strict=True):
        blocks.append(f"property {record.trace.property_id}\n{_table(facts, indent='  ')}")
    return "\n\n".join([*blocks, legend(bundle)])


def property_facts(bundle: Bundle) -> list[list[tuple[str, str]]]:
    """For each property what it says and what is proved of it: names, and facts of one line or more."""
    naming = naming_of(bundle)
    return [
        [*_trace(record), *_gate(gate, naming), *_coverage(trees)]
        for record, gate, trees in zip(bundle.manifest.properties, bundle.gates, bundle.coverage, strict=True)
    ]


def legend(bundle: Bundle) -> str:
    """What the shares mean."""
    return _LEGEND.format(arithmetic=bundle.manifest.arithmetic.words)


def _table(facts: Sequence[tuple[str, str]], indent: str = "") -> str:
    """Names left, facts right; the further lines of a fact stand under its first."""
    width = max(len(name) for name, _ in facts) + 2
    lines = []
    for name, fact in facts:
        first, *more = fact.splitlines()
        lines.append(f"{indent}{name:<{width}}{first}")
        lines += [f"{indent}{'':<{width}}{line}" for line in more]
    return "\n".join(lines)


def head_facts(bundle: Bundle, signed: SignedBy | None = None) -> list[tuple[str, str]]:
    """Names and facts of the bundle as a whole."""
    manifest, vectors, naming = bundle.manifest, bundle.vectors, naming_of(bundle)
    content = encode(bundle)
    rows = "one row per message" if manifest.signature.batch_axis is None else "the first dimension counts rows"
    names = "the tensors' own, in wire units" if naming.origin is None else f"as in {naming.origin}, in its units"
    facts = [
        ("guards", f"model {manifest.name}, {rows}"),
        *([("versions", ", ".join(manifest.versions))] if manifest.versions else []),
        ("revision", str(manifest.revision)),
        ("bundle", f"sha256 {digest(content)}\n{len(content):,} bytes, format version {FORMAT_VERSION}"),
        ("signed", "no" if signed is None else f"{signature_text(signed)}\n{_NOT_VERIFIED}"),
        _model(manifest),
        ("inputs", "\n".join(map(_tensor, manifest.signature.inputs))),
        ("outputs", "\n".join(map(_tensor, manifest.signature.outputs))),
        ("compiled by", f"sidecar {manifest.compiler_version}"),
        *(("option", f"{name} = {value}") for name, value in manifest.options),
        ("self-test", f"{len(vectors.inputs)} rows, a gate fires on {vectors.fired.any(axis=1).sum()} of them"),
        ("probe", _probe_text(vectors)),
    ]
    facts += [("source", f"{source.origin}, {len(source.content):,} bytes") for source in bundle.sources]
    return [*facts, ("names", f"{names}; ~ marks a rounded number, --json has it exactly")]


def _model(manifest: Manifest) -> tuple[str, str]:
    if manifest.is_proved:
        return "verified model", f"sha256 {manifest.model_digest}\nserved in {manifest.arithmetic.words}"
    return "model", f"sha256 {manifest.model_digest}\nguarded without proof: every region is open"


def widest_bounds(vectors: SelfTestVectors) -> float | None:
    """The largest width of what is proved of an answer; None where nothing is."""
    widths = (vectors.upper - vectors.lower)[np.isfinite(vectors.lower)]
    return float(widths.max()) if len(widths) else None


def _probe_text(vectors: SelfTestVectors) -> str:
    widest = widest_bounds(vectors)
    if widest is None:
        return "no upstream can be probed: between which bounds it answers is not proved"
    known = int(vectors.certified.sum())
    return f"{known} of these rows; the answers are proved to within intervals no wider than {widest:.2g}"


def signature_text(signed: SignedBy) -> str:
    """By whom, and until when."""
    end = "for ever" if signed.end is None else f"until {moment_text(signed.end)}"
    return f"by key {signed.key}\n{end}"


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype} {list(spec.row_shape)}"


def _trace(record: PropertyRecord) -> Iterator[tuple[str, str]]:
    trace = record.trace
    for name in ("title", "hazard", "rationale", "owner"):
        text = getattr(trace, name).strip()
        if text:
            yield name, _wrapped(text)
    yield "severity", trace.severity
    yield "mode", f"{record.mode}, unless sidecar serve --mode says otherwise"


def _wrapped(text: str) -> str:
    """Text of a person, its own line ends kept."""
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, WRAPPED_CHARACTERS) or [""])


def _gate(gate: Gate, naming: Naming) -> Iterator[tuple[str, str]]:
    for number, region in enumerate(gate.domain):
        yield "when" if number == 0 else "or when", _shortened(region_lines(region, naming))
    yield "require", _shortened(requirement_lines(gate.requirement, naming))
    yield "on violation", _action_text(gate, naming)


def _shortened(lines: Sequence[str]) -> str:
    left_out = len(lines) - SHOWN_LINES
    more = [f"... and {left_out} more, see --json"] if left_out > 0 else []
    return "\n".join([*lines[:SHOWN_LINES], *more])


def _action_text(gate: Gate, naming: Naming) -> str:
    if gate.action is Action.PROJECT:
        return f"project: the nearest satisfying answer ({gate.norm}), margin {number_text(gate.margin)}"
    if gate.fallback is None:
        return "refuse: the client gets an error"
    values = zip(naming.outputs, gate.fallback, strict=True)
    lines = [f"  {named.name} = {value_text(named, value)}" for named, value in values]
    return _shortened([f"{gate.action}: the client gets", *lines])


def _coverage(trees: Sequence[CoverageTree]) -> Iterator[tuple[str, str]]:
    for number, tree in enumerate(trees):
        name = "proved" if len(trees) == 1 else f"proved in box {number + 1}"
        yield name, f"{_volumes(tree.volume)}  in {_counted(_leaves(tree))}"


def _volumes(volume: npt.NDArray[np.float64]) -> str:
    return "  ".join(f"{label.name.lower()} {share_text(float(volume[label]))}" for label in _LABELS)


def _counted(boxes: int) -> str:
    return "1 box" if boxes == 1 else f"{boxes:,} boxes"
