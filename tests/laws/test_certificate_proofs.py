"""Law: what the checker proves holds at every point, in exact arithmetic and in the declared one however it sums up."""

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage_rules import check_tree
from sidecar.bundle.values import Arithmetic
from sidecar.certificate.bounds import enclose, lower_bound, staged
from sidecar.certificate.leaves import Pieces, Task, combined, demand, pieces
from sidecar.certificate.processes import Processes
from sidecar.certificate.statements import answers_between
from sidecar.compiler.leaf_proofs import CARE, prove_leaves
from sidecar.compiler.search import SearchLimits, partition
from sidecar.gates.exact import literal_holds, requirement_holds
from sidecar.gates.values import Box, Literal, Region, Requirement, terms
from sidecar.network.values import Affine, Network, Relu
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.laws.random_networks import datatype_of, exact_answer, random_network, served

Floats: TypeAlias = npt.NDArray[np.float64]
SPREADS = st.sampled_from([0.0, 1.0, 3.0, 8.0, 14.0, 25.0])
SEEDS = st.integers(0, 2**32)
ABOUT_FP32 = st.sampled_from([each for each in Arithmetic if datatype_of(each) is Datatype.FP32])


def _literal(rng: np.random.Generator, inputs: int, outputs: bool = True) -> Literal:
    return Literal(
        terms({index: Fraction(int(rng.integers(-3, 4)), 7) for index in range(3)} if outputs else {}),
        terms({index: Fraction(int(rng.integers(-2, 3)), 3) for index in range(inputs) if rng.random() < 0.3}),
        Fraction(int(rng.integers(-5, 6)), 10),
        bool(rng.integers(2)),
    )


def _requirement(rng: np.random.Generator, inputs: int) -> Requirement:
    clauses = (tuple(_literal(rng, inputs) for _ in range(rng.integers(1, 4))) for _ in range(rng.integers(1, 4)))
    return Requirement(tuple(clauses))


def _box(rng: np.random.Generator, size: int, precision: type) -> tuple[Floats, Floats]:
    centre, radius = rng.uniform(-1, 1, size), 10.0 ** rng.uniform(-9, 0.3, size)
    radius[rng.random(size) < 0.15] = 0.0
    lower, upper = (centre - radius).astype(precision), (centre + radius).astype(precision)
    return np.minimum(lower, upper).astype(np.float64), np.maximum(lower, upper).astype(np.float64)


def _points(rng: np.random.Generator, lower: Floats, upper: Floats, precision: type) -> Floats:
    inside = rng.uniform(lower, upper, (4, len(lower)))
    corners = np.where(rng.random(inside.shape) < 0.5, lower, upper)
    return np.concatenate([inside, corners]).astype(precision).astype(np.float64).clip(lower, upper)


def _answers(
    network: Network, points: Floats, rng: np.random.Generator, arithmetic: Arithmetic
) -> list[list[list[Fraction]]]:
    """Per point several answers: exact ones, and served ones that are finite."""
    answers = served(network, points, arithmetic, rng, 3)
    return [
        [
            exact_answer(network, point),
            *([Fraction(y) for y in s[index]] for s in answers if np.isfinite(s[index]).all()),
        ]
        for index, point in enumerate(points)
    ]


