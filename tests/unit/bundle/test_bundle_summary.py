"""What `inspect` shows."""

import dataclasses
import datetime
import json
import re
from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.acceptance import digest
from sidecar.bundle.codec import encode
from sidecar.bundle.naming import Naming, naming_of, value_names, wire_naming
from sidecar.bundle.readable import (
    interval_text,
    literal_text,
    number_text,
    region_lines,
    requirement_lines,
    share_text,
    value_text,
)
from sidecar.bundle.signature import SignedBy
from sidecar.bundle.summary import describe, render
from sidecar.bundle.values import Bundle, PropertySource
from sidecar.gates.values import Action, Box, Literal, Region, Requirement, terms
from sidecar.properties.vocabulary import Feature, Score, WireMap
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)), TensorSpec("t", Datatype.FP32, ())),
    outputs=(TensorSpec("scores", Datatype.FP32, (3,)), TensorSpec("grid", Datatype.FP32, (2, 2))),
    batch_axis=None,
)
NAMING = wire_naming(SIGNATURE)

PHYSICAL = Naming(
    inputs=(
        Feature("temperature", 0, WireMap(Fraction(1, 280), Fraction(-1, 14)), "degC"),
        Feature("depth", 1, WireMap(Fraction(-1, 10)), "m"),
        Feature("load", 2),
    ),
    outputs=tuple(Score(name, index, WireMap(Fraction(1, 3)), "kW") for index, name in enumerate("abcdefg")),
    origin="oven.yaml",
)

OVEN = b"""
inputs:
  - {tensor: distance, features: [{name: gap, unit: m, wire: {scale: 0.1}}]}
  - {tensor: speed, features: [{name: own_speed, unit: m/s}]}
outputs:
  - {tensor: scores, classes: [GO, {name: BRAKE, unit: kN}, REST]}
properties:
  - {id: a, when: 0 <= gap <= 1 and 0 <= own_speed <= 1, require: score(GO) <= 1}
"""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("60", "60"),
        ("-1500", "-1500"),
        ("201/2", "100.5"),
        ("1/3", "~0.333333333333"),
        ("-2/3", "-0.666666666667"),
        ("1/1000000", "0.000001"),
        ("123456789012345", "~1.23456789012e+14"),
        ("1e-30", "1e-30"),
        ("1e400", "1e+400"),
        ("1e-400", "1e-400"),
    ],
)
def test_a_number_is_decimal_and_says_when_it_is_rounded(value: str, text: str) -> None:
    assert number_text(Fraction(value)).removeprefix("~") == text.removeprefix("~")
    assert number_text(Fraction(value)).startswith("~") == (Fraction(text.removeprefix("~")) != Fraction(value))


@pytest.mark.parametrize(
    ("outputs", "inputs", "offset", "strict", "text"),
    [
        ({0: -1, 2: 1}, {}, "0", True, "scores[2] - scores[0] > 0"),
        ({0: -1}, {}, "1500", False, "scores[0] <= 1500"),
        ({0: -2, 1: -1}, {}, "1", True, "2*scores[0] + scores[1] < 1"),
        ({1: 1}, {}, "-1/2", False, "scores[1] >= 0.5"),
        ({6: 1}, {0: -3, 2: 1}, "0", True, "grid[1,1] + t - 3*x[0] > 0"),
        ({}, {}, "1", False, "0 >= -1"),
    ],
)
def test_a_literal_reads_as_people_write_it(
    outputs: dict[int, int], inputs: dict[int, int], offset: str, strict: bool, text: str
) -> None:
    literal = Literal(
        outputs=terms({index: Fraction(value) for index, value in outputs.items()}),
        inputs=terms({index: Fraction(value) for index, value in inputs.items()}),
        offset=Fraction(offset),
        strict=strict,
    )
    assert literal_text(literal, NAMING) == text


def test_a_requirement_has_a_line_for_each_literal() -> None:
    literals = [Literal(((index, Fraction(1)),), (), Fraction(0), strict=True) for index in range(3)]
    requirement = Requirement(((literals[0],), (literals[1], literals[2]), (literals[0],)))
    assert requirement_lines(requirement, NAMING) == [
        "scores[0] > 0",
        "and scores[1] > 0",
        "  or scores[2] > 0",
        "and scores[0] > 0",
    ]


