"""Law of the YAML reader: whatever the wire maps, a property decides about a physical point the same."""

import pathlib
from collections.abc import Callable
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from sidecar.gates.values import Literal
from sidecar.properties.values import Property
from sidecar.properties.yaml_reader import read_yaml
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)),), outputs=(TensorSpec("y", Datatype.FP32, (2,)),), batch_axis=0
)
NAMES = ("gap", "speed", "A", "B")

WHENS = (
    "gap <= 2",
    "gap < 2 and speed >= -1",
    "-1 <= gap <= speed",
    "gap == 1 or not (speed <= 0)",
    "(gap + 2 * speed) / 3 <= 0.5",
)
REQUIREMENTS = (
    "best == A",
    "best != A",
    "score(A) - score(B) >= 0.5",
    "score(A) <= gap or score(B) > 1/2",
    "not (best == A and score(A) >= 1)",
)

Maps = tuple[tuple[str, str], ...]
IDENTITY: Maps = (("1", "0"),) * 4

scales = st.sampled_from(["1", "-1", "1/150", "-0.05", "2.5", "1/6.28318530718"])
offsets = st.sampled_from(["0", "-0.5", "-19791.091/60261", "3"])
maps = st.tuples(*[st.tuples(scales, offsets)] * 4)
points = st.tuples(*[st.integers(-6, 6).map(lambda n: Fraction(n, 2))] * 4)


def document(when: str, require: str, best: str, wires: Maps) -> str:
    gap, speed, a, b = (f"wire: {{scale: {scale}, offset: {offset}}}" for scale, offset in wires)
    return f"""\
inputs:
  - tensor: x
    features: [{{name: gap, range: [-3, 3], {gap}}}, {{name: speed, range: [-3, 3], {speed}}}]
outputs:
  - tensor: y
    best: {best}
    classes: [{{name: A, {a}}}, {{name: B, {b}}}]
properties:
  - id: p
    when: {when}
    require: {require}
"""


def fraction(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(numerator) / Fraction(denominator or "1")


def verdict(stated: Property, wire: list[Fraction]) -> tuple[bool, bool]:
    """Whether the point is in the domain, and whether it satisfies the requirement."""
    inputs, outputs = wire[:2], wire[2:]

    def holds(literal: Literal) -> bool:
        total = sum(c * outputs[i] for i, c in literal.outputs) + sum(c * inputs[i] for i, c in literal.inputs)
        return total + literal.offset > 0 or (total + literal.offset == 0 and not literal.strict)

    inside = any(
        all(low <= x <= high for low, x, high in zip(region.box.lower, inputs, region.box.upper, strict=True))
        and all(map(holds, region.cuts))
        for region in stated.domain
    )
    return inside, all(any(map(holds, clause)) for clause in stated.requirement.clauses)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Property]:
    file: pathlib.Path = tmp_path_factory.mktemp("units") / "p.yaml"

    def reader(text: str) -> Property:
        file.write_text(text)
        return read_yaml(file, SIGNATURE).properties[0]

    return reader


@settings(max_examples=50, deadline=None)
@given(
    when=st.sampled_from(WHENS),
    require=st.sampled_from(REQUIREMENTS),
    best=st.sampled_from(["largest", "smallest"]),
    wires=maps,
    samples=st.lists(points, min_size=8, max_size=8),
)
def test_units_on_the_wire_do_not_change_what_a_property_says(
    read: Callable[[str], Property],
    when: str,
    require: str,
    best: str,
    wires: Maps,
    samples: list[tuple[Fraction, ...]],
) -> None:
    plain = read(document(when, require, best, IDENTITY))
    mapped = read(document(when, require, best, wires))
    for point in samples:
        wire = [fraction(scale) * x + fraction(offset) for x, (scale, offset) in zip(point, wires, strict=True)]
        assert verdict(mapped, wire) == verdict(plain, list(point))
