"""Violations that show although some outputs cannot be read."""

import numpy as np
import pytest

from sidecar.gates.partial import surely_violated
from sidecar.gates.prepare import prepare
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

NAN = float("nan")
SIGNATURE = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (1,)),),
    (TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("z", Datatype.FP32, (1,))),
    batch_axis=0,
)
READABLE_Y = np.array([True, True, False])


@pytest.fixture
def gates(build):
    """On y alone; on y and on z; on y or z; on z alone."""
    y0, y1, z = build.literal({0: 1}), build.literal({1: 1}), build.literal({2: 1})
    return prepare(
        [
            build.gate([y0], property_id="y"),
            build.gate([y0], [z], property_id="y and z"),
            build.gate([y1, z], property_id="y or z"),
            build.gate([z], property_id="z"),
        ],
        SIGNATURE,
    )


@pytest.mark.parametrize(
    ("y", "violated"),
    [
        ([1, 1], [False, False, False, False]),
        ([1, -1], [False, False, False, False]),  # z may hold
        ([-1, 1], [True, True, False, False]),
        ([NAN, 1], [True, True, True, False]),  # a tensor is required as a whole
    ],
)
def test_of_one_tensor(gates, y, violated):
    outputs = np.array([[*y, NAN]])
    considered = np.ones((1, 4), dtype=np.bool_)
    found = surely_violated(gates, np.zeros((1, 1)), outputs, READABLE_Y, considered)
    assert found.tolist() == [violated]


def test_nothing_shows_where_nothing_can_be_read(gates):
    outputs = np.full((2, 3), NAN)
    found = surely_violated(gates, np.zeros((2, 1)), outputs, np.zeros(3, np.bool_), np.ones((2, 4), np.bool_))
    assert not found.any()


def test_only_what_is_considered_is_looked_at(gates):
    outputs = np.array([[-1.0, -1.0, NAN]] * 2)
    considered = np.array([[True, False, False, False], [False, False, False, False]])
    assert surely_violated(gates, np.zeros((2, 1)), outputs, READABLE_Y, considered).tolist() == considered.tolist()
