"""Bounds, envelopes, linear forms: corners that sampling does not reach."""

from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.values import Arithmetic
from sidecar.compiler.bounds import bound, prepare
from sidecar.compiler.literal_rows import literal_rows
from sidecar.compiler.relaxation import relax
from sidecar.compiler.rounding import staged
from sidecar.errors import InputError
from sidecar.gates.values import Literal, Requirement, terms
from sidecar.network.products import product
from sidecar.network.values import Affine, Layer, Network, Relu
from sidecar.tensors import Datatype, ModelSignature, TensorSpec


def _network(inputs: int, outputs: int, *layers: Layer, datatype: Datatype = Datatype.FP32) -> Network:
    signature = ModelSignature((TensorSpec("x", datatype, (inputs,)),), (TensorSpec("y", datatype, (outputs,)),), None)
    return Network(signature, layers)


def _dense(weight: list[list[float]], bias: list[float] | None = None) -> Affine:
    matrix = np.array(weight)
    return Affine(matrix, np.zeros(len(matrix)) if bias is None else np.array(bias), matrix.shape[1] + 1)


def _positive(index: int, offset: Fraction = Fraction(0), strict: bool = True) -> Literal:
    return Literal(terms({index: Fraction(1)}), (), offset, strict)


def _bounds(network: Network, requirement: Requirement, lower: list[float], upper: list[float]):  # type: ignore[no-untyped-def]
    prepared = prepare(network, requirement, Arithmetic.IEEE32)
    box = np.array([lower]), np.array([upper])
    return bound(prepared, *box, np.zeros((1, prepared.hidden), np.int8))


ONE = Requirement(((_positive(0),),))


