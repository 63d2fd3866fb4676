"""The active-set method on small polyhedra where each of its moves occurs."""

from fractions import Fraction

from sidecar.gates.active_set import smallest_by_active_set
from sidecar.gates.halfspaces import Halfspace
from sidecar.gates.limits import PROJECTION_WORK, Work
from sidecar.gates.values import terms


def halfspace(normal, shortfall) -> Halfspace:
    form = terms({index: Fraction(value) for index, value in enumerate(normal)})
    return Halfspace(form, sum(value * value for _, value in form), Fraction(shortfall))


def solved(*halfspaces):
    change = smallest_by_active_set(halfspaces, Work(PROJECTION_WORK))
    return None if change is None else {index: str(value) for index, value in sorted(change.items())}


def test_nothing_to_do():
    assert solved(halfspace([1, 1], 0), halfspace([1, 0], -3)) == {}


def test_a_corner():
    assert solved(halfspace([1, 0], 2), halfspace([1, 1], 5)) == {0: "5/2", 1: "5/2"}
    assert solved(halfspace([1, 0], 4), halfspace([1, 2], 6)) == {0: "4", 1: "1"}


def test_a_halfspace_leaves_on_the_way_to_another():
    faces = [halfspace([-1, 0, 2], 3), halfspace([-2, 1, 2], 1), halfspace([-1, 2, 1], 3), halfspace([1, -2, 1], 1)]
    assert solved(*faces) == {0: "-1/5", 1: "2/5", 2: "2"}


def test_opposite_halfspaces_exclude_each_other():
    assert solved(halfspace([1, 0], 1), halfspace([-1, 0], 0)) is None


def test_three_that_exclude_each_other_only_together():
    assert solved(halfspace([1, 0], 1), halfspace([0, 1], 1), halfspace([-1, -1], -1)) is None


def test_a_dependent_normal_replaces_a_weaker_one():
    assert solved(halfspace([1, 0], 1), halfspace([3, 0], 2), halfspace([2, 0], 6)) == {0: "3"}


def test_two_halves_of_an_equation_leave_their_common_boundary():
    assert solved(halfspace([1, 2], 5), halfspace([-1, -2], -5)) == {0: "1", 1: "2"}
