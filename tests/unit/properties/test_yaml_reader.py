import pathlib
from collections.abc import Callable
from fractions import Fraction

import pytest

from sidecar.errors import InputError
from sidecar.gates.values import Action, Literal, Mode, Norm
from sidecar.properties.reader import vocabulary_of
from sidecar.properties.values import PropertyFile, Severity, Traceability
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.properties.yaml_reader import read_yaml
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

Read = Callable[..., PropertyFile]


def test_a_small_file_with_all_defaults(read: Read, yaml_text: str) -> None:
    file = read(yaml_text)
    (stated,) = file.properties
    assert stated.trace == Traceability("brake")
    assert (stated.action, stated.mode, stated.norm) == (Action.PROJECT, Mode.ENFORCE, Norm.L2)
    assert (stated.margin, stated.fallback) == (0, None)
    assert stated.domain[0].box.lower == (0, 5)
    assert stated.domain[0].box.upper == (20, 20)
    assert [len(clause) for clause in stated.requirement.clauses] == [1, 1]
    assert (file.origin, file.source) == ("p.yaml", yaml_text.encode())
    assert (file.model_name, file.batch_axis) == (None, None)


def test_all_fields_travel(read: Read, yaml_text: str) -> None:
    file = read(
        "model:\n  name: safe distance\n  batch_axis: 0\n"
        + yaml_text
        + """\
    title: Brakes when close
    hazard: collision
    rationale: |
      Braking distance
      at 20 m/s.
    owner: team
    severity: warning
    action: fallback
    fallback: {HOLD: 0.1, BRAKE: 1, ACCELERATE: -0.1}
    margin: 0.1
    norm: linf
    mode: off
""",
        "p.yml",
    )
    assert (file.model_name, file.batch_axis) == ("safe distance", 0)
    (stated,) = file.properties
    assert stated.trace == Traceability(
        "brake", "Brakes when close", "collision", "Braking distance\nat 20 m/s.", "team", Severity.WARNING
    )
    assert (stated.action, stated.mode, stated.norm) == (Action.FALLBACK, Mode.OFF, Norm.LINF)
    assert stated.margin == Fraction(1, 10)
    tenth = Fraction(13421773, 2**27)
    assert stated.fallback == (1, tenth, -tenth)


def test_batch_axis_may_be_none(read: Read, yaml_text: str) -> None:
    assert read("model: {batch_axis: none}\n" + yaml_text).batch_axis is None


def test_without_when_the_property_holds_in_all_declared_ranges(read: Read, yaml_text: str) -> None:
    file = read(yaml_text.replace("    when: gap <= 20 and speed >= 5\n", ""))
    assert file.properties[0].domain[0].box.lower == (0, -20)
    assert file.properties[0].domain[0].box.upper == (150, 20)


def test_wire_maps_turn_bounds_and_coefficients_exactly(read: Read, yaml_text: str) -> None:
    text = yaml_text.replace("range: [0, 150]", "range: [0, 150], wire: {scale: 1/150, offset: 0.5}")
    text = text.replace("range: [-20, 20]", "range: [-20, 20], wire: {scale: -0.05}")
    text = text.replace("[BRAKE,", "[{name: BRAKE, unit: s, wire: {scale: 2, offset: 3}},")
    text = text.replace("best == BRAKE", "score(BRAKE) - score(HOLD) >= gap / 10")
    (stated,) = read(text).properties
    assert stated.domain[0].box.lower == (Fraction(1, 2), -1)
    assert stated.domain[0].box.upper == (Fraction(1, 2) + Fraction(20, 150), Fraction(-1, 4))
    # (y0 - 3) / 2 - y1 - 15 (x0 - 1/2) >= 0
    half = Fraction(1, 2)
    expected = Literal(((0, half), (1, Fraction(-1))), ((0, Fraction(-15)),), Fraction(-3, 2) + Fraction(15, 2), False)
    assert stated.requirement.clauses == ((expected,),)


def test_fallback_is_turned_into_wire_units_and_rounded(read: Read, yaml_text: str) -> None:
    text = yaml_text.replace("[BRAKE,", "[{name: BRAKE, wire: {scale: 1/3}},")
    text += "    action: fallback\n    fallback: {BRAKE: 1, HOLD: 1/2, ACCELERATE: 0}\n"
    fallback = read(text).properties[0].fallback
    assert fallback == (Fraction(11184811, 2**25), Fraction(1, 2), 0)


