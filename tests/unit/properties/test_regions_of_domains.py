from fractions import Fraction

import pytest

from sidecar.gates.values import Box, Literal, Region
from sidecar.properties.regions import regions
from sidecar.properties.source import Complaint
from sidecar.properties.vocabulary import Feature, Range, WireMap

GAP = Feature("gap", 0, WireMap(Fraction(1, 150), Fraction(0)), "m", Range(Fraction(0), Fraction(150)))
SPEED = Feature("speed", 1, WireMap(Fraction(-1), Fraction(3)), "m/s", Range(Fraction(-20), Fraction(20)))
FREE = Feature("free", 0)


def at_least(position: int, bound: Fraction | int, strict: bool = False) -> Literal:
    return Literal((), ((position, Fraction(1)),), -Fraction(bound), strict)


def at_most(position: int, bound: Fraction | int, strict: bool = False) -> Literal:
    return Literal((), ((position, Fraction(-1)),), Fraction(bound), strict)


def box(*sides: tuple[Fraction | int, Fraction | int]) -> Box:
    return Box(tuple(Fraction(low) for low, _ in sides), tuple(Fraction(high) for _, high in sides))


def test_features_without_bounds_take_their_range_in_wire_units() -> None:
    assert regions([()], [GAP, SPEED]) == (Region(box((0, 1), (-17, 23))),)


def test_the_narrowest_stated_bound_counts() -> None:
    literals = (at_least(0, 1), at_least(0, 2), at_least(0, 0), at_most(0, 9), at_most(0, 8), at_most(0, 10))
    assert regions([literals], [FREE]) == (Region(box((2, 8))),)


def test_a_stated_bound_may_exceed_the_range() -> None:
    assert regions([(at_most(0, 2),)], [GAP, SPEED]) == (Region(box((0, 2), (-17, 23))),)


def test_strict_bounds_become_closed_ones() -> None:
    assert regions([(at_least(0, 1, strict=True), at_most(0, 1, strict=True))], [FREE]) == (Region(box((1, 1))),)


def test_coefficients_are_divided_out_exactly() -> None:
    literals = (
        Literal((), ((0, Fraction(3)),), Fraction(-1), False),
        Literal((), ((0, Fraction(-3)),), Fraction(2), False),
    )
    assert regions([literals], [FREE]) == (Region(box((Fraction(1, 3), Fraction(2, 3)))),)


def test_inequalities_between_features_become_closed_cuts() -> None:
    cut = Literal((), ((0, Fraction(1)), (1, Fraction(1))), Fraction(0), strict=True)
    closed = Literal((), ((0, Fraction(1)), (1, Fraction(1))), Fraction(0), strict=False)
    (region,) = regions([(cut, cut)], [GAP, SPEED])
    assert region.cuts == (closed,)


def test_cut_that_touches_the_box_is_kept_and_one_that_misses_it_empties_the_region() -> None:
    def cut(offset: int) -> Literal:
        return Literal((), ((0, Fraction(1)), (1, Fraction(-1))), Fraction(offset), strict=False)

    assert len(regions([(cut(-18),)], [GAP, SPEED])) == 1
    assert regions([(cut(-19),)], [GAP, SPEED]) == ()


def test_empty_and_repeated_regions_are_left_out() -> None:
    empty = (at_least(0, 2), at_most(0, 1))
    whole = (at_least(0, 0), at_most(0, 1))
    assert regions([empty, whole, whole], [FREE]) == (Region(box((0, 1))),)
    assert regions([empty], [FREE]) == ()


@pytest.mark.parametrize(
    ("literals", "missing"),
    [((), "no lower and no upper bound"), ((at_most(0, 1),), "no lower bound"), ((at_least(0, 1),), "no upper bound")],
)
def test_missing_bounds_are_named(literals: tuple[Literal, ...], missing: str) -> None:
    with pytest.raises(Complaint, match=f"free has {missing}") as caught:
        regions([literals], [FREE])
    assert caught.value.feature == 0


def test_missing_bounds_are_named_in_physical_units() -> None:
    turned = Feature("turned", 0, WireMap(Fraction(-1)))
    with pytest.raises(Complaint, match="turned has no upper bound"):
        regions([(at_most(0, 1),)], [turned])


@pytest.mark.parametrize(
    ("literal", "stated"),
    [(at_least(1, 24), "-21"), (at_most(1, -18), "21"), (at_least(0, 2), "300"), (at_most(0, -1), "-150")],
)
def test_bounds_outside_the_range_are_refused_in_physical_units(literal: Literal, stated: str) -> None:
    with pytest.raises(Complaint, match=f"is bounded by {stated} m"):
        regions([(literal,)], [GAP, SPEED])


def test_too_many_boxes_of_too_many_features_are_refused() -> None:
    features = [Feature(f"X_{index}", index) for index in range(2000)]
    with pytest.raises(Complaint, match="multiplied out"):
        regions([()] * 501, features)


def test_bound_at_the_end_of_the_range_leaves_a_single_value() -> None:
    (region,) = regions([(at_least(0, 1),)], [GAP, SPEED])
    assert (region.box.lower[0], region.box.upper[0]) == (1, 1)
