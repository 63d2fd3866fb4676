"""The YAML property reader: properties, or one line that says what is wrong. Never anything else, never for long."""

import random

from sidecar.errors import InputError
from sidecar.properties.reader import read_properties
from tests.fuzz.target import Target, require
from tests.fuzz.targets.files import check_complaint, written
from tests.fuzz.targets.vnnlib import SIGNATURE
from tests.fuzz.text_mutator import mutated
from tests.laws.test_property_reader_robustness import YAML

_OTHER = b"""\
model: {name: m}
inputs:
  - tensor: x
    features:
      - {name: a, index: 1, range: [0, 10], wire: {scale: 2, offset: -5}}
      - {name: b, index: 0, range: [-1, 1]}
outputs:
  - tensor: y
    best: smallest
    classes: [Left, Right]
properties:
  - id: q
    when: 'a >= 1 and a <= 2 or b == 0'
    require: 'best in {Left} or not score(Left) < -a'
    action: refuse
  - id: r
    mode: shadow
    norm: linf
    when: "a > 1 and b <= 0.5"
    require: "score(Left) >= score(Right) + 1/3"
"""
_THIRD = b"""\
model: {name: m}
inputs: [{tensor: x, features: [{name: a, range: [0, 10]}, {name: b, range: [0, 1]}]}]
outputs: [{tensor: y, classes: [A, B]}]
properties: [{id: p, when: a <= 5, require: score(A) > score(B), margin: 1e-3, norm: l1}]
"""
SEEDS = [YAML.encode(), _THIRD, _OTHER]
SIGNS = b"== != <= >= < > + - * / ( ) { } , : [ ] | & ? ! # ' \""
NAMES = b"and or not in best score A B Left gap speed a b id when require action fallback project refuse norm l1 margin"
YAML_SIGNS = [
    b"*x",
    b"&x [",
    b"<<: *x",
    b"!!python/object:os.system",
    b"- ",
    b"\n  ",
    b"~",
    b"---\n",
    b"%YAML 1.1\n",
    b'"\\x00"',
]
NUMBERS = [b"1/3", b"1e9", b".inf", b".nan", b"9" * 50, b"1e400", b"0x1f", b"1_000", b"yes", b"2024-01-01"]
WORDS = [*SIGNS.split(), *NAMES.split(), *YAML_SIGNS, *NUMBERS]


def check(data: bytes) -> None:
    try:
        read = read_properties(written("p.yaml", data), SIGNATURE)
    except InputError as error:
        check_complaint(error)
        return
    require(bool(read.properties), "a file without properties was read")


def mutate(data: bytes, rng: random.Random) -> bytes:
    return mutated(data, WORDS, SEEDS, rng)


TARGET = Target("property_yaml", check, mutate, SEEDS, limit_seconds=3.0)