def test_bounds_of_a_small_network_are_as_tight_as_the_relaxation() -> None:
    network = _network(1, 1, _dense([[1.0], [-1.0]]), Relu(), _dense([[1.0, 1.0]]))  # |x|
    bounds = _bounds(network, ONE, [-1.0], [1.0])
    assert bounds.upper[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert bounds.lower[0, 0] == pytest.approx(0.0, abs=2.0)
    assert (bounds.phases == 0).all()
    stable = _bounds(network, ONE, [0.25], [1.0])
    assert stable.phases.tolist() == [[1, -1]]
    assert (stable.lower[0, 0], stable.upper[0, 0]) == (pytest.approx(0.25, abs=1e-5), pytest.approx(1.0, abs=1e-5))


def test_the_linear_form_lies_below_the_literal() -> None:
    network = _network(1, 1, _dense([[1.0], [-1.0]]), Relu(), _dense([[1.0, 2.0]]))
    bounds = _bounds(network, ONE, [0.25], [1.0])
    assert bounds.slope[0, 0, 0] == pytest.approx(1.0)
    assert 0.25 * bounds.slope[0, 0, 0] + bounds.constant[0, 0] <= 0.25


@pytest.mark.parametrize(
    "layers",
    [
        (_dense([[2.0**70]]), _dense([[2.0**70]])),
        (_dense([[2.0**70]]), Relu(), _dense([[2.0**70]])),
        (_dense([[2.0**120], [1.0]]), Relu(), _dense([[2.0**10, 0.0]]), Relu(), _dense([[2.0**-100]])),
        (_dense([[2.0**127, 2.0**127]]), _dense([[2.0**-100]])),
        (_dense([[1.0]], [2.0**127]), Relu(), _dense([[1.0]], [2.0**127])),
    ],
)
def test_what_could_overflow_is_unknown(layers: tuple[Layer, ...]) -> None:
    inputs = layers[0].weight.shape[1] if isinstance(layers[0], Affine) else 1
    bounds = _bounds(_network(inputs, 1, *layers), ONE, [0.5] * inputs, [1.0] * inputs)
    assert bounds.lower.tolist() == [[-np.inf]]
    assert bounds.upper.tolist() == [[np.inf]]
    assert not np.isfinite(bounds.constant).any()
    assert not bounds.phases.any()


def test_a_huge_box_is_unknown() -> None:
    network = _network(1, 1, _dense([[1.0]]), Relu(), _dense([[1.0]]))
    for edge in (2.0**127, 1e300, np.inf):
        bounds = _bounds(network, ONE, [-1.0], [edge])
        assert bounds.lower.tolist() == [[-np.inf]]


def test_a_coefficient_beyond_float64_makes_its_literal_unknown_alone() -> None:
    network = _network(1, 1, _dense([[1.0]]))
    huge = Literal(terms({0: Fraction(10) ** 400}), (), Fraction(0), True)
    bounds = _bounds(network, Requirement(((huge, _positive(0)),)), [0.5], [1.0])
    assert bounds.lower[0, 0] == -np.inf
    assert bounds.lower[0, 1] == pytest.approx(0.5, abs=1e-6)


def test_a_margin_smaller_than_float32_rounding_is_not_proved() -> None:
    """1 + 1e-9 - x is positive on [0, 1], but a float32 sum of three terms may lose 1e-9."""
    network = _network(1, 1, _dense([[-1.0]], [1.0]))
    close = Requirement(((_positive(0, Fraction(1, 10**9)),),))
    assert _bounds(network, close, [0.0], [1.0]).lower[0, 0] < 0.0
    clear = Requirement(((_positive(0, Fraction(1, 10**5)),),))
    assert _bounds(network, clear, [0.0], [1.0]).lower[0, 0] > 0.0


@pytest.mark.parametrize(
    "layers",
    [(), (Relu(),), (Relu(), Relu()), (Relu(), _dense([[1.0]]), Relu(), Relu(), _dense([[1.0]]), Relu())],
)
def test_relus_may_come_first_last_and_twice(layers: tuple[Layer, ...]) -> None:
    bounds = _bounds(_network(1, 1, *layers), ONE, [0.5], [1.0])
    assert bounds.lower[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert bounds.upper[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_a_requirement_without_clauses_has_no_literals() -> None:
    bounds = _bounds(_network(1, 1, _dense([[1.0]]), Relu()), Requirement(()), [0.0], [1.0])
    assert bounds.lower.shape == (1, 0)
    rows = literal_rows(Requirement(()), 1, 1)
    assert rows.all_have(bounds.lower > 0).tolist() == [True]
    assert rows.one_lacks(bounds.upper < 0).tolist() == [False]
    assert rows.best(bounds.lower).shape == (1, 0)


def test_a_literal_in_two_clauses_is_one_row() -> None:
    rows = literal_rows(Requirement(((_positive(0), _positive(1)), (_positive(1),))), 1, 2)
    assert rows.clauses == ([0, 1], [1])
    assert rows.all_have(np.array([[True, False], [False, True]])).tolist() == [False, True]
    assert rows.one_lacks(np.array([[True, False], [False, True]])).tolist() == [False, True]


def test_the_declared_arithmetic_must_be_the_tensors() -> None:
    network = _network(1, 1, _dense([[1.0]]), datatype=Datatype.FP64)
    with pytest.raises(InputError, match="ieee32 speaks about FP32 tensors; the model's are FP64"):
        staged(network, Arithmetic.IEEE32)
    staged(network, Arithmetic.IEEE64)


def test_too_long_a_sum_is_refused() -> None:
    network = _network(1, 1, Affine(np.ones((1, 1)), np.zeros(1), 2**21))
    with pytest.raises(InputError, match="limit is 1048576"):
        staged(network, Arithmetic.IEEE32)


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 2.0), (-1e-300, 1e300), (-1e300, 1e-300), (-5e-324, 5e-324)])
def test_the_chord_lies_above_both_ends_exactly(lower: float, upper: float) -> None:
    relaxation = relax(np.array([[lower]]), np.array([[upper]]))
    slope, shift = (Fraction(float(values[0, 0])) for values in (relaxation.upper_slope, relaxation.upper_shift))
    assert slope * Fraction(lower) + shift >= 0
    assert slope * Fraction(upper) + shift >= Fraction(upper)
    assert relaxation.lower_slope[0, 0] in (0.0, 1.0)


def test_stable_neurons_pass_unchanged_or_not_at_all() -> None:
    relaxation = relax(np.array([[0.0, -2.0, 0.0]]), np.array([[1.0, 0.0, 0.0]]))
    assert relaxation.lower_slope.tolist() == relaxation.upper_slope.tolist() == [[1.0, 0.0, 1.0]]
    assert relaxation.upper_shift.tolist() == [[0.0, 0.0, 0.0]]


def test_sliced_products_are_products() -> None:
    rng = np.random.default_rng(0)
    for shape in ((0, 3), (1, 3), (200_000, 3)):
        rows = rng.integers(-9, 9, shape).astype(np.float64)
        matrix = rng.integers(-9, 9, (3, 2)).astype(np.float64)
        assert (product(rows, matrix) == rows @ matrix).all()
