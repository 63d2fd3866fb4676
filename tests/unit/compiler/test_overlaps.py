"""Maximal sets of regions that share a point, and the parts of them that reach further."""

import dataclasses
import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.compiler import overlaps
from sidecar.compiler.overlaps import maximal_overlaps, parts
from sidecar.errors import InputError
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms

Interval = tuple[int, int]


def _gate(*boxes: tuple[Interval, ...]) -> Gate:
    regions = tuple(
        Region(Box(tuple(Fraction(low) for low, _ in box), tuple(Fraction(high) for _, high in box))) for box in boxes
    )
    return Gate("g", regions, Requirement(()), Action.PROJECT, Fraction(0), Norm.L2, None)


def test_disjoint_regions_stand_alone() -> None:
    found = maximal_overlaps([_gate(((0, 1),), ((4, 5),)), _gate(((2, 3),))])
    assert [overlap.members for overlap in found] == [((0, 0),), ((0, 1),), ((1, 0),)]


def test_overlap_carries_the_shared_box_and_one_region_of_each_gate() -> None:
    found = maximal_overlaps([_gate(((0, 5),), ((3, 9),)), _gate(((4, 8),))])
    assert [overlap.members for overlap in found] == [((0, 0), (1, 0)), ((0, 1), (1, 0))]
    assert found[0].box == Box((Fraction(4),), (Fraction(5),))
    assert found[0].gate_indices() == (0, 1)


def test_parts_are_those_that_reach_beyond_the_overlap() -> None:
    gates = [_gate(((0, 9),)), _gate(((0, 9),)), _gate(((4, 5),))]
    (overlap,) = maximal_overlaps(gates)
    assert [part.members for part in parts(overlap, gates)] == [((0, 0), (1, 0))]  # without the small box
    cut = Literal((), terms({0: Fraction(1)}), Fraction(-1), strict=False)
    gates[1] = dataclasses.replace(gates[1], domain=(dataclasses.replace(gates[1].domain[0], cuts=(cut,)),))
    assert [part.members for part in parts(overlap, gates)] == [((0, 0), (2, 0)), ((0, 0), (1, 0))]


def test_a_single_region_has_no_parts() -> None:
    gates = [_gate(((0, 9),))]
    (overlap,) = maximal_overlaps(gates)
    assert list(parts(overlap, gates)) == []


def test_too_many_overlaps_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "MAX_OVERLAPS", 2)
    with pytest.raises(InputError, match="more than 2"):
        maximal_overlaps([_gate(((0, 1),), ((2, 3),), ((4, 5),))])


_interval = st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_interval, _interval), min_size=1, max_size=7))
def test_overlaps_are_exactly_the_maximal_sets_of_boxes_that_hold_a_common_grid_point(
    boxes: list[tuple[Interval, Interval]],
) -> None:
    at_points = {
        frozenset(
            number
            for number, box in enumerate(boxes)
            if all(low <= x <= high for x, (low, high) in zip(point, box, strict=True))
        )
        for point in itertools.product(range(10), repeat=2)
    }
    maximal = {found for found in at_points if found and not any(found < other for other in at_points)}
    found = maximal_overlaps([_gate(box) for box in boxes])
    assert {frozenset(gate for gate, _ in overlap.members) for overlap in found} == maximal
