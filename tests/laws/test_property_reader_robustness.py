"""Whatever stands in a property file: it is read, or refused with an InputError of one line. Never anything else."""

import contextlib
import pathlib

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from sidecar.errors import InputError
from sidecar.properties.reader import read_properties
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)),), outputs=(TensorSpec("y", Datatype.FP32, (2,)),), batch_axis=0
)

YAML = """\
model: {name: m, batch_axis: 0}
inputs:
  - tensor: x
    features: [{name: gap, range: [-3, 3], wire: {scale: 1/3, offset: 0.5}}, {name: speed, unit: m, range: [-3, 3]}]
outputs:
  - tensor: y
    best: largest
    classes: [A, {name: B, wire: {scale: -2}}]
properties:
  - id: p
    title: "a 'title'"
    when: |
      gap <= 2 and (speed >= -1 or not gap - speed < 1)
    require: best == A or score(B) / 2 > 1
    action: fallback
    fallback: {A: 1, B: 0}
    margin: 0.1
"""
VNNLIB = """\
; comment
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (and (<= X_0 1.5) (>= X_0 -1e0) (<= X_1 1) (>= X_1 0)))
(assert (or (and (<= Y_0 Y_1) (<= X_0 0)) (>= (+ (* 2 Y_0) (- X_1)) 1)))
"""
VNNLIB_2 = """\
; comment
(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1,2] "x") (declare-output Y Real [ 1 , 2 ] "y"))
(assert (and (<= X[0,0] 1.5) (>= X[0,0] -1e0) (<= X[0,1] 1) (>= X[0,1] 0)))
(assert (or (and (<= Y[0,0] Y[0,1]) (!= X[0,0] 0)) (== (+ (* 2 Y[0,0]) (- X[0,1])) 1)))
"""
LETTERS = """
and or not in best score A B gap speed == != <= >= < > + - * / ( ) { } , 1 0.5 1e9 1/3 id when require
: [ ] | & ! # ' " ; X_0 Y_0 Y_9 assert declare-const Real float32 X[0,0] Y[0,1] [1,2] declare-hidden é ٣ \\U0010FFFF
"""
WORDS = [*LETTERS.split(), "\n", "\ufeff", "\u2028"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("hostile")


def is_read_or_refused(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert read_properties(path, SIGNATURE).properties


names = st.sampled_from(["p.yaml", "p.vnnlib", "p.vnnlib.gz"])
soup = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=40).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(name=names, content=st.binary(max_size=200))
def test_any_bytes(folder: pathlib.Path, name: str, content: bytes) -> None:
    is_read_or_refused(folder / name, content)


@settings(max_examples=80, deadline=None)
@given(name=names, content=soup)
def test_any_words(folder: pathlib.Path, name: str, content: str) -> None:
    is_read_or_refused(folder / name, content.encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(words=soup, key=st.sampled_from(["when", "require"]))
@example(words="gap <= 2 and speed >= -1", key="when")
def test_any_words_as_an_expression(folder: pathlib.Path, words: str, key: str) -> None:
    old = {
        "when": "|\n      gap <= 2 and (speed >= -1 or not gap - speed < 1)",
        "require": "best == A or score(B) / 2 > 1",
    }
    quoted = words.replace("\n", " ").replace("'", "''").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    is_read_or_refused(folder / "p.yaml", YAML.replace(old[key], f"'{quoted}'").encode())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), good=st.sampled_from([("p.yaml", YAML), ("p.vnnlib", VNNLIB), ("p.vnnlib", VNNLIB_2)]))
def test_good_files_cut_and_stirred(folder: pathlib.Path, data: st.DataObject, good: tuple[str, str]) -> None:
    name, content = good
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 8)))
        content = (
            content[:start] + data.draw(st.one_of(st.sampled_from([*WORDS, ""]), st.text(max_size=2))) + content[end:]
        )
    is_read_or_refused(folder / name, content.encode("utf-8", "surrogatepass"))


def test_the_good_files_are_good(folder: pathlib.Path) -> None:
    for name, content in (("p.yaml", YAML), ("p.vnnlib", VNNLIB), ("p.vnnlib", VNNLIB_2)):
        (folder / name).write_text(content)
        assert read_properties(folder / name, SIGNATURE).properties
