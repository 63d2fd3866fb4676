"""Laws of the bundle format and of the coverage map, on bundles drawn at random.

Decoding after encoding is the identity, encoding is a function of the bundle's values, labels are those of
the leaf that a row falls into, and volumes are shares of what uniform points would see.
"""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.acceptance import accept
from sidecar.bundle.codec import encode
from sidecar.bundle.container import Section, pack, split_sections
from sidecar.bundle.coverage import LEAF, CoverageTree, Label, label, prepare_coverage
from sidecar.bundle.coverage_rules import leaf_volumes
from sidecar.bundle.self_test import expected_decisions, self_test
from sidecar.bundle.values import Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.errors import BundleError
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement, Terms, terms
from sidecar.properties.values import Severity, Traceability
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, TensorSpec, decode_raw

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\t"), max_size=20)
RATIONALS = st.fractions(min_value=-1000, max_value=1000, max_denominator=1000)
LABELS = st.sampled_from((Label.SILENT, Label.VIOLATING, Label.OPEN))


@st.composite
def signatures(draw: st.DrawFn) -> ModelSignature:
    def specs() -> tuple[TensorSpec, ...]:
        names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
        shapes = st.lists(st.integers(1, 2), max_size=2).map(tuple)
        return tuple(TensorSpec(name, draw(st.sampled_from(FLOATING_DATATYPES)), draw(shapes)) for name in names)

    return ModelSignature(specs(), specs(), draw(st.sampled_from((0, None))))


def forms(size: int) -> st.SearchStrategy[Terms]:
    return st.dictionaries(st.integers(0, size - 1), RATIONALS, max_size=2).map(terms)


@st.composite
def boxes(draw: st.DrawFn, size: int) -> Box:
    bounds = [sorted((draw(RATIONALS), draw(RATIONALS))) for _ in range(size)]
    return Box(tuple(low for low, _ in bounds), tuple(high for _, high in bounds))


@st.composite
def gates(draw: st.DrawFn, property_id: str, signature: ModelSignature) -> Gate:
    inputs, outputs = signature.input_size, signature.output_size
    cuts = st.builds(Literal, st.just(()), forms(inputs), RATIONALS, st.booleans())
    literals = st.builds(Literal, forms(outputs), forms(inputs), RATIONALS, st.booleans())
    regions = st.builds(Region, boxes(inputs), st.lists(cuts, max_size=1).map(tuple))
    clauses = st.lists(literals, min_size=1, max_size=2).map(tuple)
    action = draw(st.sampled_from(Action))
    integers = st.integers(-100, 100).map(Fraction)  # values of every datatype
    row = draw(st.tuples(*[integers] * outputs)) if action is Action.FALLBACK else None
    return Gate(
        property_id=property_id,
        domain=tuple(draw(st.lists(regions, min_size=1, max_size=2))),
        requirement=Requirement(tuple(draw(st.lists(clauses, max_size=2)))),
        action=action,
        margin=draw(RATIONALS.map(abs)),
        norm=draw(st.sampled_from(Norm)),
        fallback=row,
    )


@st.composite
def trees(draw: st.DrawFn, box: Box) -> CoverageTree:
    """A tree that splits some nodes of the box in the middle of a feature that is wide enough."""
    nodes: list[list[float]] = []
    level = [([float(low) for low in box.lower], [float(high) for high in box.upper])]
    for depth in range(5):
        children = []
        for lower, upper in level:
            wide = [index for index in range(len(lower)) if upper[index] - lower[index] > 2.0**-20]
            if wide and depth < 4 and draw(st.booleans()):
                feature = draw(st.sampled_from(wide))
                middle = lower[feature] + (upper[feature] - lower[feature]) * draw(st.sampled_from((0.25, 0.5, 0.75)))
                nodes.append([feature, middle, 0])
                children.append((lower, [*upper[:feature], middle, *upper[feature + 1 :]]))
                children.append(([*lower[:feature], middle, *lower[feature + 1 :]], upper))
            else:
                nodes.append([LEAF, 0.0, int(draw(LABELS))])
        level = children
    feature, threshold, labels = (np.array(column) for column in zip(*nodes, strict=True))
    tree = CoverageTree(
        feature=feature.astype(np.int32),
        threshold=threshold.astype(np.float64),
        label=labels.astype(np.uint8),
        volume=np.zeros(4),
    )
    return dataclasses.replace(tree, volume=leaf_volumes(tree, box))


