"""The VNN-LIB reader: what is read means what the text says, point by point; everything else is refused in one line."""

import random
import re
import zlib
from fractions import Fraction

from sidecar.errors import InputError
from sidecar.gates.values import Literal
from sidecar.properties.values import Property
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.e2e.judge import parse
from tests.fuzz.target import Target, require
from tests.fuzz.targets.files import check_complaint, written
from tests.fuzz.text_mutator import mutated, swapped
from tests.fuzz.vnnlib_truth import in_the_first_version, unsafe

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)),), outputs=(TensorSpec("y", Datatype.FP32, (2,)),), batch_axis=0
)
NAMES = ("X_0", "X_1", "Y_0", "Y_1")
POINTS = 12
DECLARED = b"".join(b"(declare-const %s Real)\n" % name.encode() for name in NAMES)
BOX = b"(assert (and (<= X_0 2) (>= X_0 -2) (<= X_1 1.5) (>= X_1 -1e0)))\n"

_ASSERTIONS = (
    b"(assert (<= Y_0 Y_1))",
    b"(assert (or (and (<= Y_0 Y_1) (<= X_0 0)) (>= (+ (* 2 Y_0) (- X_1)) 1)))",
    b"(assert (or (and (>= X_0 0) (<= X_0 1) (> Y_0 0.5)) (and (>= X_0 1) (< Y_1 (- 1 Y_0)))))",
    b"(assert (>= Y_0 1)) (assert (or (<= Y_1 0) (>= Y_1 3)))",
    b"(assert (and (<= (+ X_0 X_1) 1) (>= (- Y_0 Y_1 X_0) (* -1 0.25))))",
    b"(assert (or (< X_0 1) (> Y_0 0))) ; (comment\n(assert (<= (* 2 3 Y_1) 1e-3))",
)
DECLARED_2 = (
    b"(vnnlib-version <2.0>)\n(declare-network n (declare-input X float32 [1,2]) (declare-output Y Real [2]))\n"
)
ELEMENTS_2 = {b"X_0": b"X[0,0]", b"X_1": b"X[0,1]", b"Y_0": b"Y[0]", b"Y_1": b"Y[ 1 ]"}


def in_the_second_version(assertions: bytes) -> bytes:
    for name, element in ELEMENTS_2.items():
        assertions = assertions.replace(name, element)
    return assertions


BOX_2 = in_the_second_version(BOX)
_ASSERTIONS_2 = (*map(in_the_second_version, _ASSERTIONS), b"(assert (or (!= Y[0] 1) (== (- Y[1]) X[0,1])))")
SEEDS = [DECLARED + BOX + assertion for assertion in _ASSERTIONS]
SEEDS += [DECLARED_2 + BOX_2 + assertion for assertion in _ASSERTIONS_2]
NUMBERS = b"0 1 -1 0.5 1e0 1e400 1e-400 -2 2 1e401 .5 5. +1 --1".split()
WORDS = b"and or <= < >= > + - * assert declare-const Real Int X_0 X_1 X_2 Y_0 Y_1 Y_00 ( ) ; |".split()
WORDS += b"== != [ ] , [1,2] [2] Y[0] Y[1] X[0,1] declare-network declare-input declare-hidden vnnlib-version".split()
WORDS += b'declare-output float32 real "x" "y" <2.0> equal-to Z'.split()
WORDS += [*NUMBERS, b"9" * 300, b"(and)", b"(or (<= Y_0 0) (<= Y_1 0))", b"(<= X_0 X_1)", b"(* Y_0 0)", b'"']


def check(data: bytes, read=read_vnnlib) -> None:
    path = written("p.vnnlib", data)
    try:
        stated = read(path, SIGNATURE).properties
    except InputError as error:
        check_complaint(error)
        return
    text = data.decode("utf-8-sig")
    if "declare-network" in text:
        text = in_the_first_version(text)
    assertions = parse(text.replace("\r", "\n"))
    for point in _points(text, random.Random(zlib.crc32(data))):
        is_unsafe = all(unsafe(each, point, closed_inputs=False) for each in assertions)
        at_most = all(unsafe(each, point, closed_inputs=True) for each in assertions)
        guarded = any(_violates(each, point) for each in stated)
        shown = {name: str(value) for name, value in point.items()}
        require(guarded or not is_unsafe, f"{shown} is unsafe, and no property forbids it")
        require(at_most or not guarded, f"{shown} is not unsafe, and a property forbids it")


def _points(text: str, rng: random.Random) -> list[dict[str, Fraction]]:
    """Points whose coordinates are the file's own numbers, and a little beside them."""
    numbers = re.findall(r"(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?(?![\w.])", text)[:40]
    values = [Fraction(number) for number in numbers if len(number) < 50] or [Fraction(0)]
    values += [Fraction(n, 2) for n in range(-4, 5)]
    near = [Fraction(0), Fraction(0), Fraction(1, 1000), Fraction(-1, 1000)]
    return [{name: rng.choice(values) + rng.choice(near) for name in NAMES} for _ in range(POINTS)]


def _violates(stated: Property, point: dict[str, Fraction]) -> bool:
    inside = any(
        all(region.box.lower[i] <= point[f"X_{i}"] <= region.box.upper[i] for i in range(2))
        and all(_holds(cut, point) for cut in region.cuts)
        for region in stated.domain
    )
    return inside and not all(any(_holds(literal, point) for literal in c) for c in stated.requirement.clauses)


def _holds(stated: Literal, point: dict[str, Fraction]) -> bool:
    terms = ((letter, i, c) for letter, form in (("Y", stated.outputs), ("X", stated.inputs)) for i, c in form)
    total = stated.offset + sum(c * point[f"{letter}_{i}"] for letter, i, c in terms)
    return total > 0 or (total == 0 and not stated.strict)


def mutate(data: bytes, rng: random.Random) -> bytes:
    # Declarations and bounds are wanted by all files: what is changed is mostly the rest.
    known = (DECLARED + BOX, DECLARED, DECLARED_2 + BOX_2, DECLARED_2, b"")
    heads = [head for head in known if data.startswith(head)]
    head = heads[0] if rng.random() < 0.7 else rng.choice(heads)
    rest = data[len(head) :]
    if rng.random() < 0.4:
        return head + swapped(rest, rng.choice([rest, *_ASSERTIONS, *_ASSERTIONS_2]), rng)
    return head + mutated(rest, WORDS, [*_ASSERTIONS, *_ASSERTIONS_2], rng)


TARGET = Target("vnnlib", check, mutate, SEEDS, limit_seconds=3.0)
