"""Jointly required outputs: steps that prove it are accepted, steps that do not are refused with their place."""

from fractions import Fraction

import pytest

from sidecar.certificate.meeting import require_answers
from sidecar.certificate.values import Answer, Apart, Divide, Step
from sidecar.compiler.meeting_proofs import prove_meeting
from sidecar.errors import NegativeAnswer
from sidecar.gates.values import Action, Box, Clause, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

ONE, ZERO, HALF = Fraction(1), Fraction(0), Fraction(1, 2)
SIGNATURE = ModelSignature((TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("y", Datatype.FP32, (2,)),), None)


def _square(low: object = 0, high: object = 1) -> Box:
    return Box((Fraction(low),) * 2, (Fraction(high),) * 2)


def _literal(outputs: dict[int, int], inputs: dict[int, int], offset: object, strict: bool = False) -> Literal:
    return Literal(
        terms({i: Fraction(a) for i, a in outputs.items()}),
        terms({i: Fraction(a) for i, a in inputs.items()}),
        Fraction(offset),
        strict,
    )


UNIT = (Region(_square()),)


def _gate(name: str, *clauses: Clause, regions=UNIT, action=Action.PROJECT, margin=ZERO, fallback=None):
    return Gate(name, tuple(regions), Requirement(clauses), action, margin, Norm.L2, fallback)


LARGE = (_literal({0: 1}, {}, -1),)
SMALL = (_literal({0: -1}, {}, 0),)
"""``y0 >= 1`` and ``y0 <= 0``: contradictory."""

ABOVE_THE_DIAGONAL = _literal({}, {0: -1, 1: 1}, Fraction(-1, 4))
BELOW_THE_DIAGONAL = _literal({}, {0: 1, 1: -1}, Fraction(-1, 4))


def _refused(gates: list[Gate], *steps: Step) -> str:
    with pytest.raises(NegativeAnswer) as caught:
        require_answers(gates, SIGNATURE, steps)
    return str(caught.value)


def _answer(*values: object) -> Answer:
    return Answer(tuple(map(Fraction, values)))


@pytest.mark.parametrize(
    "gates",
    [
        [_gate("large", LARGE)],
        [_gate("large", LARGE, regions=[Region(_square(0, HALF))]),
         _gate("small", SMALL, regions=[Region(_square(HALF + HALF / 2, 1))])],
        [_gate("large", LARGE, regions=[Region(_square(), (ABOVE_THE_DIAGONAL,))]),
         _gate("small", SMALL, regions=[Region(_square(), (BELOW_THE_DIAGONAL,))])],
        [_gate("large", LARGE), _gate("small", SMALL, action=Action.REFUSE)],
        [_gate("large", LARGE, action=Action.REFUSE), _gate("small", SMALL, action=Action.REFUSE)],
        [_gate("follows", (_literal({0: 1}, {0: -1}, HALF / 2),), (_literal({0: -1}, {0: 1}, HALF / 2),))],
        [_gate("safe", LARGE, action=Action.FALLBACK, fallback=(ONE, ZERO)), _gate("margin", LARGE, margin=HALF)],
        [_gate("either", (*LARGE, *SMALL)), _gate("large", LARGE, regions=[Region(Box((ZERO, ZERO), (ZERO, ONE)))])],
    ],
    ids=["one", "apart by a gap", "apart by cuts", "refused", "all refused", "follows its input", "fallback", "flat"],
)  # fmt: skip
def test_what_the_compiler_finds_is_accepted(gates: list[Gate]) -> None:
    require_answers(gates, SIGNATURE, prove_meeting(gates, SIGNATURE))


