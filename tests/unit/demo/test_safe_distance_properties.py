"""The demo's property file says what it means to say, with everything that an auditor asks for."""

from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import Label
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.demo.driving import ADVICE, LARGEST, LOWER, MODEL_PATH, PROPERTIES_PATH, UPPER
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Action, Mode
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from sidecar.properties.values import Property, PropertyFile


@pytest.fixture(scope="module")
def file() -> PropertyFile:
    return read_properties(PROPERTIES_PATH, read_model(MODEL_PATH).network.signature)


def stated(property_id: str, gap: Fraction, own: Fraction, closing: Fraction) -> bool:
    """The domains once more, by hand and in physical units."""
    return {
        "brake-when-closing-in": gap <= 40 and closing >= 10,
        "brake-when-tailgating": 10 * gap <= 9 * own and 2 * closing >= -3,
        "no-acceleration-at-top-speed": own >= 37 and closing >= -5,
    }[property_id]


def test_domains_in_wire_units_are_the_stated_ones(file: PropertyFile) -> None:
    for row in np.random.default_rng(21).uniform(LOWER, UPPER, (3000, len(LOWER))):
        physical = [Fraction(value) * Fraction(scale) for value, scale in zip(row, LARGEST, strict=True)]
        for one in file.properties:
            inside = any(region_contains(region, row) for region in one.domain)
            assert inside == stated(one.trace.property_id, *physical)


@pytest.mark.parametrize("best", range(len(ADVICE)))
def test_requirements_allow_the_stated_advice(file: PropertyFile, best: int) -> None:
    scores = np.where(np.arange(len(ADVICE)) == best, 1.0, 0.0)
    allowed = {
        one.trace.property_id: requirement_holds(one.requirement, np.zeros(3), scores) for one in file.properties
    }
    brakes = ADVICE[best] in {"BRAKE_HARD", "BRAKE"}
    assert allowed == {
        "brake-when-closing-in": brakes,
        "brake-when-tailgating": brakes,
        "no-acceleration-at-top-speed": ADVICE[best] != "ACCELERATE",
    }


def test_every_property_is_traceable_and_enforced(file: PropertyFile) -> None:
    def complete(one: Property) -> bool:
        trace = one.trace
        return all((trace.title, trace.hazard, trace.rationale, trace.owner, trace.severity))

    assert all(complete(one) for one in file.properties)
    assert {(one.action, one.mode) for one in file.properties} == {(Action.PROJECT, Mode.ENFORCE)}


def test_file_names_the_model_and_its_batch_axis(file: PropertyFile) -> None:
    assert (file.model_name, file.batch_axis) == ("safe_distance", 0)


def test_most_of_each_domain_is_proved_silent_and_some_of_it_violating() -> None:
    model = read_model(MODEL_PATH)
    files = [read_properties(PROPERTIES_PATH, model.network.signature)]
    compiled = compile_bundle(with_batch_axis(model, files), files, CompileOptions(), lambda _: None)
    for (tree,) in compiled.bundle.coverage:
        assert tree.volume[Label.SILENT] > 0.8
        assert tree.volume[Label.VIOLATING] > 0
        assert tree.volume[Label.OPEN] < 0.05
