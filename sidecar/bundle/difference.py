"""What changed between two bundles: :func:`compare` finds it, :func:`render` tells people, :func:`document` programs.

There is no change between two bundles exactly where their digests are equal and their signatures say the same: every
section is compared, and what is too large to be shown (self-test vectors, the boxes of a coverage map, property files)
is named with its digest.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from sidecar.bundle.acceptance import digest
from sidecar.bundle.array_codecs import encode_coverage, encode_vectors
from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.gate_codec import gate_document
from sidecar.bundle.manifest_codec import manifest_document
from sidecar.bundle.naming import Naming, naming_of
from sidecar.bundle.readable import number_text, region_lines, requirement_lines, share_text, value_text
from sidecar.bundle.signature import SignedBy
from sidecar.bundle.summary import signature_text
from sidecar.bundle.values import Bundle, PropertyRecord
from sidecar.gates.values import Gate
from sidecar.tensors import TensorSpec

SHOWN_LINES: Final = 12
"""Of one old or new value; :func:`document` has all of it."""

_LABELS: Final = (Label.SILENT, Label.VIOLATING, Label.OPEN)

BUNDLE: Final = "bundle"
"""Where a change is that is no single property's."""


@dataclasses.dataclass(frozen=True)
class Fact:
    """One thing that a bundle says: exactly, as JSON values, and for people."""

    exact: object
    text: str


@dataclasses.dataclass(frozen=True)
class Change:
    """One fact that differs.

    Args:
        where: :data:`BUNDLE`, or ``property <id>``.
        what: the fact's name; for a property in one bundle only, ``property``.
        before, after: None where that bundle does not have it.
    """

    where: str
    what: str
    before: Fact | None
    after: Fact | None


Signatures: TypeAlias = tuple[SignedBy | None, SignedBy | None]
"""What the signatures of the older and of the newer file say, unverified."""


def compare(before: Bundle, after: Bundle, signatures: Signatures = (None, None)) -> tuple[Change, ...]:
    """Every difference: the bundles' own, then those of the properties of ``before``, then of the added ones."""
    old_facts, new_facts = _bundle_facts(before, signatures[0]), _bundle_facts(after, signatures[1])
    changes = [*_differing(BUNDLE, old_facts, new_facts)]
    old, new = _properties(before), _properties(after)
    for name in dict.fromkeys((*old, *new)):
        where = f"property {name}"
        if name in old and name in new:
            changes += _differing(where, old[name], new[name])
        else:
            changes.append(Change(where, "property", _whole(old.get(name)), _whole(new.get(name))))
    return tuple(changes)