def test_equality_and_unions_in_when(read: Read, yaml_text: str) -> None:
    text = yaml_text.replace("gap <= 20 and speed >= 5", "gap == 3 and (speed < 0 or speed > 5) or 7 <= gap <= 8")
    boxes = [region.box for region in read(text).properties[0].domain]
    assert [(box.lower, box.upper) for box in boxes] == [((3, -20), (3, 0)), ((3, 5), (3, 20)), ((7, -20), (8, 20))]


def test_not_unequal_is_equal(read: Read, yaml_text: str) -> None:
    box = read(yaml_text.replace("gap <= 20", "not gap != 3")).properties[0].domain[0].box
    assert (box.lower[0], box.upper[0]) == (3, 3)


def test_negation_in_when_is_closed(read: Read, yaml_text: str) -> None:
    boxes = [r.box for r in read(yaml_text.replace("gap <= 20 and", "not (10 <= gap <= 20) and")).properties[0].domain]
    assert [(box.lower[0], box.upper[0]) for box in boxes] == [(0, 10), (20, 150)]


def test_features_may_state_their_index(read: Read, yaml_text: str) -> None:
    text = yaml_text.replace("{name: gap,", "{name: gap, index: 1,").replace("{name: speed,", "{name: speed, index: 0,")
    assert read(text).properties[0].domain[0].box.upper == (20, 20)
    assert read(text).properties[0].domain[0].box.lower == (5, 0)


def test_several_tensors_stand_in_the_row_in_the_models_order(tmp_path: pathlib.Path) -> None:
    signature = ModelSignature(
        inputs=(TensorSpec("a", Datatype.FP32, (1, 2)), TensorSpec("b", Datatype.FP32, ())),
        outputs=(TensorSpec("aside", Datatype.FP32, (2,)), TensorSpec("scores", Datatype.FP64, (2,))),
        batch_axis=None,
    )
    (tmp_path / "p.yaml").write_text(
        """\
inputs:
  - {tensor: b, features: [{name: b0, range: [0, 1]}]}
  - {tensor: a, features: [{name: a0, range: [2, 3]}, {name: a1, range: [4, 5]}]}
outputs:
  - {tensor: scores, best: smallest, classes: [P, Q]}
properties:
  - {id: p, require: best == P}
"""
    )
    (stated,) = read_yaml(tmp_path / "p.yaml", signature).properties
    assert stated.domain[0].box.lower == (2, 4, 0)
    assert stated.requirement.clauses == ((Literal(((2, Fraction(-1)), (3, Fraction(1))), (), Fraction(0), True),),)


TWO_OUTPUTS = """\
inputs:
  - {tensor: x, features: [{name: a, range: [0, 1]}]}
outputs:
  - {tensor: y, best: largest, classes: [P, Q]}
  - {tensor: z, classes: [R]}
properties:
  - {id: p, require: best == P and score(R) <= score(Q)}
"""


@pytest.fixture
def read_two(tmp_path: pathlib.Path) -> Callable[[str], PropertyFile]:
    signature = ModelSignature(
        inputs=(TensorSpec("x", Datatype.FP32, (1,)),),
        outputs=(TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("z", Datatype.FP32, (1,))),
        batch_axis=0,
    )

    def reader(text: str) -> PropertyFile:
        (tmp_path / "p.yaml").write_text(text)
        return read_yaml(tmp_path / "p.yaml", signature)

    return reader


