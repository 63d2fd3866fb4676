"""A short `make attack`: what the search claims does not fall, and what is claimed wrongly does."""

import dataclasses
import pathlib

import numpy as np
import pytest

from sidecar.bundle.coverage import Label
from sidecar.bundle.values import Arithmetic
from sidecar.compiler.search import SearchLimits
from sidecar.demo.driving import MODEL_PATH, PROPERTIES_PATH
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties
from tests.attack.answering import Answering
from tests.attack.arithmetics import SIMULATED, simulated
from tests.attack.attacks import Found, attack
from tests.attack.claims import Claim, claimed
from tests.attack.planted import Plan, plant, tried
from tests.benchmarks.public_sets import acas_xu

LIMITS = SearchLimits(max_regions=2000)
PLANTED_LIMITS = SearchLimits(time_limit_seconds=1.0, max_regions=3000)


def _claims(arithmetic: Arithmetic) -> list[Claim]:
    model = read_model(MODEL_PATH)
    stated = read_properties(PROPERTIES_PATH, model.signature).properties
    return [claim for each in stated for claim in claimed(each.trace.property_id, model, each, LIMITS, arithmetic)]


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    return _claims(Arithmetic.IEEE32)


def _attacked(claim: Claim, label: Label, how: Arithmetic | None, count: int = 20_000) -> Found:
    answering = Answering(claim.model)
    ask = answering if how is None else simulated(claim.model.network, how, seed=0)
    leaves = claim.leaves(label)
    assert len(leaves)
    return attack(claim, leaves, ask, answering.precision, count, silent=label is Label.SILENT)


@pytest.mark.parametrize("how", [None, Arithmetic.IEEE32], ids=["onnxruntime", "ieee32"])
@pytest.mark.parametrize("label", [Label.SILENT, Label.VIOLATING])
def test_no_claim_on_the_demos_model_falls(claims: list[Claim], label: Label, how: str) -> None:
    for claim in claims:
        found = _attacked(claim, label, how)
        assert found.rows > 50_000
        assert found.fallen == 0, found.unsound


@pytest.mark.parametrize("arithmetic", [each for each in SIMULATED if each is not Arithmetic.IEEE32])
def test_no_claim_about_a_coarse_arithmetic_falls_in_it(arithmetic: Arithmetic) -> None:
    """Nor in a finer one, onnxruntime's."""
    for claim in _claims(arithmetic):
        assert claim.share(Label.SILENT) > 0.5, "claims are made at all"
        for how in (arithmetic, None):
            found = _attacked(claim, Label.SILENT, how, 5_000)
            assert found.rows > 20_000
            assert found.fallen == 0, found.unsound


def test_a_claim_that_is_wrong_falls(claims: list[Claim]) -> None:
    """The same leaves under the other label, and open ones as silent."""
    claim = claims[0]
    assert attack(claim, claim.leaves(Label.VIOLATING), Answering(claim.model), np.float32, 1000, silent=True).fallen
    assert attack(claim, claim.leaves(Label.SILENT), Answering(claim.model), np.float32, 1000, silent=False).fallen
    assert attack(claim, claim.leaves(Label.OPEN), Answering(claim.model), np.float32, 20_000, silent=True).fallen


def test_descent_finds_what_samples_miss(acasxu: pathlib.Path) -> None:
    """N1,9 violates property 7 in a millionth of its domain."""
    assert acasxu.is_dir()
    (each,) = (one for one in acas_xu() if one.name == "1_9 prop_7")
    model, (stated,) = each.read()
    (claim,) = claimed(each.name, model, stated, SearchLimits(max_regions=1))
    tree = dataclasses.replace(claim.tree, label=np.where(claim.tree.label > 0, Label.SILENT, 0).astype(np.uint8))
    wrong = dataclasses.replace(claim, tree=tree)
    assert attack(wrong, wrong.leaves(Label.SILENT), Answering(model), np.float32, 20_000, silent=True).fallen


def test_a_coarser_arithmetic_than_is_declared_breaks_claims(claims: list[Claim]) -> None:
    """So the simulation reaches the margins; the sidecar calls such rows breaches."""
    assert _attacked(claims[0], Label.SILENT, Arithmetic.BF16).fallen


def test_leaves_hold_what_the_tree_labels_so(claims: list[Claim]) -> None:
    rng = np.random.default_rng(3)
    for claim in claims:
        for label in (Label.SILENT, Label.VIOLATING, Label.OPEN):
            leaves = claim.leaves(label)
            for index in rng.integers(len(leaves), size=50):
                for row in (leaves.lower[index], leaves.upper[index]):
                    assert claim.label_of(row) is label
                    assert np.array_equal(row, row.astype(np.float32))


@pytest.mark.parametrize(
    ("inputs", "steepness", "depth"), [(2, 2.0**3, 1e-2), (3, 2.0**7, 1e-3), (5, 2.0**7, 1e-2), (5, 2.0**5, 1e-6)]
)
def test_no_planted_counterexample_is_overlooked(inputs: int, steepness: float, depth: float) -> None:
    planted = plant(Plan(inputs, steepness, depth, seed=7))
    outcome = tried(planted, PLANTED_LIMITS, samples=20_000)
    assert not outcome.unsound, outcome
    if steepness > 2.0**3:
        assert outcome.hit == 0, "samples do not find it"
