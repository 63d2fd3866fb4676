"""The corpus of broken bundles: each is the good one with one named defect, its length and digest made good."""

import copy
import dataclasses
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pytest

from sidecar.bundle import limits
from sidecar.bundle.acceptance import accept
from sidecar.bundle.array_codecs import decode_coverage, encode_coverage, encode_sources, encode_vectors
from sidecar.bundle.codec import encode
from sidecar.bundle.container import Section, pack, split_sections
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.gate_codec import encode_gates
from sidecar.bundle.values import Bundle, PropertySource, SelfTestVectors
from sidecar.errors import BundleError, Reason

Json: TypeAlias = Any
Change: TypeAlias = Callable[[Json], object]


def _with(bundle: Bundle, section: Section, payload: bytes) -> bytes:
    payloads = split_sections(encode(bundle))
    return pack([(name, payload if name is section else unchanged) for name, unchanged in payloads])


def _refused(content: bytes, reason: Reason, says: str) -> None:
    with pytest.raises(BundleError) as caught:
        accept(content)
    assert caught.value.reason is reason
    assert says in caught.value.message
    assert ";" in caught.value.message  # what to do comes last


def _put(*path: str | int, value: Json) -> Change:
    def change(document: Json) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def _drop(*path: str | int) -> Change:
    def change(document: Json) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


def _changed(document: Json, change: Change) -> bytes:
    changed = copy.deepcopy(document)
    change(changed)
    return json.dumps(changed).encode()


_INPUT = ("signature", "inputs", 0)

BROKEN_MANIFESTS: dict[str, tuple[Change, str]] = {
    "unknown field": (_put("comment", value="hello"), "exactly the fields name, revision"),
    "missing field": (_drop("arithmetic"), "manifest: got ['compiler_version'"),
    "unknown field in a property": (_put("properties", 1, "colour", value="red"), "manifest.properties[1]: "),
    "property not an object": (_put("properties", 1, value=[]), "manifest.properties[1]: got [], expected an object"),
    "properties not a list": (_put("properties", value={}), "manifest.properties: got {}, expected a list"),
    "no properties": (_put("properties", value=[]), "at least one property"),
    "two properties of one id": (_put("properties", 1, "id", value="brake-when-near"), "ids distinct"),
    "empty id": (_put("properties", 1, "id", value=""), "manifest.properties[1].id: got '', expected a name"),
    "empty model name": (_put("name", value=""), "manifest.name: got '', expected a name"),
    "model name of two lines": (_put("name", value="a\nb"), "control characters"),
    "model name with an escape sequence": (_put("name", value="\x1b[31m"), "control characters"),
    "model name with a lone surrogate": (_put("name", value="\ud800"), "lone surrogates"),
    "model name too long": (_put("name", value="n" * 257), "text of at most 256 characters"),
    "model name a number": (_put("name", value=5), "manifest.name: got 5, expected text"),
    "title too long": (_put("properties", 0, "title", value="t" * 65537), "text of at most 65536"),
    "title with a bell": (_put("properties", 0, "title", value="\a"), "control characters"),
    "revision zero": (_put("revision", value=0), "an integer from 1"),
    "revision beyond 64 bits": (_put("revision", value=2**63), "an integer from 1"),
    "revision text": (_put("revision", value="7"), "an integer from 1"),
    "revision true": (_put("revision", value=True), "an integer from 1"),
    "revision a fraction": (_put("revision", value=1.5), "got '1.5', expected integers"),
    "revision not a number": (_put("revision", value=float("nan")), "got 'NaN', expected integers"),
    "digest too short": (_put("model_digest", value="ab"), "64 lower-case hex digits"),
    "digest in capitals": (_put("model_digest", value="A" * 64), "64 lower-case hex digits"),
    "unknown arithmetic": (
        _put("arithmetic", value="fp8"),
        "got 'fp8', expected one of ieee32, ieee64, tf32, bf16, fp16, ieee16",
    ),
    "unknown severity": (_put("properties", 0, "severity", value="fatal"), "expected one of critical, warning, info"),
    "unknown mode": (_put("properties", 0, "mode", value="on"), "expected one of enforce, shadow, off"),
    "mode a list": (_put("properties", 0, "mode", value=["on"]), "expected one of enforce, shadow, off"),
    "unknown datatype": (_put(*_INPUT, "datatype", value="FP8"), "expected one of BOOL"),
    "datatype without gates": (_put(*_INPUT, "datatype", value="BYTES"), "BYTES, which has no numeric meaning"),
    "batch axis one": (_put("signature", "batch_axis", value=1), "an integer from 0 to 0"),
    "no inputs": (_put("signature", "inputs", value=[]), "inputs with distinct names"),
    "two inputs of one name": (_put(*_INPUT, "name", value="speed"), "inputs with distinct names"),
    "dimension zero": (_put(*_INPUT, "row_shape", value=[0]), "row_shape[0]: got 0, expected an integer from 1"),
    "shape with too many dimensions": (_put(*_INPUT, "row_shape", value=[1] * 17), "at most 16 elements"),
    "row too long": (_put(*_INPUT, "row_shape", value=[2**17, 3]), "values in a row"),
    "versions empty": (_put("versions", value=[]), "at least one version"),
    "versions repeated": (_put("versions", value=["1", "1"]), "ascending and distinct"),
    "versions descending": (_put("versions", value=["2", "1"]), "ascending and distinct"),
    "versions no list": (_put("versions", value="1"), "manifest.versions: got '1', expected a list"),
    "version a number": (_put("versions", value=[1]), "manifest.versions[0]: got 1, expected text"),
    "version without text": (_put("versions", value=[""]), "expected a name"),
    "too many versions": (_put("versions", value=[f"{n:03}" for n in range(257)]), "a list of at most 256 elements"),
    "options a list": (_put("options", value=[]), "an object with at most"),
    "too many options": (_put("options", value={str(n): "" for n in range(257)}), "at most 256 fields"),
    "option not text": (_put("options", "max-regions", value=3), "manifest.options.max-regions: got 3, expected text"),
    "option without a name": (_put("options", "", value="x"), "manifest.options: got '', expected a name"),
}