def test_scores_of_all_outputs_can_be_compared(read_two: Callable[[str], PropertyFile]) -> None:
    assert len(read_two(TWO_OUTPUTS).properties[0].requirement.clauses) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("z, classes", "z, best: largest, classes", "another output has best already"),
        ("best == P", "best == R", "R is not among the classes that best compares"),
        ("  - {tensor: z, classes: [R]}\n", "", "no output is called 'R'"),
        ("inputs:\n  - {tensor: x,", "inputs:\n  - {tensor: w,", "no such tensor left to describe: 'w'"),
    ],
)
def test_mistakes_with_several_outputs(
    read_two: Callable[[str], PropertyFile], old: str, new: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_two(TWO_OUTPUTS.replace(old, new))


def test_fallback_needs_all_outputs_described(read_two: Callable[[str], PropertyFile]) -> None:
    text = TWO_OUTPUTS.replace("  - {tensor: z, classes: [R]}\n", "").replace(" and score(R) <= score(Q)", "")
    with pytest.raises(InputError, match="describe all of them under outputs"):
        read_two(text.replace("best == P}", "best == P, action: fallback, fallback: {P: 1, Q: 0}}"))


def test_undescribed_input_is_named(tmp_path: pathlib.Path) -> None:
    signature = ModelSignature(
        inputs=(TensorSpec("x", Datatype.FP32, (1,)), TensorSpec("w", Datatype.FP32, (1,))),
        outputs=(TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("z", Datatype.FP32, (1,))),
        batch_axis=0,
    )
    (tmp_path / "p.yaml").write_text(TWO_OUTPUTS)
    with pytest.raises(InputError, match=r"p\.yaml:2:3: inputs: the model's input 'w' is not described"):
        read_yaml(tmp_path / "p.yaml", signature)


def test_a_fixed_batch_is_recognised_as_such(tmp_path: pathlib.Path, yaml_text: str) -> None:
    signature = ModelSignature(
        inputs=(TensorSpec("features", Datatype.FP32, (7, 2)),),
        outputs=(TensorSpec("scores", Datatype.FP32, (7, 3)),),
        batch_axis=None,
    )
    (tmp_path / "p.yaml").write_text(yaml_text)
    with pytest.raises(InputError, match=r"2 names .* row of shape \[7, 2\]; if the 7 counts rows"):
        read_yaml(tmp_path / "p.yaml", signature)


def test_overlong_text_is_refused(read: Read, yaml_text: str) -> None:
    with pytest.raises(InputError, match="a text of 70000 characters"):
        read(yaml_text + "    title: " + "x" * 70_000 + "\n")


def test_suggestions_list_some_names_where_none_is_near(read: Read, yaml_text: str) -> None:
    with pytest.raises(InputError, match=r"no feature is called 'weather'; known: gap, speed$"):
        read(yaml_text.replace("gap <= 20", "weather <= 20"))


def test_file_with_many_features_is_read(tmp_path: pathlib.Path) -> None:
    count = 300
    text, signature = _large(count, classes=2)
    (tmp_path / "p.yaml").write_text(text + "  - {id: p, require: score(C0) >= score(C1)}\n")
    assert len(read_yaml(tmp_path / "p.yaml", signature).properties[0].domain[0].box.lower) == count


def test_too_many_properties_of_too_many_features_are_refused(tmp_path: pathlib.Path) -> None:
    text, signature = _large(300, classes=2)
    (tmp_path / "p.yaml").write_text(text + "  - {id: p}\n" * 4000)
    with pytest.raises(InputError, match="4000 properties of so many features"):
        read_yaml(tmp_path / "p.yaml", signature)


def test_too_many_comparisons_of_classes_are_refused(tmp_path: pathlib.Path) -> None:
    text, signature = _large(1, classes=1000)
    (tmp_path / "p.yaml").write_text(text + f"  - {{id: p, require: {' and '.join(['best == C0'] * 101)}}}\n")
    with pytest.raises(InputError, match="best compares more than 100000 pairs"):
        read_yaml(tmp_path / "p.yaml", signature)


def _large(count: int, classes: int) -> tuple[str, ModelSignature]:
    signature = ModelSignature(
        inputs=(TensorSpec("x", Datatype.FP32, (count,)),),
        outputs=(TensorSpec("y", Datatype.FP32, (classes,)),),
        batch_axis=0,
    )
    names = ", ".join(f"C{i}" for i in range(classes))
    features = "".join(f"      - {{name: p{i}, range: [0, 1]}}\n" for i in range(count))
    inputs = f"inputs:\n  - tensor: x\n    features:\n{features}"
    outputs = f"outputs:\n  - {{tensor: y, best: largest, classes: [{names}]}}\n"
    return f"{inputs}{outputs}properties:\n", signature


def test_vocabulary_of_a_kept_file_can_be_read_again(yaml_text: str, signature: ModelSignature) -> None:
    vocabulary = vocabulary_of("p.yaml", yaml_text.encode(), signature)
    assert vocabulary is not None
    assert [feature.name for feature in vocabulary.features] == ["gap", "speed"]
    assert list(vocabulary.scores) == ["BRAKE", "HOLD", "ACCELERATE"]
    assert vocabulary_of("p.vnnlib", b"", signature) is None


# -- ACAS Xu -------------------------------------------------------------------------------------------------

SCORE = "wire: {scale: 1/373.94992, offset: -7.5188840201005975/373.94992}"
ACASXU = f"""\
# Airborne collision avoidance. The network advises what costs least, so the smallest score wins.
inputs:
  - tensor: input
    features:
      - {{name: rho, unit: ft, range: [0, 60760], wire: {{scale: 1/60261, offset: -19791.091/60261}}}}
      - {{name: theta, unit: rad, range: [-3.14159265359, 3.14159265359], wire: {{scale: 1/6.28318530718}}}}
      - {{name: psi, unit: rad, range: [-3.14159265359, 3.14159265359], wire: {{scale: 1/6.28318530718}}}}
      - {{name: v_own, unit: ft/s, range: [100, 1200], wire: {{scale: 1/1100, offset: -650/1100}}}}
      - {{name: v_int, unit: ft/s, range: [0, 1200], wire: {{scale: 1/1200, offset: -600/1200}}}}
outputs:
  - tensor: output
    best: smallest
    classes:
      - {{name: COC, {SCORE}}}
      - {{name: WL, {SCORE}}}
      - {{name: WR, {SCORE}}}
      - {{name: SL, {SCORE}}}
      - {{name: SR, {SCORE}}}
properties:
  - id: far_and_slow_is_not_worst
    title: A distant, slow intruder never makes "clear of conflict" the worst advisory
    when: rho >= 55947.691 and v_own >= 1145 and v_int <= 60
    require: |
      score(COC) < score(WL) or score(COC) < score(WR)
      or score(COC) < score(SL) or score(COC) < score(SR)
"""


def acasxu_signature() -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec("input", Datatype.FP32, (1, 1, 5)),),
        outputs=(TensorSpec("output", Datatype.FP32, (5,)),),
        batch_axis=0,
    )