@pytest.mark.parametrize(
    "gates",
    [
        [_gate("large", LARGE), _gate("small", SMALL)],
        [_gate("large", LARGE), _gate("small", SMALL, regions=[Region(_square(), (ABOVE_THE_DIAGONAL,))])],
        [_gate("safe", LARGE, action=Action.FALLBACK, fallback=(ZERO, ZERO))],
        [_gate("ahead", (_literal({0: 1}, {0: -1}, 0),), (_literal({0: -1}, {0: 1}, 0, strict=True),))],
    ],
    ids=["contradictory", "contradictory in a part", "bad fallback", "contradictory by input"],
)
def test_what_is_not_so_is_refused_whatever_steps_there_are(gates: list[Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.compiler.meeting_proofs.MOST_STEPS", 40)
    assert "jointly required outputs: step" in _refused(gates, *prove_meeting(gates, SIGNATURE))


def test_regions_are_apart_only_where_their_cuts_say_so() -> None:
    gates = [
        _gate("large", LARGE, regions=[Region(_square(), (ABOVE_THE_DIAGONAL,))]),
        _gate("small", SMALL, regions=[Region(_square(), (BELOW_THE_DIAGONAL,))]),
    ]
    answers = _answer(0, 0), _answer(1, 0)
    both = ((0, 0), (1, 0))
    require_answers(gates, SIGNATURE, [Apart(both, ((0, 0, 0, ONE), (1, 0, 0, ONE))), *answers])
    assert "may share a point: their cuts reach 1/8" in _refused(gates, Apart(both, ((0, 0, 0, ONE), (1, 0, 0, HALF))))
    assert "may share a point" in _refused(gates, Apart(both, ()), *answers)
    assert "takes cut 0 of region (1, 0) -1 times" in _refused(gates, Apart(both, ((1, 0, 0, -ONE),)))
    assert "takes cut 3" in _refused(gates, Apart(both, ((1, 0, 3, ONE),)))
    assert "takes cut 0 of region (1, 0)" in _refused(gates, Apart(((0, 0),), ((1, 0, 0, ONE),)))
    assert "is about the regions [(2, 0)]" in _refused(gates, Apart(((2, 0),), ()))
    assert "is about the regions []" in _refused(gates, Apart((), ()))
    assert "have no proof" in _refused(gates, Apart(both, ((0, 0, 0, ONE), (1, 0, 0, ONE))), answers[0])
    assert "'small'" in _refused(gates, Apart(both, ((0, 0, 0, ONE), (1, 0, 0, ONE))), answers[1], answers[0])


def test_regions_without_a_common_point_are_apart_without_cuts() -> None:
    gates = [
        _gate("large", LARGE, regions=[Region(_square(0, HALF))]),
        _gate("small", SMALL, regions=[Region(_square(Fraction(3, 4), 1))]),
    ]
    require_answers(gates, SIGNATURE, [Apart(((0, 0), (1, 0)), ()), _answer(0, 0), _answer(1, 0)])


def test_a_fallback_need_not_satisfy_what_it_cannot_meet() -> None:
    gates = [
        _gate("large", LARGE, regions=[Region(_square(0, HALF))], action=Action.FALLBACK, fallback=(ONE, ZERO)),
        _gate("small", SMALL, regions=[Region(_square(Fraction(3, 4), 1))], action=Action.REFUSE),
    ]
    require_answers(gates, SIGNATURE, [_answer(1, 0)])


def test_answers_are_wire_rows() -> None:
    gates = [_gate("large", LARGE)]
    require_answers(gates, SIGNATURE, [_answer(1, 0)])
    for wrong in (_answer(1), _answer(Fraction(10, 3), 0), _answer(10**40, 0)):
        assert "the wire can carry" in _refused(gates, wrong)
    assert "'large'" in _refused(gates, _answer(HALF, 0))


def test_cells_are_divided_inside_themselves() -> None:
    gates = [_gate("large", LARGE)]
    require_answers(gates, SIGNATURE, [Divide(1, HALF), _answer(1, 0), _answer(2, 0)])
    for wrong in (Divide(1, Fraction(2)), Divide(1, -ONE), Divide(2, HALF)):
        assert "outside its cell" in _refused(gates, wrong)