def _value(literal: Literal, point: Floats, answer: list[Fraction]) -> Fraction:
    value = sum((c * answer[index] for index, c in literal.outputs), literal.offset)
    return value + sum((c * Fraction(point[index]) for index, c in literal.inputs), Fraction(0))


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, spread=SPREADS, arithmetic=st.sampled_from(Arithmetic))
def test_combinations_do_not_fall_below_their_bounds(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    rng, precision = np.random.default_rng(seed), np.float64 if arithmetic is Arithmetic.IEEE64 else np.float32
    network = random_network(rng, datatype_of(arithmetic), spread)
    literals = tuple(_literal(rng, network.signature.input_size) for _ in range(3))
    boxes = [_box(rng, network.signature.input_size, precision) for _ in range(2)]
    lower, upper = (np.array(ends) for ends in zip(*boxes, strict=True))
    wanted = demand(Requirement((literals,)), Region(Box((Fraction(0),), (Fraction(1),))), network)
    factors = rng.integers(0, 256, (4, 3)).astype(np.float64) * rng.choice([-1.0, 1.0], (4, 1))
    known = enclose(staged(network, arithmetic, wanted.widest), lower, upper)
    box = np.array([0, 1, 1, 0])
    bounds = lower_bound(known, combined(wanted, slice(0, 3), factors), box)
    for row, bound in enumerate(bounds):
        points = _points(rng, lower[box[row]], upper[box[row]], precision)
        for point, answers in zip(points, _answers(network, points, rng, arithmetic), strict=True):
            for answer in answers if np.isfinite(bound) else ():
                values = [_value(literal, point, answer) for literal in literals]
                assert Fraction(bound) <= sum(Fraction(f) * v for f, v in zip(factors[row], values, strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, spread=st.sampled_from([0.0, 0.5, 3.0]), cut=st.booleans(), arithmetic=ABOUT_FP32)
def test_established_pieces_tell_the_truth_about_every_point(
    seed: int, spread: float, cut: bool, arithmetic: Arithmetic
) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, Datatype.FP32, spread)
    inputs = network.signature.input_size
    requirement, (lower, upper) = _requirement(rng, inputs), _box(rng, inputs, np.float32)
    box = Box(tuple(map(Fraction, lower)), tuple(map(Fraction, upper)))
    region = Region(box, (_literal(rng, inputs, outputs=False),) if cut else ())
    on_box = Requirement(tuple((*c, *(each.negated() for each in region.cuts)) for c in requirement.clauses))
    limits = SearchLimits(None, 200, 1e-3)
    found = partition(network, box, on_box, arithmetic, limits, lambda _: None)
    wanted = demand(requirement, region, network)
    careful = staged(network, arithmetic, wanted.widest, CARE)
    proved = prove_leaves(careful, wanted, found.unmerged, box, Processes(1), lambda _: None)
    check_tree(proved.tree, box)
    some = pieces(proved.tree, box, wanted, proved.proofs)
    assert Task(staged(network, arithmetic, wanted.widest), wanted).proved(some).all()
    _require_true(rng, network, requirement, region, some, arithmetic)


def _require_true(
    rng: np.random.Generator,
    network: Network,
    requirement: Requirement,
    region: Region,
    some: Pieces,
    arithmetic: Arithmetic,
) -> None:
    for place in range(min(len(some), 12)):
        points = _points(rng, some.lower[place], some.upper[place], np.float32)
        for point, answers in zip(points, _answers(network, points, rng, arithmetic), strict=True):
            inside = all(literal_holds(cut, point.tolist(), ()) for cut in region.cuts)
            for answer in answers:
                holds = requirement_holds(requirement, point.tolist(), answer)  # type: ignore[arg-type]
                assert (holds or not inside) if some.silent[place] else (inside and not holds)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, spread=SPREADS, arithmetic=ABOUT_FP32)
def test_answers_lie_between_their_bounds(seed: int, spread: float, arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, Datatype.FP32, spread)
    lower, upper = _box(rng, network.signature.input_size, np.float32)
    points = _points(rng, lower, upper, np.float32)
    least, most = answers_between(staged(network, arithmetic, 1), points)
    for row, answers in enumerate(_answers(network, points, rng, arithmetic)):
        for answer in answers:
            for output, value in enumerate(answer):
                assert not np.isfinite(least[row, output]) or Fraction(least[row, output]) <= value
                assert not np.isfinite(most[row, output]) or value <= Fraction(most[row, output])


def test_a_planted_counterexample_is_never_proved_away() -> None:
    """A network that violates on a tiny ball around one point, as SoundnessBench plants them."""
    rng = np.random.default_rng(5)
    for radius in (1e-2, 1e-4, 1e-6):
        network, point = _planted(rng, radius)
        literal = Literal(terms({0: Fraction(1)}), (), Fraction(0), strict=True)
        wanted = demand(Requirement(((literal,),)), Region(Box((Fraction(0),) * 2, (Fraction(1),) * 2)), network)
        one = np.array([[255]], dtype=np.uint8)
        assert exact_answer(network, point)[0] < 0
        for width in (1.0, 1e-3, 1e-7, 0.0):
            low, high = np.maximum(point - width, 0.0)[None], np.minimum(point + width, 1.0)[None]
            piece = Pieces(low, high, np.array([True]), one, np.array([-1], np.int32), np.array([0]))
            assert not Task(staged(network, Arithmetic.IEEE32, 1), wanted).proved(piece).any()
        away = np.array([[0.0, 0.0]]), (point - 2 * radius)[None]
        piece = Pieces(*away, np.array([True]), one, np.array([-1], np.int32), np.array([0]))
        assert Task(staged(network, Arithmetic.IEEE32, 1), wanted).proved(piece).all()


def _planted(rng: np.random.Generator, radius: float) -> tuple[Network, Floats]:
    """``y = 1/2 - relu(1 - sum |x - p| / radius)``, and ``p``."""

    point = rng.uniform(0.3, 0.7, 2).astype(np.float32).astype(np.float64)
    scale = np.float64(np.float32(1.0 / radius))
    first = Affine(
        np.array([[scale, 0], [-scale, 0], [0, scale], [0, -scale]]),
        np.array([-1, 1, -1, 1]) * scale * point.repeat(2),
        3,
    )
    second = Affine(-np.ones((1, 4)), np.ones(1), 5)
    third = Affine(-np.ones((1, 1)), np.full(1, 0.5), 2)
    spec = TensorSpec("x", Datatype.FP32, (2,)), TensorSpec("y", Datatype.FP32, (1,))
    network = Network(ModelSignature((spec[0],), (spec[1],), None), (first, Relu(), second, Relu(), third))
    return network, point