@pytest.mark.parametrize("defect", BROKEN_MANIFESTS)
def test_a_broken_manifest_is_refused(bundle: Bundle, defect: str) -> None:
    change, says = BROKEN_MANIFESTS[defect]
    document = json.loads(dict(split_sections(encode(bundle)))[Section.MANIFEST])
    _refused(_with(bundle, Section.MANIFEST, _changed(document, change)), Reason.BUNDLE_MANIFEST, says)


BROKEN_JSON = {
    "nothing": (b"", "JSON"),
    "no JSON": (b"guard it", "JSON"),
    "no UTF-8": (b'"\xff"', "JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "JSON"),
    "two values": (b"{}{}", "JSON"),
    "a field twice": (b'{"name": 1, "name": 1}', "got ['name', 'name'], expected every field once"),
    "a list": (b"[]", "got [], expected an object with the fields name, revision"),
    "infinity": (b"Infinity", "expected integers"),
}


@pytest.mark.parametrize("defect", BROKEN_JSON)
def test_broken_json_is_refused(bundle: Bundle, defect: str) -> None:
    payload, says = BROKEN_JSON[defect]
    _refused(_with(bundle, Section.MANIFEST, payload), Reason.BUNDLE_MANIFEST, says)


_REGION = (0, "domain", 1)
_LITERAL = (0, "requirement", 0, 1)
_TERM = (*_LITERAL, "outputs", 0)

BROKEN_GATES: dict[str, tuple[Change, str]] = {
    "unknown field": (_put(0, "comment", value=""), "gates[0]: "),
    "one gate missing": (_drop(1), "gates for ['brake-when-near'], expected the manifest's properties"),
    "one gate twice": (lambda gates: gates.append(gates[0]), "expected the manifest's properties"),
    "gates in another order": (lambda gates: gates.reverse(), "expected the manifest's properties"),
    "another id": (_put(0, "property_id", value="other"), "expected the manifest's properties"),
    "empty domain": (_put(0, "domain", value=[]), "empty domain"),
    "empty box": (_put(*_REGION, "lower", 0, value="101"), "feature 0 has lower bound 101 above upper bound 201/2"),
    "box of unequal sides": (_put(*_REGION, "lower", value=["0"]), "equally many lower and upper bounds"),
    "box of another size": (
        lambda gates: gates[0]["domain"][1].update(lower=["0"] * 3, upper=["1"] * 3),
        "a box over 3 values, expected 2 inputs",
    ),
    "cut on outputs": (_put(*_REGION, "cuts", 0, "outputs", value=[[0, "1"]]), "inequalities on inputs only"),
    "cut on an input that is not there": (
        _put(*_REGION, "cuts", 0, "inputs", value=[[2, "1"]]),
        "a literal on input 2, expected inputs 0 to 1",
    ),
    "empty clause": (_put(0, "requirement", 0, value=[]), "at least one literal"),
    "output that is not there": (_put(*_TERM, value=[3, "1"]), "a literal on output 3, expected outputs 0 to 2"),
    "input that is not there": (_put(*_LITERAL, "inputs", 0, value=[2, "1"]), "a literal on input 2"),
    "negative index": (_put(*_TERM, 0, value=-1), "an integer from 0"),
    "huge index": (_put(*_TERM, 0, value=2**40), "an integer from 0"),
    "term of three": (_put(*_TERM, value=[2, "1", "1"]), "at most 2 elements"),
    "term of one": (_put(*_TERM, value=[2]), "an index and a coefficient"),
    "indices not ascending": (_put(*_LITERAL, "outputs", value=[[2, "1"], [1, "1"]]), "ascending and distinct"),
    "coefficient zero": (_put(*_TERM, 1, value="0"), "must not be zero"),
    "strict not a boolean": (_put(*_LITERAL, "strict", value=1), "expected true or false"),
    "number instead of text": (_put(*_LITERAL, "offset", value=5), "a rational 'p' or 'p/q'"),
    "decimal number": (_put(*_LITERAL, "offset", value="1.5"), "a rational 'p' or 'p/q'"),
    "exponent": (_put(*_LITERAL, "offset", value="1e999999999"), "a rational 'p' or 'p/q'"),
    "denominator zero": (_put(*_LITERAL, "offset", value="1/0"), "a rational 'p' or 'p/q'"),
    "other digits": (_put(*_LITERAL, "offset", value="\u0661"), "a rational 'p' or 'p/q'"),
    "line break after a number": (_put(*_LITERAL, "offset", value="1\n"), "a rational 'p' or 'p/q'"),
    "too many digits": (_put(*_LITERAL, "offset", value="9" * 1025), "at most 1024 digits"),
    "too many digits below": (_put(*_LITERAL, "offset", value="1/" + "9" * 1025), "at most 1024 digits"),
    "fraction not reduced": (_put(*_LITERAL, "offset", value="2/2"), "the one way"),
    "fraction over one": (_put(*_LITERAL, "offset", value="2/1"), "the one way"),
    "leading zero": (_put(*_LITERAL, "offset", value="07"), "the one way"),
    "minus zero": (_put(*_LITERAL, "offset", value="-0"), "the one way"),
    "unknown action": (_put(0, "action", value="patch"), "expected one of project, fallback, refuse"),
    "unknown norm": (_put(0, "norm", value="l0"), "expected one of l2, l1, linf"),
    "negative margin": (_put(0, "margin", value="-1"), "must not be negative"),
    "fallback without the action": (_put(0, "fallback", value=["0", "0", "0"]), "a fallback row goes with"),
    "action without its fallback": (_put(1, "fallback", value=None), "a fallback row goes with"),
    "fallback of another size": (_put(1, "fallback", value=["0"]), "a fallback of 1 values, expected 3 outputs"),
    "fallback off the wire": (
        _put(1, "fallback", 0, value="1/10"),
        "the fallback value 1/10, expected a value",
    ),
    "fallback beyond the wire": (_put(1, "fallback", 0, value="1" + "0" * 400), "expected a value of FP32"),
    "too many disjuncts": (
        lambda gates: gates[0]["requirement"].extend([gates[0]["requirement"][0]] * 10),
        "more than 1024 disjuncts",
    ),
    "absurdly many disjuncts": (
        lambda gates: gates[0]["requirement"].extend([gates[0]["requirement"][0]] * 20_000),
        "more than 1024 disjuncts",
    ),
    "too many disjuncts in the overlap only": (
        lambda gates: [gate["requirement"].extend([gates[0]["requirement"][0]] * 6) for gate in gates],
        "more than 1024 disjuncts",
    ),
    "too many regions": (
        lambda gates: gates[0]["domain"].extend([gates[0]["domain"][0]] * 1024),
        "1027 regions, expected at most 1024",
    ),
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_put(0, "margin", value="0"), "action project on scores INT16, expected fallback or refuse"),
        (_put(0, "action", value="refuse"), "the fallback value 1/2, expected a value of INT16"),
        (
            lambda gates: (gates[0].update(action="refuse"), gates[1].update(fallback=["0", "1", "32768"])),
            "the fallback value 32768, expected a value of INT16",
        ),
    ],
    ids=["project", "fallback that is no integer", "fallback beyond the range"],
)
def test_a_gate_that_an_integer_output_does_not_allow_is_refused(bundle: Bundle, change: Change, says: str) -> None:
    sections = dict(split_sections(encode(bundle)))
    manifest = json.loads(sections[Section.MANIFEST])
    manifest["signature"]["outputs"][0]["datatype"] = "INT16"
    sections[Section.MANIFEST] = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    gates = json.loads(sections[Section.GATES])
    sections[Section.GATES] = json.dumps(json.loads(_changed(gates, change)), separators=(",", ":")).encode()
    _refused(pack(list(sections.items())), Reason.BUNDLE_GATES, says)


