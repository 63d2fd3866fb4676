"""`project` on the properties of ACAS Xu, at the corners of datatypes, and where there is nothing to find."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sidecar.gates.cost import projection_cost
from sidecar.gates.exact import requirement_holds
from sidecar.gates.halfspaces import joint_clauses
from sidecar.gates.limits import MAX_DISJUNCTS
from sidecar.gates.ordering import as_ordering
from sidecar.gates.prepare import prepare
from sidecar.gates.projection import Obstacle, project
from sidecar.gates.values import Norm
from sidecar.numerics import largest_finite, next_down, next_up
from sidecar.tensors import FLOATING_DATATYPES, Datatype

X = np.array([0.0])


@pytest.fixture
def projected(build):
    """Project a row of outputs with some gates; gives the output row, or the obstacle."""

    def run(values, *gates, datatype=Datatype.FP32):
        signature = build.signature(outputs=len(values), datatype=datatype)
        result = project(prepare(gates, signature), range(len(gates)), X, np.array(values, dtype=np.float64))
        assert (result.output is None) != (result.obstacle is None)
        return result.obstacle if result.output is None else result.output.tolist()

    return run


class TestAcasXu:
    def test_prop_2_lets_the_best_challenger_and_coc_meet(self, build, projected):
        """COC (0) must not be maximal."""
        prop_2 = build.gate([build.above(other, 0) for other in (1, 2, 3, 4)])
        answer = projected([3.0, 1.0, 2.0, -1.0, 0.0], prop_2)
        assert answer[1:2] + answer[3:] == [1.0, -1.0, 0.0]
        assert answer[0] < answer[2]
        assert answer[0] == pytest.approx(2.5, abs=1e-6)
        assert answer[2] == pytest.approx(2.5, abs=1e-6)

    def test_prop_7_is_a_conjunction_of_disjunctions(self, build, projected):
        """Neither 3 nor 4 may be minimal."""
        prop_7 = build.gate(*([build.above(worse, low) for low in (0, 1, 2)] for worse in (3, 4)))
        answer = projected([0.5, 1.0, 2.0, -1.0, -1.0], prop_7)
        assert answer[1:3] == [1.0, 2.0]
        assert min(answer[3:]) > answer[0]
        assert answer == pytest.approx([-0.5, 1.0, 2.0, -0.5, -0.5], abs=1e-6)

    def test_prop_8_lets_weak_left_or_coc_be_minimal(self, build, projected):
        prop_8 = build.gate(*([build.above(other, 0), build.above(other, 1)] for other in (2, 3, 4)))
        answer = projected([5.0, 4.0, 1.0, 3.0, 2.0], prop_8)
        assert answer[0] == 5.0
        assert min(answer[2:]) > answer[1]
        third = (4.0 + 1.0 + 2.0) / 3  # the pool: 2 and 4 rise, 1 falls, 3 stays
        assert answer == pytest.approx([5.0, third, third, 3.0, third], abs=1e-6)

    def test_several_properties_hold_jointly(self, build, projected):
        best_is_0 = build.gate(*([build.above(other, 0)] for other in (1, 2)))
        bounded = build.gate([build.literal({0: 1}, offset=-1, strict=False)])
        answer = projected([0.0, 0.5, 3.0], best_is_0, bounded)
        assert answer == [1.0, next_up(1.0, Datatype.FP32), 3.0]


class TestRounding:
    @pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
    def test_a_strict_bound_is_left_by_one_step(self, build, projected, datatype):
        below_one = build.gate([build.literal({0: -1}, offset=1)])
        assert projected([2.0], below_one, datatype=datatype) == [next_down(1.0, datatype)]

    @pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
    def test_a_closed_bound_is_met(self, build, projected, datatype):
        at_most_one = build.gate([build.literal({0: -1}, offset=1, strict=False)])
        assert projected([2.0], at_most_one, datatype=datatype) == [1.0]

    @pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
    def test_a_tie_is_parted_by_the_least_there_is(self, build, projected, datatype):
        order = build.gate([build.above(1, 0)])
        lower, higher = projected([1.5, 1.5], order, datatype=datatype)
        assert lower < higher
        assert higher <= next_up(next_up(next_up(lower, datatype), datatype), datatype)

    def test_zero_keeps_its_sign_where_it_stays(self, build, projected):
        gate = build.gate([build.literal({0: 1, 1: 1})], [build.literal({2: 1}, offset=1)])
        answer = projected([-0.0, -1.0, -0.0], gate)
        assert np.signbit(answer[2])

    def test_a_margin_is_kept_from_the_boundary(self, build, projected):
        gate = build.gate([build.literal({0: 1})], margin=Fraction(1, 4))
        assert projected([-1.0], gate) == [0.25]

    def test_at_subnormal_values(self, build, projected):
        positive = build.gate([build.literal({0: 1})])
        assert projected([-1.0], positive, datatype=Datatype.FP16) == [2.0**-24]

    def test_a_disjunct_that_only_its_closure_satisfies_is_left(self, build, projected):
        """y0 > 0, and y0 >= y1 or y0 <= 0: the point 0 is nearest in the closures, and no answer."""
        gate = build.gate(
            [build.literal({0: 1})], [build.above(0, 1, strict=False), build.literal({0: -1}, strict=False)]
        )
        assert projected([0.0, 1.0], gate, datatype=Datatype.FP16) == [0.5, 0.5]


class TestObstacles:
    def test_contradictory_properties(self, build, projected):
        gates = [build.gate([build.literal({0: 1})]), build.gate([build.literal({0: -1}, offset=-1)])]
        assert projected([0.5], *gates) is Obstacle.CONTRADICTION

    @pytest.mark.parametrize("norm", Norm)
    def test_contradictory_properties_in_each_norm(self, build, projected, norm):
        clauses = [[build.literal({0: 1, 1: 1}, offset=-1)], [build.literal({0: -1, 1: -1})]]
        assert projected([0.5, 0.0], build.gate(*clauses, norm=norm)) is Obstacle.CONTRADICTION

    def test_a_clause_that_the_input_refutes(self, build, projected):
        gate = build.gate([build.literal({}, inputs={0: 1}, offset=-5)], [build.literal({0: 1})])
        assert projected([-1.0], gate) is Obstacle.CONTRADICTION

    def test_a_clause_that_the_input_satisfies_asks_nothing(self, build, projected):
        gate = build.gate([build.literal({}, inputs={0: 1}, offset=5), build.literal({0: 1})])
        assert projected([-1.0], gate) == [-1.0]

    def test_a_band_thinner_than_the_spacing(self, build, projected):
        third = Fraction(1, 3)
        band = [[build.literal({0: 1}, offset=-third)], [build.literal({0: -1}, offset=third + Fraction(1, 10**6))]]
        assert projected([0.0], build.gate(*band), datatype=Datatype.FP16) is Obstacle.NO_WIRE_VALUES

    def test_a_value_that_no_margin_can_reach(self, build, projected):
        """y0 = y1 / 3 holds at no rounded neighbour, and cannot be tightened."""
        line = [build.literal({0: s * 3, 1: -s}, offset=s * Fraction(1, 7), strict=False) for s in (1, -1)]
        assert projected([0.3, 0.7], build.gate(*([one] for one in line))) is Obstacle.NO_WIRE_VALUES

    @pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
    def test_beyond_the_largest_value(self, build, projected, datatype):
        beyond = build.gate([build.literal({0: 1}, offset=-2 * Fraction(largest_finite(datatype)))])
        assert projected([0.0], beyond, datatype=datatype) is Obstacle.OUT_OF_RANGE

    def test_the_largest_values_do_not_overflow_on_the_way(self, build, projected):
        largest = largest_finite(Datatype.FP64)
        answer = projected([-largest, largest], build.gate([build.above(0, 1, strict=False)]), datatype=Datatype.FP64)
        assert answer == [0.0, 0.0]

    def test_growth_ends_at_its_limit(self, build, projected):
        """3 y0 and 7 y1 must nearly agree: a wedge whose tip runs away as fast as rounding follows it."""
        thin = Fraction(1, 2**56)
        wedge = [[build.literal({0: sign * 3, 1: -sign * 7 + thin})] for sign in (1, -1)]
        assert projected([0.3, 0.1], build.gate(*wedge), datatype=Datatype.FP64) is Obstacle.NO_WIRE_VALUES


class TestWork:
    def too_costly(self, build, outputs, *clauses, norm=Norm.L2):
        gate = build.gate(*clauses, norm=norm)
        result = project(prepare([gate], build.signature(outputs=outputs)), [0], X, np.full(outputs, -1.0))
        return result.obstacle is Obstacle.TOO_COSTLY

    def test_a_search_is_limited(self, build):
        """Only a requirement that no bundle may hold: every node ties, so that the search cannot tell them apart."""
        clauses = [[build.literal({2 * n: 1}), build.literal({2 * n + 1: 1})] for n in range(12)]
        assert projection_cost([build.gate(*clauses)]) > MAX_DISJUNCTS
        assert self.too_costly(build, 24, *clauses)

    def test_a_search_of_what_a_bundle_may_hold_ends(self, build):
        clauses = [[build.literal({2 * n: 1}), build.literal({2 * n + 1: 1})] for n in range(10)]
        assert projection_cost([build.gate(*clauses)]) == MAX_DISJUNCTS
        assert not self.too_costly(build, 20, *clauses)

    def test_an_active_set_solve_is_limited(self, build):
        assert self.too_costly(build, 41, *([build.literal({n: 2, n + 1: -1}, offset=-1)] for n in range(40)))

    @pytest.mark.parametrize("norm", [Norm.L1, Norm.LINF])
    def test_a_linear_program_is_limited(self, build, norm):
        chain = [[build.literal({n: 2, n + 1: -1}, offset=-1)] for n in range(40)]
        assert self.too_costly(build, 41, *chain, norm=norm)

    def test_bounds_on_many_outputs_are_solved_apart(self, build):
        gate = build.gate(*([build.literal({n: 1}, strict=False)] for n in range(500)))
        result = project(prepare([gate], build.signature(outputs=500)), [0], X, np.full(500, -1.0))
        assert result.output.tolist() == [0.0] * 500

    def test_an_ordering_of_a_thousand_classes_needs_no_active_set(self, build):
        gate = build.gate(*([build.above(0, other)] for other in range(1, 1000)))
        outputs = np.linspace(0.0, 1.0, 1000).astype(np.float32).astype(np.float64)
        result = project(prepare([gate], build.signature(outputs=1000)), [0], X, outputs)
        assert requirement_holds(gate.requirement, X, result.output)

    def test_norms_that_differ_give_way_to_l2(self, build, projected):
        by_norm = {norm: build.gate([build.literal({0: 4, 1: 3}, strict=False)], norm=norm) for norm in Norm}
        outputs = [-7.0, 1.0]  # lacks 25
        assert projected(outputs, by_norm[Norm.L2]) == [-3.0, 4.0]
        assert projected(outputs, by_norm[Norm.L1]) == [-0.75, 1.0]
        assert projected(outputs, by_norm[Norm.LINF]) != [-3.0, 4.0]
        assert projected(outputs, by_norm[Norm.L1], by_norm[Norm.LINF]) == [-3.0, 4.0]


class TestProjectionCost:
    def test_clauses_multiply(self, build):
        gate = build.gate([build.above(1, 0), build.above(2, 0)], [build.above(3, 0)], [build.above(1, 2)] * 3)
        assert projection_cost([gate]) == 6

    def test_overlapping_gates_multiply_and_others_do_not(self, build):
        pair = [[build.above(1, 0), build.above(2, 0)]]
        left = build.gate(*pair, domain=(build.region([0], [1]),))
        touching = build.gate(*pair, domain=(build.region([5], [6]), build.region([1], [2])))
        far = build.gate(*pair, domain=(build.region([10], [11]),))
        assert projection_cost([left, touching]) == 4
        assert projection_cost([left, far]) == 2
        assert projection_cost([left, touching, far]) == 4


class TestOrderings:
    def test_what_is_no_ordering_is_not_read_as_one(self, build):
        def read(*literals):
            clauses = joint_clauses([build.gate(*([one] for one in literals))], X, np.zeros(5))
            return as_ordering([halfspace for clause in clauses for halfspace in clause.halfspaces])

        assert read(build.above(1, 0), build.literal({2: 1})) is None
        assert read(build.above(1, 0), build.literal({2: 1, 0: -2})) is None
        assert read(build.above(1, 0), build.above(2, 1)) is None
        assert read(build.above(0, 1), build.above(0, 2)).sign == 1
        assert read(build.above(1, 0), build.above(2, 0)).sign == -1

    @pytest.mark.parametrize("values", list(itertools.permutations([0.0, 1.0, 2.0])))
    def test_the_pool_meets_at_its_mean(self, build, projected, values):
        highest = build.gate(*([build.above(0, other, strict=False)] for other in (1, 2)), margin=Fraction(0))
        answer = projected(list(values), highest)
        assert answer[0] >= max(answer[1:])
        assert sum(answer) == pytest.approx(3.0, abs=1e-6)