def rows(draw: st.DrawFn, count: int, datatypes: tuple[Datatype, ...]) -> np.ndarray:
    """Finite wire values of each datatype, from random integers."""
    drawn = draw(st.lists(st.lists(st.integers(-1000, 1000), min_size=len(datatypes), max_size=len(datatypes)),
                          min_size=count, max_size=count))  # fmt: skip
    array = np.array(drawn, dtype=np.float64).reshape(count, len(datatypes))
    for column, datatype in enumerate(datatypes):
        if datatype is Datatype.BF16:
            bits = array[:, column].astype(np.float32).view(np.uint32) >> np.uint32(16)
            array[:, column] = decode_raw(bits.astype("<u2").tobytes(), Datatype.BF16)
    return array


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    signature = draw(signatures())
    ids = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    traces = [
        Traceability(name, draw(TEXTS), draw(TEXTS), draw(TEXTS), draw(TEXTS), draw(st.sampled_from(Severity)))
        for name in ids
    ]
    all_gates = tuple(draw(gates(name, signature)) for name in ids)
    count = draw(st.integers(1, 3))
    inputs = rows(draw, count, signature.input_datatypes())
    outputs = rows(draw, count, signature.output_datatypes())
    width = draw(st.sampled_from([0.0, 0.1, np.inf]))
    return Bundle(
        manifest=Manifest(
            name=draw(NAMES),
            revision=draw(st.integers(1, 2**63 - 1)),
            model_digest=draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
            signature=signature,
            arithmetic=draw(st.sampled_from(Arithmetic)),
            properties=tuple(PropertyRecord(trace, draw(st.sampled_from(Mode))) for trace in traces),
            compiler_version=draw(NAMES),
            options=tuple(draw(st.dictionaries(NAMES, TEXTS, max_size=2)).items()),
            versions=tuple(sorted(draw(st.sets(NAMES, max_size=2)))),
        ),
        gates=all_gates,
        coverage=tuple(tuple(draw(trees(region.box)) for region in gate.domain) for gate in all_gates),
        vectors=expected_decisions(all_gates, signature, inputs, outputs, outputs - width, outputs + width),
        sources=tuple(draw(st.lists(st.builds(PropertySource, NAMES, st.binary(max_size=20)), max_size=2))),
    )


@settings(max_examples=60, deadline=None)
@given(bundles())
def test_decoding_after_encoding_is_the_identity(bundle: Bundle) -> None:
    content = encode(bundle)
    accepted = accept(content)
    assert accepted.manifest == bundle.manifest
    assert accepted.gates == bundle.gates
    assert accepted.sources == bundle.sources
    pairs = [(accepted.vectors, bundle.vectors)]
    for got, expected in zip(accepted.coverage, bundle.coverage, strict=True):
        pairs += zip(got, expected, strict=True)
    for got, expected in pairs:
        for field in dataclasses.fields(got):
            np.testing.assert_array_equal(getattr(got, field.name), getattr(expected, field.name))
    assert encode(accepted) == content
    self_test(accepted, prepare(accepted.gates, accepted.manifest.signature))


GOLDEN = Path(__file__).parents[1] / "unit" / "bundle" / "golden" / "version_1.gates"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(Section), st.integers(0, 2000), st.integers(0, 8), st.binary(max_size=8))
def test_whatever_is_written_into_a_section_is_refused_or_means_just_that(
    section: Section, start: int, left_out: int, put_in: bytes
) -> None:
    """Never another exception, and never two files of one meaning."""
    payloads = []
    for name, payload in split_sections(GOLDEN.read_bytes()):
        at = start % (len(payload) + 1)
        payloads.append((name, payload[:at] + put_in + payload[at + left_out :] if name is section else payload))
    content = pack(payloads)
    try:
        accepted = accept(content)
    except BundleError:
        return
    assert encode(accepted) == content


def _label_by_definition(bundle: Bundle, gate: int, row: np.ndarray) -> Label:
    found = []
    for region, tree in zip(bundle.gates[gate].domain, bundle.coverage[gate], strict=True):
        bounds = zip(region.box.lower, row.tolist(), region.box.upper, strict=True)
        if all(low <= Fraction(value) <= high for low, value, high in bounds):
            node, splits = 0, np.flatnonzero(tree.feature != LEAF).tolist()
            while tree.feature[node] != LEAF:
                goes_left = row[tree.feature[node]] <= tree.threshold[node]
                node = 2 * splits.index(node) + (1 if goes_left else 2)
            found.append(Label(tree.label[node]))
    by_weight = (Label.VIOLATING, Label.OPEN, Label.SILENT)
    return next((label for label in by_weight if label in found), Label.OUTSIDE)


@settings(max_examples=60, deadline=None)
@given(bundles(), st.data())
def test_labels_are_those_of_the_leaves(bundle: Bundle, data: st.DataObject) -> None:
    signature = bundle.manifest.signature
    prepared = prepare_coverage(bundle.gates, bundle.coverage, signature)
    inputs = rows(data.draw, 4, signature.input_datatypes())
    for gate in range(len(bundle.gates)):
        expected = [_label_by_definition(bundle, gate, row) for row in inputs]
        assert label(prepared, gate, inputs).tolist() == expected
        assert [int(label(prepared, gate, row[np.newaxis])[0]) for row in inputs] == expected


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_volumes_are_shares_of_uniform_points(data: st.DataObject) -> None:
    box = Box((Fraction(-1), Fraction(0)), (Fraction(1), Fraction(10)))
    tree = data.draw(trees(box))
    signature = ModelSignature((TensorSpec("x", Datatype.FP64, (2,)),), (TensorSpec("y", Datatype.FP64, (1,)),), 0)
    gate = Gate("p", (Region(box),), Requirement(()), Action.REFUSE, Fraction(0), Norm.L2, None)
    points = np.random.default_rng(0).uniform((-1.0, 0.0), (1.0, 10.0), (4000, 2))
    labels = label(prepare_coverage([gate], [[tree]], signature), 0, points)
    shares = np.bincount(labels, minlength=4) / len(points)
    np.testing.assert_allclose(shares, tree.volume, atol=0.05)  # six standard deviations