def test_a_region_has_its_features_below_one_another() -> None:
    box = Box((Fraction(-10), Fraction(0), Fraction(1, 2)), (Fraction(10), Fraction(0), Fraction(1)))
    cut = Literal((), ((0, Fraction(1)),), Fraction(0), strict=False)
    assert region_lines(Region(box, (cut,)), NAMING) == [
        "-10 <= x[0] <= 10",
        "  0 <= x[1] <= 0",
        "0.5 <= t    <= 1",
        "x[0] >= 0",
    ]


def test_names_count_like_rows() -> None:
    assert value_names(SIGNATURE.outputs) == (
        "scores[0]",
        "scores[1]",
        "scores[2]",
        "grid[0,0]",
        "grid[0,1]",
        "grid[1,0]",
        "grid[1,1]",
    )


def test_the_description_is_json_with_exact_numbers(bundle: Bundle) -> None:
    described = json.loads(json.dumps(describe(bundle)))
    assert described["digest"] == digest(encode(bundle))
    assert described["bytes"] == len(encode(bundle))
    assert described["manifest"]["properties"][0]["owner"] == "safety@example.org"
    assert described["gates"][1]["domain"][0]["lower"] == ["-1/3", "0"]
    assert described["gates"][0]["coverage"][0] == {"silent": 0.75, "violating": 0.1875, "open": 0.0625, "leaves": 3}
    assert described["vectors"] == {"rows": 4, "fired": 2, "certified": 3, "widest": 0.5}
    assert described["sources"] == [{"origin": "brake.yaml", "bytes": 37}, {"origin": "empty.vnnlib", "bytes": 0}]


def test_the_text_shows_every_property_with_its_traceability_gate_and_coverage(bundle: Bundle) -> None:
    text = render(bundle)
    assert not any(line != line.rstrip() for line in text.splitlines())
    for line in (
        "guards          model brake, the first dimension counts rows",
        "revision        7",
        f"bundle          sha256 {digest(encode(bundle))}",
        "                2,594 bytes, format version 1",
        "                served in IEEE float32, in any order of summation",
        "names           the tensors' own, in wire units; ~ marks a rounded number, --json has it exactly",
        "inputs          distance FP32 [1]",
        "                speed FP32 []",
        "option          max-regions = 3,1,1",
        "self-test       4 rows, a gate fires on 2 of them",
        "probe           3 of these rows; the answers are proved to within intervals no wider than 0.5",
        "source          brake.yaml, 37 bytes",
        "property brake-when-near",
        "  hazard           H-1: collision",
        "                   See the hazard analysis, § 3.",
        "  when             0 <= distance[0] <= 60",
        "  or when          50 <= distance[0] <= 100.5",
        "                   10*speed - distance[0] >= 0",
        "  require          scores[1] - scores[0] >= 0",
        "                     or scores[2] + distance[0] > 1000",
        "  on violation     project: the nearest satisfying answer (l2), margin 0",
        "  proved in box 1  silent 75.0000%  violating 18.7500%  open 6.2500%  in 3 boxes",
        "property bounded-score",
        "  mode          shadow, unless sidecar serve --mode says otherwise",
        "  require       scores[2] <= 1500",
        "  on violation  fallback: the client gets",
        "                  scores[2] = 0.5",
        "  proved        silent 0.0000%  violating 0.0000%  open 100.0000%  in 1 box",
    ):
        assert line in text.splitlines()


def test_what_is_unusual_is_shown_too(bundle: Bundle) -> None:
    signature = bundle.manifest.signature.with_batch_axis(None)
    refusing = dataclasses.replace(bundle.gates[1], action=Action.REFUSE, fallback=None, requirement=Requirement(()))
    changed = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, signature=signature), gates=(bundle.gates[0], refusing)
    )
    unknown = np.full_like(bundle.vectors.lower, -np.inf)
    changed = dataclasses.replace(changed, vectors=dataclasses.replace(bundle.vectors, lower=unknown, upper=-unknown))
    text = render(changed)
    assert "no upstream can be probed" in text
    assert "model brake, one row per message" in text
    assert "  require       nothing" in text
    assert "  on violation  refuse" in text


def test_a_long_domain_is_shortened(bundle: Bundle) -> None:
    size = 784
    region = Region(Box((Fraction(0),) * size, (Fraction(1),) * size))
    manifest = dataclasses.replace(
        bundle.manifest,
        signature=dataclasses.replace(
            bundle.manifest.signature, inputs=(TensorSpec("image", Datatype.FP32, (28, 28)),)
        ),
        properties=bundle.manifest.properties[1:],
    )
    gates = (dataclasses.replace(bundle.gates[1], domain=(region,)),)
    lines = render(dataclasses.replace(bundle, manifest=manifest, gates=gates, coverage=bundle.coverage[1:]))
    assert "                ... and 760 more, see --json" in lines.splitlines()


