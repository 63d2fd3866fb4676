"""Laws of the VNN-LIB reader: a point is in the file's unsafe set, by direct evaluation of the text's tree,
exactly if it violates one of the properties that were read."""

import pathlib
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from sidecar.errors import InputError
from sidecar.gates.values import Literal
from sidecar.properties.values import Property
from sidecar.properties.vnnlib import read_vnnlib
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

Tree: TypeAlias = str | tuple["str | Tree", ...]
"""An S-expression: a word, or an operator with operands."""

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)),), outputs=(TensorSpec("y", Datatype.FP32, (2,)),), batch_axis=None
)
DECLARATIONS = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))

BOX: list[Tree] = [("<=", "X_0", "2"), (">=", "X_0", "-2"), ("<=", "X_1", "2"), ("<=", "-2", "X_1")]

Point: TypeAlias = dict[str, Fraction]

NOTHING_UNSAFE = ("empty domain", "contradict each other")


def text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(map(text, tree))})"


def value(tree: Tree, point: Point) -> Fraction:
    if isinstance(tree, str):
        return point[tree] if tree in point else Fraction(tree)
    operator, *operands = tree
    values = [value(operand, point) for operand in operands]
    if operator == "+":
        return sum(values, Fraction(0))
    if operator == "-":
        return -values[0] if len(values) == 1 else values[0] - sum(values[1:])
    assert operator == "*"
    return values[0] * values[1]


def unsafe(tree: Tree, point: Point) -> bool:
    operator, *operands = tree
    match operator:
        case "and":
            return all(unsafe(operand, point) for operand in operands)
        case "or":
            return any(unsafe(operand, point) for operand in operands)
        case _:
            left, right = (value(operand, point) for operand in operands)
            return {
                "<=": left <= right,
                "<": left < right,
                ">=": left >= right,
                ">": left > right,
                "==": left == right,
                "!=": left != right,
            }[str(operator)]


def holds(literal: Literal, point: Point) -> bool:
    total = sum(c * point[f"Y_{i}"] for i, c in literal.outputs) + sum(c * point[f"X_{i}"] for i, c in literal.inputs)
    total += literal.offset
    return total > 0 or (total == 0 and not literal.strict)


def violates(stated: Property, point: Point) -> bool:
    inside = any(
        all(region.box.lower[i] <= point[f"X_{i}"] <= region.box.upper[i] for i in range(2))
        and all(holds(cut, point) for cut in region.cuts)
        for region in stated.domain
    )
    return inside and not all(any(holds(literal, point) for literal in clause) for clause in stated.requirement.clauses)


constants = st.sampled_from(["0", "1", "-1", "2", "0.5", "-1e0"])


def terms(names: Iterable[str]) -> st.SearchStrategy[Tree]:
    name = st.sampled_from(sorted(names))
    term: st.SearchStrategy[Tree] = st.one_of(
        name, name, constants, st.tuples(st.just("*"), constants, name), st.tuples(st.just("-"), name)
    )
    return st.one_of(term, st.tuples(st.sampled_from("+-"), term, term))


def comparisons(names: Iterable[str], signs: Iterable[str]) -> st.SearchStrategy[Tree]:
    return st.tuples(st.sampled_from(sorted(signs)), terms(names), terms(names))


def formulas(leaves: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda operator, operands: (operator, *operands),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=6,
    )


X, Y = {"X_0", "X_1"}, {"Y_0", "Y_1"}
ALL_SIGNS = {"<=", ">=", "<", ">"}
on_inputs = comparisons(X, {"<=", ">="})
on_outputs = comparisons(Y, ALL_SIGNS)

# What mentions an output that cancels out is a condition on inputs after all: closed signs only, there.
on_both = comparisons(X | Y, {"<=", ">="})
assertions = st.lists(formulas(st.one_of(on_inputs, on_outputs, on_outputs, on_both)), min_size=1, max_size=3)
coordinates = st.integers(-5, 5).map(lambda n: Fraction(n, 2))
points = st.fixed_dictionaries(dict.fromkeys(sorted(X | Y), coordinates))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("vnnlib") / "p.vnnlib"


IN_THE_SECOND_VERSION = """(vnnlib-version <2.0>)
(declare-network n (declare-input P float32 [1,2]) (declare-output Q Real [2,1]))
"""
OF_TWO_SHAPES = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (1, 2)),), outputs=(TensorSpec("y", Datatype.FP32, (2, 1)),), batch_axis=None
)
ELEMENTS = {"X_0": "P[0,0]", "X_1": "P[0,1]", "Y_0": "Q[0,0]", "Y_1": "Q [ 1, 0 ]"}


def renamed(tree: Tree) -> Tree:
    return ELEMENTS.get(tree, tree) if isinstance(tree, str) else tuple(map(renamed, tree))


def properties(file: pathlib.Path, assertions: list[Tree], *, second: bool = False) -> tuple[Property, ...]:
    """The properties read, none where the reader says that the file describes none."""
    trees = list(map(renamed, assertions)) if second else assertions
    head = IN_THE_SECOND_VERSION if second else DECLARATIONS
    file.write_text(head + "\n".join(f"(assert {text(tree)})" for tree in trees))
    try:
        if second:
            return read_vnnlib(file, OF_TWO_SHAPES).properties
        return read_vnnlib(file, SIGNATURE).properties
    except InputError as error:
        if not any(reason in str(error) for reason in NOTHING_UNSAFE):
            # An unsafe set that leaves no answer is none that a property can state.
            assume("every output is unsafe" not in str(error))
            raise
        return ()


@settings(max_examples=120, deadline=None)
@given(assertions=assertions, samples=st.lists(points, min_size=10, max_size=10))
def test_a_point_is_unsafe_exactly_if_it_violates_a_property(
    file: pathlib.Path, assertions: list[Tree], samples: list[Point]
) -> None:
    stated = properties(file, BOX + assertions)
    for point in samples:
        expected = all(unsafe(tree, point) for tree in BOX + assertions)
        assert any(violates(found, point) for found in stated) == expected


@settings(max_examples=60, deadline=None)
@given(
    assertions=st.lists(formulas(st.one_of(comparisons(X, ALL_SIGNS), on_outputs)), min_size=1, max_size=3),
    samples=st.lists(points, min_size=10, max_size=10),
)
def test_strict_conditions_on_inputs_only_ever_guard_more(
    file: pathlib.Path, assertions: list[Tree], samples: list[Point]
) -> None:
    stated = properties(file, BOX + assertions)
    for point in samples:
        if all(unsafe(tree, point) for tree in BOX + assertions):
            assert any(violates(found, point) for found in stated)


@settings(max_examples=120, deadline=None)
@given(
    assertions=st.lists(
        formulas(st.one_of(comparisons(X, {"<=", ">=", "=="}), comparisons(Y, {*ALL_SIGNS, "==", "!="}))),
        min_size=1,
        max_size=3,
    ),
    samples=st.lists(points, min_size=10, max_size=10),
)
def test_a_point_is_unsafe_in_the_second_version_exactly_if_it_violates(
    file: pathlib.Path, assertions: list[Tree], samples: list[Point]
) -> None:
    stated = properties(file, BOX + assertions, second=True)
    for point in samples:
        expected = all(unsafe(tree, point) for tree in BOX + assertions)
        assert any(violates(found, point) for found in stated) == expected


@settings(max_examples=60, deadline=None)
@given(assertions=assertions)
def test_both_versions_say_the_same(file: pathlib.Path, assertions: list[Tree]) -> None:
    assert properties(file, BOX + assertions, second=True) == properties(file, BOX + assertions)
