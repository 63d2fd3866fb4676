"""A small model that the property files of these tests are about: two features, three classes."""

import pathlib
from collections.abc import Callable

import pytest

from sidecar.properties.reader import read_properties
from sidecar.properties.values import PropertyFile
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

FILE = """\
inputs:
  - tensor: features
    features:
      - {name: gap, unit: m, range: [0, 150]}
      - {name: speed, unit: m/s, range: [-20, 20]}
outputs:
  - tensor: scores
    best: largest
    classes: [BRAKE, HOLD, ACCELERATE]
properties:
  - id: brake
    when: gap <= 20 and speed >= 5
    require: best == BRAKE
"""


@pytest.fixture
def signature() -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec("features", Datatype.FP32, (2,)),),
        outputs=(TensorSpec("scores", Datatype.FP32, (3,)),),
        batch_axis=0,
    )


@pytest.fixture
def yaml_text() -> str:
    """A good file, for tests to vary."""
    return FILE


@pytest.fixture
def read(tmp_path: pathlib.Path, signature: ModelSignature) -> Callable[..., PropertyFile]:
    """Reads a text as a property file; by default a YAML file called p.yaml."""

    def reader(text: str, name: str = "p.yaml") -> PropertyFile:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_properties(path, signature)

    return reader