def direction(literal: Literal) -> Literal:
    """The same half-space, its first coefficient made +1 or -1."""
    scale = abs(literal.outputs[0][1])
    outputs = tuple((index, value / scale) for index, value in literal.outputs)
    return Literal(outputs, (), literal.offset / scale, literal.strict)


def test_acasxu_in_physical_units_says_the_same_as_the_public_prop_2(
    tmp_path: pathlib.Path, acasxu: pathlib.Path
) -> None:
    (tmp_path / "acasxu.yaml").write_text(ACASXU)
    (ours,) = read_yaml(tmp_path / "acasxu.yaml", acasxu_signature()).properties
    (public,) = read_vnnlib(acasxu / "prop_2.vnnlib", acasxu_signature()).properties
    (clause,), (public_clause,) = ours.requirement.clauses, public.requirement.clauses
    assert {direction(literal) for literal in clause} == {direction(literal) for literal in public_clause}
    (region,), (public_region,) = ours.domain, public.domain
    # The public file rounds its bounds to nine decimals.
    for ours_side, public_side in (
        (region.box.lower, public_region.box.lower),
        (region.box.upper, public_region.box.upper),
    ):
        assert all(abs(a - b) < Fraction(1, 10**9) for a, b in zip(ours_side, public_side, strict=True))


def test_acasxu_margins_are_in_physical_units(tmp_path: pathlib.Path) -> None:
    text = ACASXU + "    margin: 1\n"
    (tmp_path / "acasxu.yaml").write_text(text)
    (stated,) = read_yaml(tmp_path / "acasxu.yaml", acasxu_signature()).properties
    literal = stated.requirement.clauses[0][0]
    assert stated.margin == 1
    assert abs(literal.outputs[0][1]) == Fraction("373.94992")


def test_places_after_an_escaped_line_end_are_found(read: Read, yaml_text: str) -> None:
    with pytest.raises(InputError, match=r"p\.yaml:12:27: no feature is called 'sped'"):
        read(yaml_text.replace("gap <= 20 and speed >= 5", r'"gap <= 20\nand sped >= 5"'))
