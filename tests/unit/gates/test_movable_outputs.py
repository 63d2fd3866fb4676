"""Integer outputs stay where they are: which they are, and how projection works around them."""

import numpy as np
import pytest

from sidecar.gates.movable import held_outputs, held_tensors
from sidecar.gates.prepare import prepare
from sidecar.gates.projection import Obstacle, project
from sidecar.tensors import INTEGER_RANGES, Datatype, ModelSignature, TensorSpec

FP32, INT64 = Datatype.FP32, Datatype.INT64


@pytest.mark.parametrize("datatype", INTEGER_RANGES)
def test_integers_and_booleans_are_held(build, datatype):
    assert held_outputs(build.mixed(FP32, datatype, Datatype.BF16, Datatype.FP16, Datatype.FP64)) == {1}


def test_the_tensors_that_a_gate_would_have_to_move_are_named_once(build):
    signature = ModelSignature(
        (TensorSpec("x", FP32, (1,)),),
        (TensorSpec("scores", FP32, (2,)), TensorSpec("counts", Datatype.UINT8, (3,)), TensorSpec("label", INT64, ())),
        0,
    )
    gate = build.gate([build.literal({0: 1}), build.literal({4: 1, 2: -1})], [build.literal({5: 1})])
    assert held_tensors(gate, signature) == ["counts UINT8", "label INT64"]
    assert held_tensors(build.gate([build.literal({1: 1}, inputs={0: 1})]), signature) == []


class TestProjectionAroundThem:
    """y0 is FP32, y1 INT64; a property of its own speaks about y1."""

    @pytest.fixture
    def projected(self, build):
        def run(outputs, *gates):
            prepared = prepare(gates, build.mixed(FP32, INT64))
            result = project(prepared, range(len(gates)), [0.5], np.array(outputs))
            return result.obstacle if result.output is None else result.output.tolist()

        return run

    def test_a_clause_that_they_satisfy_asks_nothing(self, build, projected):
        capped = build.gate([build.literal({0: -1}, offset=1, strict=False)])
        either = build.gate([build.literal({1: 1}, offset=-2, strict=False), build.literal({0: 1}, offset=-7)])
        assert projected([5.0, 2.0], capped, either) == [1.0, 2.0]

    def test_a_literal_that_they_refute_is_no_way_out(self, build, projected):
        """y0 <= 1, and y1 >= 2 or y0 >= 0.5: moving y1 would be the nearest, and is not allowed."""
        capped = build.gate([build.literal({0: -1}, offset=1, strict=False)])
        either = build.gate(
            [build.literal({1: 1}, offset=-2, strict=False), build.literal({0: 2}, offset=-1, strict=False)]
        )
        assert projected([-5.0, 1.0], capped, either) == [0.5, 1.0]

    def test_a_clause_that_only_they_could_satisfy_is_a_contradiction(self, build, projected):
        capped = build.gate([build.literal({0: -1}, offset=1, strict=False)])
        labelled = build.gate([build.literal({1: 1}, offset=-2, strict=False)])
        assert projected([5.0, 1.0], capped, labelled) is Obstacle.CONTRADICTION

    def test_in_a_literal_about_both_the_other_one_moves(self, build, projected):
        assert projected([0.0, 3.0], build.gate([build.literal({0: 2, 1: -1}, strict=False)])) == [1.5, 3.0]
