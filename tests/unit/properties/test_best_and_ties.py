"""What `best` requires, above all where classes tie: the reading that is harder to satisfy."""

from fractions import Fraction

import pytest

from sidecar.gates.values import Literal, Requirement
from sidecar.properties.expressions import parse
from sidecar.properties.meaning import Purpose, meaning
from sidecar.properties.normal_form import requirement
from sidecar.properties.source import Excerpt, Source
from sidecar.properties.vocabulary import Best, Ranking, Score, Vocabulary

NAMES = ("A", "B", "C")


def required(text: str, best: Best = Best.LARGEST) -> Requirement:
    vocabulary = Vocabulary((), {name: Score(name, index) for index, name in enumerate(NAMES)}, Ranking(best, NAMES))
    excerpt = Excerpt(Source("p.yaml", text), text, tuple(range(len(text) + 1)))
    return requirement(meaning(parse(excerpt), excerpt, vocabulary, Purpose.REQUIRE))


def holds(literal: Literal, scores: tuple[int, ...]) -> bool:
    value = sum(c * scores[i] for i, c in literal.outputs) + literal.offset
    return value > 0 or (value == 0 and not literal.strict)


def satisfied(text: str, *scores: int, best: Best = Best.LARGEST) -> bool:
    return all(any(holds(literal, scores) for literal in clause) for clause in required(text, best).clauses)


@pytest.mark.parametrize("text", ["best == A", "best in {A}", "best not in {B, C}", "not (best != A)"])
def test_best_is_a_only_where_a_beats_all_others(text: str) -> None:
    assert satisfied(text, 3, 2, 1)
    assert not satisfied(text, 3, 3, 1)
    assert not satisfied(text, 2, 3, 1)


@pytest.mark.parametrize("text", ["best != A", "best not in {A}", "not best == A", "best in {B, C}"])
def test_best_is_not_a_only_where_a_is_beaten(text: str) -> None:
    assert satisfied(text, 1, 2, 3)
    assert satisfied(text, 1, 2, 2)
    assert not satisfied(text, 2, 2, 1)
    assert not satisfied(text, 3, 2, 1)


def test_tie_for_the_first_place_fails_both_best_is_a_and_best_is_not_a() -> None:
    assert not satisfied("best == A", 2, 2, 1)
    assert not satisfied("best != A", 2, 2, 1)


def test_tie_inside_the_set_does_not_matter() -> None:
    assert satisfied("best in {A, B}", 2, 2, 1)
    assert not satisfied("best == A or best == B", 2, 2, 1)


def test_tie_between_set_and_others_is_a_violation() -> None:
    assert not satisfied("best in {A, B}", 2, 1, 2)
    assert not satisfied("best not in {A, B}", 2, 1, 2)


def test_implication_counts_a_tie_as_best() -> None:
    text = "not (best == A) or score(C) >= 0"
    assert satisfied(text, 2, 2, 1)
    assert not satisfied(text, 2, 2, -1)


def test_smallest_score_can_be_the_best_one() -> None:
    assert satisfied("best == A", 1, 2, 3, best=Best.SMALLEST)
    assert not satisfied("best == A", 1, 1, 3, best=Best.SMALLEST)
    assert satisfied("best != A", 2, 1, 3, best=Best.SMALLEST)
    assert not satisfied("best != A", 1, 1, 3, best=Best.SMALLEST)


def test_best_is_a_gives_one_strict_literal_for_each_other_class() -> None:
    one = Fraction(1)
    assert required("best == A").clauses == (
        (Literal(((0, one), (1, -one)), (), Fraction(0), strict=True),),
        (Literal(((0, one), (2, -one)), (), Fraction(0), strict=True),),
    )


def test_best_is_not_a_gives_one_clause() -> None:
    assert [len(clause) for clause in required("best != A").clauses] == [2]
