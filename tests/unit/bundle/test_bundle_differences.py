"""What `sidecar diff` tells: every change, and none where there is none."""

import dataclasses
import datetime
import json
from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.difference import BUNDLE, SHOWN_LINES, compare, document, render
from sidecar.bundle.signature import SignedBy
from sidecar.bundle.values import Arithmetic, Bundle, PropertySource
from sidecar.gates.values import Mode, Norm


def _manifest(bundle: Bundle, **changes) -> Bundle:
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, **changes))


def _record(bundle: Bundle, **changes) -> Bundle:
    first, *others = bundle.manifest.properties
    return _manifest(bundle, properties=(dataclasses.replace(first, **changes), *others))


def _trace(bundle: Bundle, **changes) -> Bundle:
    return _record(bundle, trace=dataclasses.replace(bundle.manifest.properties[0].trace, **changes))


def _gate(bundle: Bundle, **changes) -> Bundle:
    first, *others = bundle.gates
    return dataclasses.replace(bundle, gates=(dataclasses.replace(first, **changes), *others))


def _open_leaf() -> CoverageTree:
    volume = np.zeros(4)
    volume[Label.OPEN] = 1.0
    label = np.array([Label.OPEN], np.uint8)
    return CoverageTree(np.array([LEAF], np.int32), np.zeros(1), label, volume)


def _all_open(bundle: Bundle) -> Bundle:
    first, *others = bundle.coverage
    return dataclasses.replace(bundle, coverage=(tuple(_open_leaf() for _ in first), *others))


def _same_shares(bundle: Bundle) -> Bundle:
    """Another division with the same shares: one threshold moved, the volumes left as they say."""
    (first, *trees), *others = bundle.coverage
    moved = dataclasses.replace(first, threshold=first.threshold + (first.feature != LEAF))
    return dataclasses.replace(bundle, coverage=((moved, *trees), *others))


def _without_last(bundle: Bundle) -> Bundle:
    manifest = dataclasses.replace(bundle.manifest, properties=bundle.manifest.properties[:-1])
    return dataclasses.replace(bundle, manifest=manifest, gates=bundle.gates[:-1], coverage=bundle.coverage[:-1])


def _vectors(bundle: Bundle) -> Bundle:
    vectors = dataclasses.replace(bundle.vectors, outputs=bundle.vectors.outputs + 1)
    return dataclasses.replace(bundle, vectors=vectors)


CHANGES = {
    "name": lambda b: _manifest(b, name="other"),
    "revision": lambda b: _manifest(b, revision=8),
    "versions": lambda b: _manifest(b, versions=("1", "2")),
    "verified model": lambda b: _manifest(b, model_digest="f" * 64),
    "tensors": lambda b: _manifest(b, signature=dataclasses.replace(b.manifest.signature, batch_axis=None)),
    "arithmetic": lambda b: _manifest(b, arithmetic=Arithmetic.IEEE64),
    "compiler": lambda b: _manifest(b, compiler_version="9"),
    "options": lambda b: _manifest(b, options=(("time-limit", "7s"),)),
    "sources": lambda b: dataclasses.replace(b, sources=(PropertySource("p.yaml", b"x"),)),
    "self-test vectors": _vectors,
    "title": lambda b: _trace(b, title="another"),
    "hazard": lambda b: _trace(b, hazard="another"),
    "rationale": lambda b: _trace(b, rationale=""),
    "owner": lambda b: _trace(b, owner="another"),
    "mode": lambda b: _record(b, mode=Mode.OFF),
    "margin": lambda b: _gate(b, margin=b.gates[0].margin + Fraction(1, 3)),
    "norm": lambda b: _gate(b, norm=next(norm for norm in Norm if norm is not b.gates[0].norm)),
    "require": lambda b: _gate(b, requirement=b.gates[1].requirement),
}


def test_a_bundle_does_not_differ_from_itself(bundle):
    assert compare(bundle, bundle) == ()
    assert render(()) == "The bundles are the same."


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_with_old_and_new(bundle, what):
    after = CHANGES[what](bundle)
    changes = [change for change in compare(bundle, after) if change.what != "boxes"]
    assert [change.what for change in changes] == [what]
    (change,) = changes
    assert change.before.exact != change.after.exact
    assert change.where in (BUNDLE, "property brake-when-near")
    text = render(changes)
    assert text.startswith(f"{change.where}\n  {what}\n    - ")
    assert "\n    + " in text


def test_whatever_changes_the_bytes_is_a_change(bundle):
    for change in (*CHANGES.values(), _all_open, _same_shares, _without_last):
        after = change(bundle)
        assert encode(after) != encode(bundle)
        assert compare(bundle, after)


def test_shares_of_coverage_are_told(bundle):
    changes = {change.what: change for change in compare(bundle, _all_open(bundle))}
    assert set(changes) == {"proved", "boxes"}
    assert "open 100.0000%" in changes["proved"].after.text
    assert render(list(changes.values())).count("property brake-when-near") == 1


def test_another_division_with_the_same_shares_is_told(bundle):
    assert [change.what for change in compare(bundle, _same_shares(bundle))] == ["boxes"]


def test_added_and_removed_properties_are_told_with_what_they_require(bundle):
    fewer = _without_last(bundle)
    removed = compare(bundle, fewer)[-1]
    added = compare(fewer, bundle)[-1]
    assert (removed.where, removed.after, added.before) == ("property bounded-score", None, None)
    assert removed.before == added.after
    assert "  property removed\n    - when " in render([removed])
    assert "  property added\n    + when " in render([added])
    assert "require" in render([added])


def test_long_facts_are_shortened_for_people_only(bundle):
    after = _trace(bundle, rationale="\n".join(map(str, range(100))))
    changes = compare(bundle, after)
    text = render(changes)
    assert f"+ ... and {100 - SHOWN_LINES} more lines, see --json" in text
    assert json.loads(json.dumps(document(bundle, after, changes)))["changes"][0]["after"].endswith("99")


def test_two_places_are_two_headings(bundle):
    text = render(compare(bundle, _manifest(_record(bundle, mode=Mode.OFF), revision=9)))
    assert "bundle\n  revision\n    - 7\n    + 9\n\nproperty brake-when-near\n  mode\n    - enforce\n    + off" in text


def test_signatures_are_compared_by_key_and_end(bundle):
    end = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    endless, ending, other = SignedBy("a" * 64), SignedBy("a" * 64, end), SignedBy("b" * 64, end)
    for pair in ((None, endless), (endless, ending), (ending, other)):
        (change,) = compare(bundle, bundle, pair)
        assert (change.where, change.what) == (BUNDLE, "signature")
        assert compare(bundle, bundle, (pair[1], pair[1])) == ()
    assert "+ until 2027-01-01 00:00:00 UTC" in render(compare(bundle, bundle, (endless, ending)))
    assert "- none" in render(compare(bundle, bundle, (None, endless)))