@pytest.mark.parametrize("defect", BROKEN_GATES)
def test_a_broken_gate_is_refused(bundle: Bundle, defect: str) -> None:
    change, says = BROKEN_GATES[defect]
    document = json.loads(dict(split_sections(encode(bundle)))[Section.GATES])
    payload = json.dumps(json.loads(_changed(document, change)), separators=(",", ":")).encode()
    _refused(_with(bundle, Section.GATES, payload), Reason.BUNDLE_GATES, says)


def test_gates_at_the_limit_of_digits_are_accepted_and_beyond_it_not_written(bundle: Bundle) -> None:
    largest = 10**limits.MAX_RATIONAL_DIGITS - 1
    margin = Fraction(largest, largest - 1)
    gates = (dataclasses.replace(bundle.gates[0], margin=margin), bundle.gates[1])
    assert accept(_with(bundle, Section.GATES, encode_gates(gates))).gates == gates
    for beyond in (Fraction(largest + 1), Fraction(1, largest + 1)):
        with pytest.raises(BundleError, match=r"brake-when-near.*more than 1024 digits") as caught:
            encode_gates([dataclasses.replace(bundle.gates[0], margin=beyond)])
        assert caught.value.reason is Reason.BUNDLE_GATES


BROKEN_TREES: dict[str, tuple[dict[str, list[float]], str]] = {
    "no nodes": ({name: [] for name in ("feature", "threshold", "label")}, "a tree without nodes"),
    "feature that is not there": ({"feature": [2, 1, -1, -1, -1]}, "node 0 splits none of the 2 features"),
    "threshold not a number": ({"threshold": [np.nan, 7.5, 0, 0, 0]}, "node 0 has a threshold that is not finite"),
    "threshold infinite": ({"threshold": [15, np.inf, 0, 0, 0]}, "node 1 has a threshold that is not finite"),
    "leaf of an unknown label": ({"label": [0, 0, 4, 3, 2]}, "a node of kind -4, expected a feature's index or -1"),
    "leaf of a label beyond a byte": ({"label": [0, 0, 255, 3, 2]}, "a node of kind -255"),
    "child before its parent": (
        {"feature": [-1, 0, 1, -1, -1], "threshold": [0, 15, 7.5, 0, 0], "label": [1, 0, 0, 3, 2]},
        "a child before its parent",
    ),
    "leaf too many": (
        {"feature": [0, 1, -1, -1, -1, -1], "threshold": [15, 7.5, 0, 0, 0, 0], "label": [0, 0, 1, 3, 2, 1]},
        "6 nodes, expected 5",
    ),
    "leaf too few": (
        {"feature": [0, 1, -1, -1], "threshold": [15, 7.5, 0, 0], "label": [0, 0, 1, 3]},
        "4 nodes, expected 5",
    ),
    "split outside the box": ({"threshold": [61, 7.5, 0, 0, 0]}, "splits feature 0 at 61.0, expected between 0.0"),
    "split at the box's edge": ({"threshold": [60, 7.5, 0, 0, 0]}, "splits feature 0 at 60.0"),
    "split at the box's other edge": ({"threshold": [0, 7.5, 0, 0, 0]}, "splits feature 0 at 0.0"),
    "split outside the node's part": (
        {"feature": [0, 0, -1, -1, -1], "threshold": [15, 15, 0, 0, 0]},
        "node 1 splits feature 0 at 15.0, expected between 0.0 and 15.0",
    ),
    "volumes of another tree": ({"volume": [0, 0.5, 0.25, 0.25]}, "volumes [0.0, 0.5, 0.25, 0.25] by label"),
    "volume of a label that no leaf has": ({"volume": [0.1, 0.75, 0.1875, 0.0625]}, "the leaves have [0.0, 0.75"),
    "volume not a number": ({"volume": [0, np.nan, 0.1875, 0.0625]}, "volumes [0.0, nan"),
}  # fmt: skip