def _differing(where: str, before: Mapping[str, Fact], after: Mapping[str, Fact]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or old.exact != new.exact:
            yield Change(where, name, old, new)


def _whole(facts: Mapping[str, Fact] | None) -> Fact | None:
    """A property as one fact, told by what it requires where."""
    if facts is None:
        return None
    lines = [f"when {facts['when'].text}", f"require {facts['require'].text}"]
    return Fact({name: fact.exact for name, fact in facts.items()}, "\n".join(lines))


def _bundle_facts(bundle: Bundle, signed: SignedBy | None) -> dict[str, Fact]:
    manifest, vectors = bundle.manifest, bundle.vectors
    signature = manifest_document(manifest)["signature"]
    order = [gate.property_id for gate in bundle.gates]
    vectors_digest = _sha256(encode_vectors(vectors))
    return {
        "name": _plain(manifest.name),
        "revision": Fact(manifest.revision, str(manifest.revision)),
        "versions": Fact(list(manifest.versions), ", ".join(manifest.versions)),
        "verified model": Fact(manifest.model_digest, f"sha256 {manifest.model_digest}"),
        "tensors": Fact(signature, _tensors(bundle)),
        "arithmetic": _plain(manifest.arithmetic),
        "compiler": _plain(manifest.compiler_version),
        "options": Fact(manifest.options, "\n".join(f"{name} = {value}" for name, value in manifest.options)),
        "order of properties": Fact(order, ", ".join(order)),
        "sources": Fact(
            [{"origin": each.origin, "sha256": _sha256(each.content)} for each in bundle.sources],
            "\n".join(f"{each.origin}, sha256 {_sha256(each.content)}" for each in bundle.sources),
        ),
        "self-test vectors": Fact(vectors_digest, f"{len(vectors.inputs)} rows, sha256 {vectors_digest}"),
        "signature": _signature(signed),
    }


def _signature(signed: SignedBy | None) -> Fact:
    if signed is None:
        return Fact(None, "none")
    exact = {"key": signed.key, "ends": None if signed.end is None else signed.end.isoformat()}
    return Fact(exact, signature_text(signed))


def _plain(text: str) -> Fact:
    return Fact(text, text)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tensors(bundle: Bundle) -> str:
    def line(kind: str, spec: TensorSpec) -> str:
        return f"{kind} {spec.name} {spec.datatype} {list(spec.row_shape)}"

    signature = bundle.manifest.signature
    lines = [line("input", spec) for spec in signature.inputs] + [line("output", spec) for spec in signature.outputs]
    return "\n".join([*lines, f"batch axis {signature.batch_axis}"])


def _properties(bundle: Bundle) -> dict[str, dict[str, Fact]]:
    naming = naming_of(bundle)
    parts = zip(bundle.manifest.properties, bundle.gates, bundle.coverage, strict=True)
    return {
        gate.property_id: {**_trace(record), **_gate(gate, naming), **_coverage(trees)} for record, gate, trees in parts
    }


def _trace(record: PropertyRecord) -> dict[str, Fact]:
    texts = {name: getattr(record.trace, name) for name in ("title", "hazard", "rationale", "owner", "severity")}
    return {name: _plain(text) for name, text in {**texts, "mode": record.mode}.items()}


def _gate(gate: Gate, naming: Naming) -> dict[str, Fact]:
    document = gate_document(gate)
    regions = "\nor\n".join("\n".join(region_lines(region, naming)) for region in gate.domain)
    fallback = [] if gate.fallback is None else zip(naming.outputs, gate.fallback, strict=True)
    return {
        "when": Fact(document["domain"], regions),
        "require": Fact(document["requirement"], "\n".join(requirement_lines(gate.requirement, naming))),
        "action": _plain(gate.action),
        "norm": _plain(gate.norm),
        "margin": Fact(document["margin"], number_text(gate.margin)),
        "fallback": Fact(
            document["fallback"], "\n".join(f"{named.name} = {value_text(named, value)}" for named, value in fallback)
        ),
    }


def _coverage(trees: Sequence[CoverageTree]) -> dict[str, Fact]:
    shares = [{label.name.lower(): float(tree.volume[label]) for label in _LABELS} for tree in trees]
    boxes = _sha256(encode_coverage((trees,)))
    count = sum(int((tree.feature == LEAF).sum()) for tree in trees)
    return {
        "proved": Fact(shares, "\n".join(map(_shares_text, shares))),
        "boxes": Fact(boxes, f"{count:,} boxes, sha256 {boxes}"),
    }


def _shares_text(shares: Mapping[str, float]) -> str:
    return "  ".join(f"{label} {share_text(share)}" for label, share in shares.items())


def document(before: Bundle, after: Bundle, changes: Sequence[Change]) -> dict[str, object]:
    """All of it as JSON values; rational numbers as text ``p/q``."""
    return {
        "before": {"digest": digest(encode(before)), "revision": before.manifest.revision},
        "after": {"digest": digest(encode(after)), "revision": after.manifest.revision},
        "changes": [
            {
                "where": change.where,
                "what": change.what,
                "before": None if change.before is None else change.before.exact,
                "after": None if change.after is None else change.after.exact,
            }
            for change in changes
        ],
    }


def render(changes: Sequence[Change]) -> str:
    """For people: under each heading what changed, old lines with ``-``, new ones with ``+``."""
    if not changes:
        return "The bundles are the same."
    lines: list[str] = []
    heading = None
    for change in changes:
        if change.where != heading:
            heading = change.where
            lines += ["", heading] if lines else [heading]
        lines += [f"  {_title(change)}", *_marked("-", change.before), *_marked("+", change.after)]
    return "\n".join(lines)


def _title(change: Change) -> str:
    if change.before is None:
        return f"{change.what} added"
    return f"{change.what} removed" if change.after is None else change.what


def _marked(mark: str, fact: Fact | None) -> Iterator[str]:
    if fact is None:
        return
    lines = fact.text.splitlines() or ["(none)"]
    for line in lines[:SHOWN_LINES]:
        yield f"    {mark} {line}"
    if len(lines) > SHOWN_LINES:
        yield f"    {mark} ... and {len(lines) - SHOWN_LINES} more lines, see --json"
