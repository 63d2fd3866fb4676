"""The self-test passes what is right, and names the row that is decided otherwise or wrongly."""

import dataclasses

import numpy as np
import pytest

from sidecar.bundle.acceptance import accept
from sidecar.bundle.codec import encode
from sidecar.bundle.self_test import expected_decisions, self_test
from sidecar.bundle.values import Bundle
from sidecar.errors import BundleError, Reason
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action


def _try(bundle: Bundle) -> None:
    self_test(bundle, prepare(bundle.gates, bundle.manifest.signature))


def _refused(bundle: Bundle, says: str) -> None:
    with pytest.raises(BundleError) as caught:
        _try(bundle)
    assert caught.value.reason is Reason.BUNDLE_SELF_TEST
    assert says in caught.value.message


def _with_cell(bundle: Bundle, name: str, row: int, column: int, value: float) -> Bundle:
    array = getattr(bundle.vectors, name).copy()
    array[row, column] = value
    return dataclasses.replace(bundle, vectors=dataclasses.replace(bundle.vectors, **{name: array}))


def test_a_good_bundle_passes(bundle: Bundle) -> None:
    _try(bundle)
    _try(accept(encode(bundle)))


def test_expected_decisions_are_what_the_bundle_says(bundle: Bundle) -> None:
    signature, vectors = bundle.manifest.signature, bundle.vectors
    expected = expected_decisions(
        bundle.gates, signature, vectors.inputs, vectors.outputs, vectors.lower, vectors.upper
    )
    for field in dataclasses.fields(expected):
        assert getattr(expected, field.name).tobytes() == getattr(vectors, field.name).tobytes()


def test_a_row_to_be_refused_is_nan_and_passes(bundle: Bundle) -> None:
    gates = (dataclasses.replace(bundle.gates[0], action=Action.REFUSE), bundle.gates[1])
    signature, vectors = bundle.manifest.signature, bundle.vectors
    expected = expected_decisions(gates, signature, vectors.inputs, vectors.outputs, vectors.lower, vectors.upper)
    assert np.isnan(expected.corrected).tolist() == [[False] * 3, [True] * 3, [False] * 3, [False] * 3]
    refusing = dataclasses.replace(bundle, gates=gates, vectors=expected)
    _try(accept(encode(refusing)))


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("contained", 0, 0, False),
        ("fired", 1, 0, False),
        ("corrected", 1, 1, np.nextafter(np.float32(0.5), np.float32(1))),
        ("corrected", 3, 0, 0.0),  # the sign of a zero
        ("corrected", 2, 0, np.nan),
    ],
)
def test_a_row_decided_otherwise_is_named(bundle: Bundle, name: str, row: int, column: int, value: float) -> None:
    _refused(_with_cell(bundle, name, row, column, value), f"vector {row}: {name} differs")


def test_vectors_that_a_faulty_evaluator_confirms_are_refused_by_rational_arithmetic(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact check stands on its own: it is tried with an evaluator that agrees with whatever is written."""
    for name, row, column, value, says in (
        ("contained", 3, 1, True, "vector 3: gate 'bounded-score': contained is False"),
        ("fired", 0, 0, True, "vector 0: gate 'brake-when-near': fired is False"),
        ("fired", 2, 1, False, "vector 2: gate 'bounded-score': fired is True"),
        ("corrected", 1, 0, 0.75, "vector 1: gate 'brake-when-near': the corrected output violates it"),
    ):
        wrong = _with_cell(bundle, name, row, column, value)
        agreed = (wrong.vectors.corrected, wrong.vectors.contained, wrong.vectors.fired)
        monkeypatch.setattr("sidecar.bundle.self_test._decided", lambda *_, agreed=agreed: agreed)
        _refused(wrong, says)
