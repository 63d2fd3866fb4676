"""What the checker cannot prove of a leaf becomes open, and no more than that."""

from fractions import Fraction

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.coverage_rules import check_tree
from sidecar.bundle.values import Arithmetic
from sidecar.certificate.bounds import staged
from sidecar.certificate.leaves import Task, demand, pieces
from sidecar.certificate.processes import Processes
from sidecar.compiler.leaf_proofs import CARE, MOST_HALVINGS, prove_leaves
from sidecar.gates.values import Box, Literal, Region, Requirement, terms
from sidecar.network.values import Affine, Network
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

SPECS = (TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (1,)),)
SAME = Network(ModelSignature(*SPECS, None), (Affine(np.eye(1), np.zeros(1), 2),))
BOX = Box((Fraction(-1),), (Fraction(3),))
REQUIREMENT = Requirement(((Literal(terms({0: Fraction(1)}), (), Fraction(1, 3), strict=True),),))
"""``x > -1/3``, on [-1, 3]."""


@pytest.mark.parametrize("label", [Label.SILENT, Label.VIOLATING])
@pytest.mark.parametrize("splits", [(), (1.0,)], ids=["one leaf", "two leaves"])
def test_of_a_leaf_that_is_not_as_it_says_the_part_that_is_so_is_kept(label: Label, splits: tuple[float, ...]) -> None:
    feature = np.array([0, LEAF, LEAF] if splits else [LEAF], np.int32)
    labels, volume = np.where(feature == LEAF, np.uint8(label), np.uint8(0)), np.eye(4)[label]
    claimed = CoverageTree(feature, np.where(feature == LEAF, 0.0, 1.0), labels, volume)
    wanted = demand(REQUIREMENT, Region(BOX), SAME)
    proved = prove_leaves(staged(SAME, Arithmetic.IEEE32, 1, CARE), wanted, claimed, BOX, Processes(1), lambda _: None)
    check_tree(proved.tree, BOX)
    true = 5 / 6 if label is Label.SILENT else 1 / 6
    assert true - 2.0**-MOST_HALVINGS < proved.tree.volume[label] < true
    assert proved.tree.volume[Label.OPEN] == proved.opened_volume == 1.0 - proved.tree.volume[label]
    assert proved.opened == (2 if label is Label.VIOLATING and splits else 1)
    assert len(proved.tree.feature) < 4 * MOST_HALVINGS
    some = pieces(proved.tree, BOX, wanted, proved.proofs)
    assert Task(staged(SAME, Arithmetic.IEEE32, 1), wanted).proved(some).all()


def test_several_processes_find_the_hints_that_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.certificate.processes.ALONE_PORTIONS", 0)
    claimed = CoverageTree(np.array([LEAF], np.int32), np.zeros(1), np.array([Label.SILENT], np.uint8), np.eye(4)[1])
    wanted, careful = demand(REQUIREMENT, Region(BOX), SAME), staged(SAME, Arithmetic.IEEE32, 1, CARE)
    with Processes(2) as processes:
        shared = prove_leaves(careful, wanted, claimed, BOX, processes, lambda _: None)
    alone = prove_leaves(careful, wanted, claimed, BOX, Processes(1), lambda _: None)
    for ours, theirs in ((shared.tree, alone.tree), (shared.proofs, alone.proofs)):
        assert all((getattr(ours, name) == value).all() for name, value in vars(theirs).items())
