"""The public benchmark files: all of them read, and mean what their comments say."""

import os
import pathlib
from fractions import Fraction

import pytest

from sidecar.properties.vnnlib import read_vnnlib
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

ROOT = pathlib.Path(__file__).resolve().parents[3]
DATA = (ROOT / os.environ.get("GATE_DATA", "../shared/data")).resolve()

FAMILIES = {
    "acasxu": ("*.vnnlib", 5, 5, 10),
    "mnist_fc": ("vnnlib/*.vnnlib.gz", 784, 10, 30),
    "oval21": ("vnnlib/*.vnnlib.gz", 3072, 10, 30),
    "sri_resnet_a": ("vnnlib/*.vnnlib.gz", 3072, 10, 6),
    "collins_rul_cnn": ("vnnlib/*_w20.vnnlib.gz", 400, 1, 0),
}


def signature(inputs: int, outputs: int) -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec("input", Datatype.FP32, (inputs,)),),
        outputs=(TensorSpec("output", Datatype.FP32, (outputs,)),),
        batch_axis=None,
    )


def folder(family: str) -> pathlib.Path:
    if not (DATA / family).is_dir():
        pytest.skip(f"NOT RUN: no public data at GATE_DATA ({DATA / family})")
    return DATA / family


@pytest.mark.parametrize("family", FAMILIES)
def test_all_public_files_are_read(family: str) -> None:
    pattern, inputs, outputs, at_least = FAMILIES[family]
    files = sorted(folder(family).glob(pattern))
    assert len(files) >= max(at_least, 1)
    for file in files if len(files) <= 10 else files[::12]:
        (stated,) = read_vnnlib(file, signature(inputs, outputs)).properties
        assert file.name.startswith(stated.trace.property_id)
        assert all(len(region.box.lower) == inputs for region in stated.domain)
        assert stated.requirement.clauses
        assert all(literal.strict for clause in stated.requirement.clauses for literal in clause)


def test_prop_6_is_one_property_over_two_boxes() -> None:
    (stated,) = read_vnnlib(folder("acasxu") / "prop_6.vnnlib", signature(5, 5)).properties
    assert [region.box.lower[1] for region in stated.domain] == [Fraction("0.11140846"), Fraction("-0.499999896")]
    assert [len(clause) for clause in stated.requirement.clauses] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "clauses"),
    [("prop_1", [1]), ("prop_2", [4]), ("prop_5", [1] * 4), ("prop_7", [3, 3]), ("prop_8", [2, 2, 2])],
)
def test_requirements_have_the_shape_that_the_file_states(name: str, clauses: list[int]) -> None:
    (stated,) = read_vnnlib(folder("acasxu") / f"{name}.vnnlib", signature(5, 5)).properties
    assert [len(clause) for clause in stated.requirement.clauses] == clauses