def test_a_literal_is_told_in_the_units_of_its_names() -> None:
    literal = Literal(
        outputs=terms({0: Fraction(-3)}), inputs=terms({0: Fraction(28)}), offset=Fraction(1), strict=False
    )
    # -3 * (a / 3) + 28 * (temperature / 280 - 1/14) + 1 >= 0
    assert literal_text(literal, PHYSICAL) == "0.1*temperature - a >= 1"


def test_a_region_is_told_in_units_with_ends_in_order_and_few_digits() -> None:
    box = Box((Fraction(0), Fraction(-10), Fraction(1, 3)), (Fraction(0.1), Fraction(5), Fraction(1)))
    assert region_lines(Region(box, ()), PHYSICAL) == [
        "        20 <= temperature <= ~48 degC",
        "       -50 <= depth       <= 100 m",
        "~0.3333333 <= load        <= 1",
    ]
    assert value_text(PHYSICAL.outputs[0], Fraction(1, 2)) == "1.5 kW"
    assert interval_text(PHYSICAL.inputs[1], Fraction(-10), Fraction(5)) == "depth in [-50, 100] m"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0000%"),
        (1e-9, "<0.0001%"),
        (0.4999999, "50.0000%"),
        (1 - 1e-9, ">99.9999%"),
        (1 - 1e-15, "100.0000%"),
        (1.0, "100.0000%"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert share_text(share) == text


def test_names_come_from_the_property_file_inside(bundle: Bundle) -> None:
    assert naming_of(bundle) == wire_naming(bundle.manifest.signature)
    named = dataclasses.replace(bundle, sources=(*bundle.sources, PropertySource("oven.yaml", OVEN)))
    naming = naming_of(named)
    assert naming.origin == "oven.yaml"
    assert [feature.name for feature in naming.inputs] == ["gap", "own_speed"]
    assert [(score.name, score.unit) for score in naming.outputs] == [("GO", ""), ("BRAKE", "kN"), ("REST", "")]
    text = render(named)
    assert "names           as in oven.yaml, in its units;" in text
    assert re.search(r"when +0 <= gap +<= 600 m\n", text)


def test_outputs_that_the_property_file_leaves_out_keep_the_tensors_names(bundle: Bundle) -> None:
    content = b"""
inputs: [{tensor: x, features: [{name: u}, {name: v}]}, {tensor: t, features: [{name: w}]}]
outputs: [{tensor: scores, classes: [A, B, C]}]
properties: [{id: a, when: 0 <= u <= 1 and 0 <= v <= 1 and 0 <= w <= 1, require: score(A) <= 1}]
"""
    other = dataclasses.replace(bundle.manifest, signature=SIGNATURE)
    naming = naming_of(dataclasses.replace(bundle, manifest=other, sources=(PropertySource("p.yaml", content),)))
    names = [output.name for output in naming.outputs]
    assert names == ["A", "B", "C", "grid[0,0]", "grid[0,1]", "grid[1,0]", "grid[1,1]"]


def test_the_text_fits_the_screen_and_says_what_is_proved_and_what_happens(bundle: Bundle) -> None:
    long = dataclasses.replace(bundle.manifest.properties[0].trace, rationale="Because it is so. " * 20)
    records = (dataclasses.replace(bundle.manifest.properties[0], trace=long), *bundle.manifest.properties[1:])
    shown = render(dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, properties=records)))
    assert max(map(len, shown.splitlines())) <= 100
    for words in (
        "No input there makes the verified model violate",
        "Neither is proved",
        "is checked exactly",
        "breach",
    ):
        assert words in shown


def test_a_signature_is_shown_with_its_end(bundle):
    end = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    text = render(bundle, SignedBy("a" * 64, end))
    assert "by key aaaa" in text
    assert "until 2027-01-01 00:00:00 UTC" in text
    assert "for ever" in render(bundle, SignedBy("a" * 64))
    described = describe(bundle, SignedBy("a" * 64, end))
    assert (described["signed_by"], described["signature_ends"]) == ("a" * 64, "2027-01-01T00:00:00+00:00")
    assert describe(bundle, SignedBy("a" * 64))["signature_ends"] is None
