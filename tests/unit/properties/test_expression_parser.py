from fractions import Fraction

import pytest

from sidecar.errors import InputError
from sidecar.properties.expression_tree import (
    AllOf,
    AnyOf,
    BestIn,
    Comparator,
    Comparison,
    Condition,
    Name,
    Negative,
    Not,
    Number,
    Product,
    ScoreOf,
    Sum,
)
from sidecar.properties.expressions import parse
from sidecar.properties.lexer import is_name
from sidecar.properties.source import Excerpt, Source

A, B, C = Name("a"), Name("b"), Name("c")
ONE, TWO = Number(Fraction(1)), Number(Fraction(2))


def tree(text: str) -> Condition:
    return parse(Excerpt(Source("p.yaml", text), text, tuple(range(len(text) + 1))))


def compared(left: Name, right: Number | Name) -> Comparison:
    return Comparison((left, right), (Comparator.LE,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <= 1", compared(A, ONE)),
        ("0.5 <= a < b", Comparison((Number(Fraction(1, 2)), A, B), (Comparator.LE, Comparator.LT))),
        ("a >= 1", Comparison((A, ONE), (Comparator.GE,))),
        ("a > 1", Comparison((A, ONE), (Comparator.GT,))),
        ("a == 1", Comparison((A, ONE), (Comparator.EQ,))),
        ("a != 1", Comparison((A, ONE), (Comparator.NE,))),
        ("a <= 1 or b <= 1 and c <= 1", AnyOf((compared(A, ONE), AllOf((compared(B, ONE), compared(C, ONE)))))),
        ("(a <= 1 or b <= 1) and c <= 1", AllOf((AnyOf((compared(A, ONE), compared(B, ONE))), compared(C, ONE)))),
        ("a <= 1 and b <= 1 and c <= 1", AllOf((compared(A, ONE), compared(B, ONE), compared(C, ONE)))),
        ("not a <= 1 and b <= 1", AllOf((Not(compared(A, ONE)), compared(B, ONE)))),
        ("not not a <= 1", Not(Not(compared(A, ONE)))),
        ("((a)) <= (1)", compared(A, ONE)),
        ("a - b + 1 <= 2", Comparison((Sum((A, Negative(B), ONE)), TWO), (Comparator.LE,))),
        ("2 * a / 2 <= 1", Comparison((Product((TWO, A), (TWO,)), ONE), (Comparator.LE,))),
        ("a + 2 * b <= 1", Comparison((Sum((A, Product((TWO, B), ()))), ONE), (Comparator.LE,))),
        ("(a + b) * 2 <= 1", Comparison((Product((Sum((A, B)), TWO), ()), ONE), (Comparator.LE,))),
        ("-a * 2 <= 1", Comparison((Product((Negative(A), TWO), ()), ONE), (Comparator.LE,))),
        ("+a <= 1", compared(A, ONE)),
        ("score(COC) <= 1", Comparison((ScoreOf("COC"), ONE), (Comparator.LE,))),
        ("score(X) - score(Y) > 1", Comparison((Sum((ScoreOf("X"), Negative(ScoreOf("Y")))), ONE), (Comparator.GT,))),
        ("best == COC", BestIn((ScoreOf("COC"),))),
        ("best != COC", Not(BestIn((ScoreOf("COC"),)))),
        ("best in {COC, WL}", BestIn((ScoreOf("COC"), ScoreOf("WL")))),
        ("best not in {COC}", Not(BestIn((ScoreOf("COC"),)))),
        ("not best == COC", Not(BestIn((ScoreOf("COC"),)))),
        ("(best == COC) or a <= 1", AnyOf((BestIn((ScoreOf("COC"),)), compared(A, ONE)))),
        ("a\n  <=\t1\n", compared(A, ONE)),
    ],
)
def test_expressions_parse_to_their_tree(text: str, expected: Condition) -> None:
    assert tree(text) == expected


@pytest.mark.parametrize("text", ["(" * 40 + "a" + ")" * 40 + " <= 1", "not " * 40 + "a <= 1", "-" * 40 + "a <= 1"])
def test_nesting_up_to_the_limit_is_read(text: str) -> None:
    tree(text)


def test_brackets_side_by_side_do_not_count_as_nesting() -> None:
    assert len(tree(" and ".join(["((a)) <= 1"] * 100)).parts) == 100  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "column"),
    [("a <= ", 5), ("a <= 1 b", 8), ("a  <=  * 1", 8), ("best  = A", 7), ("a <= 1.2.3", 9), ("a <= 3 $", 8)],
)
def test_errors_point_at_the_character(text: str, column: int) -> None:
    with pytest.raises(InputError, match=rf"p\.yaml:1:{column}: "):
        tree(text)


@pytest.mark.parametrize(
    ("text", "hint"), [("a <= 1 | b <= 1", "write or"), ("!a <= 1", "write not"), ("a <= 1 $", "no meaning here")]
)
def test_signs_of_other_languages_get_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        tree(text)


def test_names() -> None:
    assert is_name("closing_speed")
    assert is_name("_2")
    assert not any(map(is_name, ["", "2a", "a-b", "a b", "best", "score", "and", "or", "not", "in", "ä", "a\n"]))