@pytest.mark.parametrize("defect", BROKEN_TREES)
def test_a_broken_coverage_tree_is_refused(bundle: Bundle, defect: str) -> None:
    changes, says = BROKEN_TREES[defect]
    tree = bundle.coverage[0][0]
    arrays = {name: np.array(values, getattr(tree, name).dtype) for name, values in changes.items()}
    broken = ((dataclasses.replace(tree, **arrays), bundle.coverage[0][1]), bundle.coverage[1])
    content = _with(bundle, Section.COVERAGE, encode_coverage(broken))
    _refused(content, Reason.BUNDLE_COVERAGE, says)


def test_a_refused_tree_is_named(bundle: Bundle) -> None:
    twice = {name: np.repeat(getattr(bundle.coverage[0][1], name), 2) for name in ("feature", "threshold", "label")}
    broken = ((bundle.coverage[0][0], dataclasses.replace(bundle.coverage[0][1], **twice)), bundle.coverage[1])
    content = _with(bundle, Section.COVERAGE, encode_coverage(broken))
    _refused(content, Reason.BUNDLE_COVERAGE, "the tree of gate 'brake-when-near', region 1: 2 nodes, expected 1")


def test_a_map_beyond_its_limit_is_refused_before_it_is_read(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"coverage: got 100663297 bytes, expected at most 100663296") as caught:
        decode_coverage(bytes(limits.MAX_COVERAGE_BYTES + 1), bundle.gates)
    assert caught.value.reason is Reason.BUNDLE_COVERAGE


