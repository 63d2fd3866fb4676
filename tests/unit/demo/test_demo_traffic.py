"""What the demo asks: FP32 rows from everywhere, from every domain, and counterexamples; the same every time."""

from fractions import Fraction

import numpy as np

from sidecar.demo.traffic import BATCHES, requests
from sidecar.gates.values import Action, Box, Gate, Norm, Region, Requirement

COUNTEREXAMPLES = np.array([[0.25, 0.5, 0.75]])


def gate(name: str, lower: str, upper: str) -> Gate:
    box = Box((Fraction(lower),) * 3, (Fraction(upper),) * 3)
    return Gate(name, (Region(box),), Requirement(()), Action.PROJECT, Fraction(0), Norm.L2, None)


GATES = (gate("low", "0.1", "0.11"), gate("high", "0.9", "0.91"))


def test_requests_are_repeatable_fp32_batches() -> None:
    sent = list(requests(GATES, COUNTEREXAMPLES, 50))
    assert [len(batch) in BATCHES for batch in sent] == [True] * 50
    again = list(requests(GATES, COUNTEREXAMPLES, 50))
    assert all(np.array_equal(first, second) for first, second in zip(sent, again, strict=True))
    assert all(np.array_equal(batch, batch.astype(np.float32)) for batch in sent)


def test_rows_come_from_every_domain_from_elsewhere_and_from_the_counterexamples() -> None:
    rows = np.concatenate(list(requests(GATES, COUNTEREXAMPLES, 300)))
    low = ((rows > 0.099) & (rows < 0.111)).all(axis=1)
    high = ((rows > 0.899) & (rows < 0.911)).all(axis=1)
    counterexamples = (rows == COUNTEREXAMPLES[0]).all(axis=1)
    shares = [kind.mean() for kind in (low, high, counterexamples, ~(low | high | counterexamples))]
    assert all(share > 0.05 for share in shares)


def test_traffic_needs_no_counterexamples() -> None:
    assert len(list(requests(GATES, np.empty((0, 3)), 5))) == 5
