"""What the checker understands, and what it says."""

import dataclasses
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.values import Arithmetic
from sidecar.certificate import leaves
from sidecar.certificate.bounds import enclose, lower_bound, output_rows, staged
from sidecar.certificate.report import Reporter, document, render
from sidecar.certificate.values import PIECE, LeafProofs
from sidecar.errors import NegativeAnswer
from sidecar.gates.values import Box, Literal, Region, Requirement, terms
from sidecar.network.values import Affine, Layer, Network, Relu
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.unit.certificate.conftest import Sealed

ONE = Fraction(1)


def _network(*layers: Layer, size: int = 1) -> Network:
    specs = (TensorSpec("x", Datatype.FP32, (size,)),), (TensorSpec("y", Datatype.FP32, (1,)),)
    return Network(ModelSignature(*specs, None), layers)


def _affine(weight: float, bias: float) -> Affine:
    return Affine(np.array([[weight]]), np.array([bias]), 2)


def _least(network: Network, low: float, high: float, sign: float = 1.0) -> float:
    known = enclose(staged(network, Arithmetic.IEEE32, 1), np.array([[low]]), np.array([[high]]))
    return float(lower_bound(known, output_rows(known, np.array([[sign]])), np.zeros(1, np.intp))[0])


@pytest.mark.parametrize(
    ("layers", "least"),
    [
        ((_affine(1, 0),), -1.0),
        ((Relu(),), -1.0),
        ((Relu(), Relu(), _affine(-2, 1)), -3.0),
        ((_affine(2, 5), _affine(-1, 0), Relu()), 0.0),
    ],
)
def test_bounds_of_what_one_can_work_out_by_hand(layers: tuple[Layer, ...], least: float) -> None:
    assert least - 1e-5 < _least(_network(*layers), -1.0, 2.0) <= least


def test_where_an_overflow_looms_nothing_is_bounded() -> None:
    assert not np.isfinite(_least(_network(_affine(1e38, 0), Relu(), _affine(1, 0)), -1.0, 2.0))
    assert not np.isfinite(_least(_network(_affine(1e300, 0), Relu(), _affine(1e300, 0)), -1.0, 2.0))


def test_a_network_that_adds_up_too_much_is_not_understood() -> None:
    wide = _network(Affine(np.zeros((1, 2**19)), np.zeros(1), 2**19), size=2**19)
    with pytest.raises(NegativeAnswer, match="not understood"):
        staged(wide, Arithmetic.IEEE32, 1)


def _claim(box: Box, requirement: Requirement, label: Label, weights: int, clause: int = 0) -> bool:
    """Whether a tree of one leaf is proved about ``y = x``."""
    network = _network(_affine(1, 0))
    tree = CoverageTree(
        feature=np.array([LEAF], np.int32),
        threshold=np.zeros(1),
        label=np.array([label], np.uint8),
        volume=np.zeros(4),
    )
    wanted = leaves.demand(requirement, Region(box), network)
    count = len(wanted.literals.offset)
    hints = np.full((1, count), weights, np.uint8), np.array([clause], np.int32)
    some = leaves.pieces(tree, box, wanted, LeafProofs(np.array([PIECE], np.int32), np.zeros(0), *hints))
    task = leaves.Task(staged(network, Arithmetic.IEEE32, wanted.widest), wanted)
    return bool(task.proved(some).all())


def _at_least(bound: Fraction, strict: bool = False) -> Requirement:
    return Requirement(((Literal(terms({0: ONE}), (), -bound, strict),),))


UNIT = Box((ONE,), (2 * ONE,))


def test_claims_are_proved_from_the_box_alone() -> None:
    assert _claim(UNIT, _at_least(ONE / 2), Label.SILENT, 1)
    assert not _claim(UNIT, _at_least(ONE / 2), Label.VIOLATING, 0)
    assert _claim(UNIT, _at_least(ONE * 3), Label.VIOLATING, 0)
    assert not _claim(UNIT, _at_least(ONE * 3), Label.SILENT, 1)
    assert not _claim(UNIT, _at_least(ONE * 3 / 2), Label.SILENT, 1)
    assert not _claim(UNIT, _at_least(ONE * 3 / 2), Label.VIOLATING, 0)


def test_what_requires_nothing_is_silent_and_never_violated() -> None:
    assert _claim(UNIT, Requirement(()), Label.SILENT, 0)
    assert not _claim(UNIT, Requirement(()), Label.VIOLATING, 0)


def test_a_tie_is_never_proved() -> None:
    """So no proof depends on how a literal reads a tie."""
    for strict in (True, False):
        assert not _claim(UNIT, _at_least(ONE, strict), Label.SILENT, 1)
        assert not _claim(UNIT, _at_least(2 * ONE, strict), Label.VIOLATING, 0)


def test_numbers_beyond_float64_prove_nothing() -> None:
    huge = Fraction(10**400)
    assert not _claim(Box((-huge,), (huge,)), _at_least(-huge * 2), Label.SILENT, 1)
    assert not _claim(UNIT, _at_least(-huge), Label.SILENT, 1)
    assert not _claim(Box((huge,), (huge,)), _at_least(ONE), Label.SILENT, 1)


def test_the_report_says_what_was_established(sealed: Sealed) -> None:
    report = sealed.checked()
    text = render(report, Path("b.gates"))
    assert text.startswith("b.gates: all of it holds\n  bundle, certificate and model file are about one another")
    assert "4 gates are those of the property files" in text
    assert "leaves claim nothing" in text
    assert document(report)["holds"] is True


def test_a_terminal_shows_progress_and_a_pipe_none() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), "region 0: 10 of 20 boxes"), (io.StringIO(), "")):
        with Reporter(stream) as reporter:
            reporter.show("property 'a', region 0", 10, 20)
        assert shown in stream.getvalue()
        assert bool(stream.getvalue()) == bool(shown)


def test_a_box_in_many_dimensions_is_described_in_part() -> None:
    box = np.zeros((1, 9))
    some = leaves.Pieces(
        box, box, np.array([True]), np.zeros((1, 0), np.uint8), np.zeros(1, np.int32), np.zeros(1, np.intp)
    )
    assert leaves.described(some, 0).endswith("[0.0, 0.0], ...")


def test_a_model_that_is_not_to_be_proved_is_checked_by_its_digest(sealed: Sealed) -> None:
    """Everything but what would be proved of the model."""
    nothing = sealed.with_manifest(options=(("proof", "none"),))
    for gate in range(4):
        nothing = nothing.with_tree(
            gate,
            lambda tree: dataclasses.replace(
                tree, label=np.where(tree.feature == LEAF, np.uint8(Label.OPEN), tree.label)
            ),
        )
    vectors = nothing.bundle.vectors
    everywhere = np.full_like(vectors.lower, np.inf)
    report = nothing.with_vectors(lower=-everywhere, upper=everywhere).checked()
    assert report.pieces == 0
    with pytest.raises(NegativeAnswer, match="nothing is proved of its model"):
        nothing.checked()