@pytest.mark.parametrize("trees", [0, 1, 3])
def test_a_wrong_number_of_trees_is_refused(bundle: Bundle, trees: int) -> None:
    broken = ([bundle.coverage[0][1]] * trees, bundle.coverage[1])
    _refused(_with(bundle, Section.COVERAGE, encode_coverage(broken)), Reason.BUNDLE_COVERAGE, "coverage: got")


def test_a_gate_without_coverage_is_refused(bundle: Bundle) -> None:
    content = _with(bundle, Section.COVERAGE, encode_coverage(bundle.coverage[:1]))
    _refused(content, Reason.BUNDLE_COVERAGE, "0 bytes left at byte")


def _chain(depth: int) -> CoverageTree:
    """Splits distance at 30, then at 15, and so on, always on the left."""
    volume = np.zeros(4)
    volume[Label.OPEN] = 1.0
    later = [(30.0 * 0.5**level, 0.0) for level in range(1, depth)]
    return CoverageTree(
        feature=np.array([0, *[0, LEAF] * (depth - 1), LEAF, LEAF], np.int32),
        threshold=np.array([30.0, *np.ravel(later), 0.0, 0.0]),
        label=np.array([0, *[0, Label.OPEN] * (depth - 1), Label.OPEN, Label.OPEN], np.uint8),
        volume=volume,
    )


def test_a_tree_is_accepted_down_to_the_limit_of_depth(bundle: Bundle) -> None:
    deep = ((_chain(limits.MAX_COVERAGE_DEPTH), bundle.coverage[0][1]), bundle.coverage[1])
    accept(_with(bundle, Section.COVERAGE, encode_coverage(deep)))
    too_deep = ((_chain(limits.MAX_COVERAGE_DEPTH + 1), bundle.coverage[0][1]), bundle.coverage[1])
    content = _with(bundle, Section.COVERAGE, encode_coverage(too_deep))
    _refused(content, Reason.BUNDLE_COVERAGE, "1025 splits deep, expected at most 1024")


def _cell(name: str, row: int, column: int, value: float) -> Callable[[SelfTestVectors], SelfTestVectors]:
    def change(vectors: SelfTestVectors) -> SelfTestVectors:
        array = getattr(vectors, name).copy()
        array[row, column] = value
        return dataclasses.replace(vectors, **{name: array})

    return change


def _no_rows(vectors: SelfTestVectors) -> SelfTestVectors:
    parts = (getattr(vectors, field.name) for field in dataclasses.fields(vectors))
    return SelfTestVectors(*(part[:0] for part in parts))


