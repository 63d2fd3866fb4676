"""What the value types refuse, and the complement of a literal."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.gates.exact import literal_holds
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms

ONE = Fraction(1)
BOX = Box((Fraction(0),), (ONE,))
LITERAL = Literal(outputs=((0, ONE),), inputs=(), offset=Fraction(0), strict=True)


def gate(**changes):
    fields = {
        "property_id": "p",
        "domain": (Region(BOX),),
        "requirement": Requirement(((LITERAL,),)),
        "action": Action.PROJECT,
        "margin": Fraction(0),
        "norm": Norm.L2,
        "fallback": None,
    }
    return Gate(**(fields | changes))


def test_terms_are_sorted_and_zeros_vanish():
    assert terms({3: ONE, 1: Fraction(0), 0: -ONE}) == ((0, -ONE), (3, ONE))


@pytest.mark.parametrize("form", [((1, ONE), (0, ONE)), ((0, ONE), (0, ONE)), ((-1, ONE),), ((0, Fraction(0)),)])
def test_a_badly_formed_linear_form_is_refused(form):
    with pytest.raises(ValueError, match="term"):
        Literal(outputs=form, inputs=(), offset=ONE, strict=True)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [((), (), "equally many"), ((ONE,), (), "equally many"), ((ONE,), (Fraction(0),), "empty box: feature 0")],
)
def test_a_bad_box_is_refused(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        Box(lower, upper)


def test_a_cut_on_outputs_is_refused():
    with pytest.raises(ValueError, match="inputs only"):
        Region(BOX, (LITERAL,))


def test_an_empty_clause_is_refused():
    with pytest.raises(ValueError, match="at least one literal"):
        Requirement(((),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": ()}, "empty domain"),
        ({"margin": -ONE}, "must not be negative"),
        ({"action": Action.FALLBACK}, "fallback row goes with"),
        ({"fallback": (ONE,)}, "fallback row goes with"),
    ],
)
def test_a_bad_gate_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        gate(**changes)


@settings(deadline=None)
@given(st.integers(-2, 2), st.integers(-2, 2), st.integers(-2, 2), st.booleans(), st.floats(-3, 3), st.floats(-3, 3))
def test_exactly_one_of_a_literal_and_its_negation_holds(a, c, b, strict, x, y):
    literal = Literal(terms({0: Fraction(a)}), terms({0: Fraction(c)}), Fraction(b), strict)
    assert literal_holds(literal, [x], [y]) != literal_holds(literal.negated(), [x], [y])
    assert literal.negated().negated() == literal
