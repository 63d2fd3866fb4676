from fractions import Fraction

import pytest

from sidecar.gates.values import Literal, Requirement
from sidecar.properties.formulas import (
    FALSE,
    TRUE,
    And,
    Linear,
    Or,
    at_least,
    conjunction,
    constant,
    disjunction,
    product,
)
from sidecar.properties.normal_form import conjuncts, requirement, safe
from sidecar.properties.source import Complaint


def y(index: int) -> Literal:
    return Literal(((index, Fraction(1)),), (), Fraction(0), strict=False)


def test_constants_vanish() -> None:
    assert conjunction([TRUE, y(0), TRUE]) == y(0)
    assert conjunction([FALSE, y(0)]) == FALSE
    assert conjunction([]) == TRUE
    assert disjunction([FALSE, y(0), FALSE]) == y(0)
    assert disjunction([TRUE, y(0)]) == TRUE
    assert disjunction([]) == FALSE


@pytest.mark.parametrize(
    ("left", "right", "strict", "expected"),
    [(1, 0, True, TRUE), (0, 0, True, FALSE), (0, 0, False, TRUE), (0, 1, False, FALSE)],
)
def test_comparison_of_constants_is_decided_exactly(left: int, right: int, strict: bool, expected: And | Or) -> None:
    assert at_least(constant(Fraction(left)), constant(Fraction(right)), strict) == expected


def test_comparison_becomes_the_difference() -> None:
    larger = Linear({0: Fraction(1), 1: Fraction(2)}, {3: Fraction(1)}, Fraction(5))
    smaller = Linear({1: Fraction(2)}, {3: Fraction(4)}, Fraction(1))
    assert at_least(larger, smaller, strict=True) == Literal(
        ((0, Fraction(1)),), ((3, Fraction(-3)),), Fraction(4), strict=True
    )


def test_conjuncts_multiply_and_out_over_or() -> None:
    formula = And((Or((y(0), y(1))), Or((y(2), y(3)))))
    assert conjuncts(formula) == ((y(0), y(2)), (y(0), y(3)), (y(1), y(2)), (y(1), y(3)))
    assert conjuncts(TRUE) == ((),)
    assert conjuncts(FALSE) == ()


def test_requirement_multiplies_or_out_over_and() -> None:
    formula = Or((And((y(0), y(1))), y(2)))
    assert requirement(formula) == Requirement(((y(0), y(2)), (y(1), y(2))))
    assert requirement(TRUE) == Requirement(())


def test_requirement_leaves_repetitions_out() -> None:
    formula = And((Or((y(0), y(0))), y(0), Or((y(0), y(1)))))
    assert requirement(formula) == Requirement(((y(0),), (y(0), y(1))))


def test_safe_negates_each_alternative_into_a_clause() -> None:
    assert safe(((y(0), y(1)), (y(2),))) == Requirement(((y(0).negated(), y(1).negated()), (y(2).negated(),)))


def test_long_flat_formulas_are_fine() -> None:
    assert len(conjuncts(And(tuple(y(index) for index in range(50_000))))[0]) == 50_000
    assert len(conjuncts(Or(tuple(y(index) for index in range(10_000))))) == 10_000


@pytest.mark.parametrize(
    "formula",
    [
        And(tuple(Or((y(2 * index), y(2 * index + 1))) for index in range(200))),
        Or(tuple(y(index) for index in range(10_001))),
        And((Or(tuple(y(index) for index in range(5_000))), *(y(index) for index in range(1_000)))),
    ],
)
def test_explosions_are_refused_before_they_happen(formula: And | Or) -> None:
    with pytest.raises(Complaint, match="multiplied out"):
        conjuncts(formula)


def test_product_scales_the_one_factor_with_variables() -> None:
    x = Linear({}, {0: Fraction(1)}, Fraction(1))
    assert product([constant(Fraction(2)), x, constant(Fraction(3))]) == Linear({}, {0: Fraction(6)}, Fraction(6))
    assert product([constant(Fraction(2)), constant(Fraction(3))]) == constant(Fraction(6))
    with pytest.raises(Complaint, match="two variables"):
        product([x, x])
