"""onnxruntime's answers are what was proved of them, or nothing is compiled."""

import numpy as np
import pytest

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.certified_answers import certified_answers, require_within
from sidecar.errors import InputError
from sidecar.network.values import Affine, Network, Relu
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SIGNATURE = ModelSignature((TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("y", Datatype.FP32, (2,)),), 0)
NETWORK = Network(SIGNATURE, (Affine(np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([0.0, 0.25]), 3), Relu()))


def test_bounds_lie_around_the_answer() -> None:
    lower, upper = certified_answers(NETWORK, Arithmetic.IEEE32, np.array([[3.0, 1.0], [0.0, 0.0]]))
    answer = np.array([[2.0, 6.75], [0.0, 0.25]])
    assert ((lower < answer) & (answer < upper)).all()
    assert upper - lower == pytest.approx(0.0, abs=1e-5)


def test_where_an_intermediate_value_may_overflow_nothing_is_known() -> None:
    lower, upper = certified_answers(NETWORK, Arithmetic.IEEE32, np.array([[3.0e38, 1.0], [0.0, 0.0]]))
    assert np.isneginf(lower[0]).all()
    assert np.isposinf(upper[0]).all()
    assert np.isfinite(lower[1]).all()


def test_an_answer_outside_the_bounds_disproves_the_declared_arithmetic() -> None:
    inputs, answers = np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([[2.0, 6.75], [0.0, 0.25]])
    lower, upper = certified_answers(NETWORK, Arithmetic.IEEE32, inputs)
    require_within(lower, answers, upper)
    answers[1, 1] = 0.2501
    with pytest.raises(
        InputError, match=r"vector 1: onnxruntime answers .*0\.2501.* in output 1, expected a value from"
    ):
        require_within(lower, answers, upper)
    answers[1, 1] = np.nan
    with pytest.raises(InputError, match="vector 1"):
        require_within(lower, answers, upper)