BROKEN_VECTORS: dict[str, tuple[Callable[[SelfTestVectors], SelfTestVectors], str]] = {
    "none": (_no_rows, "no vectors"),
    "input not a number": (_cell("inputs", 1, 0, np.nan), "inputs that are not finite"),
    "input infinite": (_cell("inputs", 1, 0, np.inf), "inputs that are not finite"),
    "output not a number": (_cell("outputs", 1, 0, np.nan), "outputs that are not finite"),
    "lower bound not a number": (_cell("lower", 1, 0, np.nan), "an output outside its bounds"),
    "upper bound not a number": (_cell("upper", 1, 0, np.nan), "an output outside its bounds"),
    "lower bound above the output": (_cell("lower", 1, 0, 1.25), "an output outside its bounds"),
    "upper bound below the output": (_cell("upper", 1, 0, 0.75), "an output outside its bounds"),
    "upper bound missing": (_cell("upper", 1, 0, np.inf), "a bound on one side only"),
    "lower bound missing": (_cell("lower", 1, 0, -np.inf), "a bound on one side only"),
    "correction partly not a number": (_cell("corrected", 1, 0, np.nan), "corrected that are not finite"),
    "correction infinite": (_cell("corrected", 1, 0, np.inf), "corrected that are not finite"),
    "input off the wire": (
        _cell("inputs", 1, 1, 0.1),
        "inputs that tensor 'speed' cannot hold",
    ),
    "output off the wire": (_cell("outputs", 1, 0, 0.1), "outputs that tensor 'scores' cannot hold"),
    "correction off the wire": (_cell("corrected", 1, 0, 1e300), "corrected that tensor 'scores' cannot hold"),
    "fired outside": (_cell("fired", 3, 0, True), "a gate that fired outside its domain"),
    "corrected though nothing fired": (_cell("corrected", 0, 0, 0.5), "a correction where no gate fired"),
    "sign of zero changed though nothing fired": (_cell("corrected", 3, 0, 0.0), "a correction where no gate fired"),
    "another row for less": (lambda vectors: dataclasses.replace(vectors, inputs=vectors.inputs[:3]), "vectors: got "),
}


@pytest.mark.parametrize("defect", BROKEN_VECTORS)
def test_broken_vectors_are_refused(bundle: Bundle, defect: str) -> None:
    change, says = BROKEN_VECTORS[defect]
    content = _with(bundle, Section.VECTORS, encode_vectors(change(bundle.vectors)))
    _refused(content, Reason.BUNDLE_VECTORS, says)


def test_a_flag_that_is_neither_is_refused(bundle: Bundle) -> None:
    payload = encode_vectors(bundle.vectors)[:-1] + b"\x02"
    _refused(_with(bundle, Section.VECTORS, payload), Reason.BUNDLE_VECTORS, "a flag 2, expected 0 or 1")


def test_a_refused_row_is_accepted_with_one_kind_of_nan_only(bundle: Bundle) -> None:
    corrected = bundle.vectors.corrected.copy()
    corrected[1] = -np.nan
    payload = encode_vectors(dataclasses.replace(bundle.vectors, corrected=corrected))
    accept(_with(bundle, Section.VECTORS, payload))
    other_nan = payload.replace(np.float64(np.nan).tobytes(), np.uint64(0x7FF0000000000001).tobytes(), 1)
    _refused(_with(bundle, Section.VECTORS, other_nan), Reason.BUNDLE_VECTORS, "the one way")


BROKEN_SOURCES: dict[str, tuple[bytes, str]] = {
    "name not UTF-8": (
        encode_sources([PropertySource("\udcff.yaml", b"")]),
        "sources: got a file name b'\\xed\\xb3\\xbf.yaml' that is no UTF-8",
    ),
    "name empty": (encode_sources([PropertySource("", b"")]), "sources: file name: got '', expected a name"),
    "name with a line break": (encode_sources([PropertySource("a\nb", b"")]), "control characters"),
    "one missing": (b"\2\0\0\0" + encode_sources([PropertySource("a", b"")])[4:], "0 bytes left"),
}


@pytest.mark.parametrize("defect", BROKEN_SOURCES)
def test_broken_sources_are_refused(bundle: Bundle, defect: str) -> None:
    payload, says = BROKEN_SOURCES[defect]
    _refused(_with(bundle, Section.SOURCES, payload), Reason.BUNDLE_SOURCES, says)


def test_a_bundle_without_sources_is_accepted(bundle: Bundle) -> None:
    assert accept(_with(bundle, Section.SOURCES, encode_sources([]))).sources == ()
