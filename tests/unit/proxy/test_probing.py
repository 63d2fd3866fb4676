"""What the upstream's answers to a bundle's vectors show."""

import dataclasses

import numpy as np
import pytest

from sidecar.bundle.values import SelfTestVectors
from sidecar.proxy.active_bundle import ActiveBundle, activate
from sidecar.proxy.probing import MAX_ROWS, ProbeResult, mismatch, probed_rows
from tests.conformance.probed_model import TOLERANCE, certified_bundle, certified_vectors


@pytest.fixture(scope="module")
def active() -> ActiveBundle:
    return activate(certified_bundle())


def _unknown(vectors: SelfTestVectors, rows: list[int]) -> SelfTestVectors:
    lower, upper = vectors.lower.copy(), vectors.upper.copy()
    lower[rows], upper[rows] = -np.inf, np.inf
    return dataclasses.replace(vectors, lower=lower, upper=upper)


@pytest.mark.parametrize("count", [1, MAX_ROWS, MAX_ROWS + 1, 100])
def test_turns_go_round_through_all_vectors_a_few_at_a_time(count: int) -> None:
    vectors = certified_vectors(count)
    turns = [probed_rows(vectors, turn) for turn in range(4)]
    assert all(0 < len(rows) <= MAX_ROWS for rows in turns)
    assert sorted({row for rows in turns for row in rows}) == list(range(count))


def test_vectors_without_bounds_are_not_asked() -> None:
    vectors = certified_vectors(5)
    assert probed_rows(_unknown(vectors, [0, 3]), 7) == [1, 2, 4]
    assert probed_rows(_unknown(vectors, list(range(5))), 0) == []


def test_the_bounds_themselves_match_and_the_next_number_does_not(active: ActiveBundle) -> None:
    vectors = active.bundle.vectors
    assert mismatch(active, 3, vectors.lower[3]) is None
    assert mismatch(active, 3, vectors.upper[3]) is None
    for beyond in (np.nextafter(vectors.lower[3], -np.inf), np.nextafter(vectors.upper[3], np.inf)):
        found = mismatch(active, 3, beyond)
        assert found is not None
        assert found.result is ProbeResult.MISMATCH


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_match(active: ActiveBundle, value: float) -> None:
    got = active.bundle.vectors.outputs[0].copy()
    got[3] = value
    found = mismatch(active, 0, got)
    assert found is not None
    assert f"vector 0: output z[0] is {value!r}, expected from " in found.detail


def test_where_nothing_is_known_anything_may_be_answered(active: ActiveBundle) -> None:
    vectors = active.bundle.vectors
    lower, upper = vectors.lower.copy(), vectors.upper.copy()
    lower[0, 1], upper[0, 1] = -np.inf, np.inf
    partly = activate(certified_bundle(lower=lower, upper=upper))
    got = vectors.outputs[0].copy()
    got[1] = np.nan
    assert mismatch(partly, 0, got) is None
    got[2] += 2 * TOLERANCE
    assert mismatch(partly, 0, got) is not None


def test_a_mismatch_says_where_what_was_got_and_what_to_do(active: ActiveBundle) -> None:
    got = active.bundle.vectors.outputs[2].copy()
    got[1] += 0.5
    found = mismatch(active, 2, got)
    assert found is not None
    lower, upper = (float(each[2, 1]) for each in (active.bundle.vectors.lower, active.bundle.vectors.upper))
    assert f"vector 2: output y[1] is {float(got[1])!r}, expected from {lower!r} to {upper!r}" in found.detail
    assert "TF32" in found.detail
    assert "compile a bundle for this one" in found.detail
