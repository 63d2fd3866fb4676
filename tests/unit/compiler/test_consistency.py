"""Joint satisfiability of overlapping properties, fallbacks included."""

import dataclasses
from fractions import Fraction

import pytest

from sidecar.compiler import consistency
from sidecar.compiler.consistency import require_joint_satisfiability
from sidecar.errors import InputError, NegativeAnswer
from sidecar.gates.values import Action, Box, Clause, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.tensors import Datatype, ModelSignature, TensorSpec


def _signature(datatype: Datatype = Datatype.FP32) -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec("x", Datatype.FP32, (2,)),), outputs=(TensorSpec("y", datatype, (2,)),), batch_axis=0
    )


SIGNATURE = _signature()


def _literal(
    outputs: dict[int, int], offset: float = 0, *, inputs: dict[int, int] | None = None, strict: bool = True
) -> Literal:
    return Literal(
        outputs=terms({index: Fraction(value) for index, value in outputs.items()}),
        inputs=terms({index: Fraction(value) for index, value in (inputs or {}).items()}),
        offset=Fraction(offset),
        strict=strict,
    )


def _gate(
    name: str,
    *clauses: Clause,
    box: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (1, 1)),
    cuts: tuple[Literal, ...] = (),
    action: Action = Action.PROJECT,
    fallback: tuple[int, ...] | None = None,
) -> Gate:
    lower, upper = box
    return Gate(
        property_id=name,
        domain=(Region(Box(tuple(map(Fraction, lower)), tuple(map(Fraction, upper))), cuts),),
        requirement=Requirement(clauses),
        action=action,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=None if fallback is None else tuple(map(Fraction, fallback)),
    )


FIRST_LARGER = (_literal({0: 1, 1: -1}),)
SECOND_LARGER = (_literal({1: 1, 0: -1}),)
SECOND_NOT_SMALLER = (_literal({1: 1, 0: -1}, strict=False),)
FIRST_NOT_SMALLER = (_literal({0: 1, 1: -1}, strict=False),)


def test_properties_that_can_be_kept_together_pass_without_a_note() -> None:
    gates = [_gate("a", FIRST_LARGER), _gate("b", (_literal({0: -1}, 5),)), _gate("c", (_literal({1: 1}, -2),))]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()


def test_contradictory_properties_are_named_with_the_box_where_they_overlap() -> None:
    gates = [
        _gate("a", FIRST_LARGER, box=((0, 0), (4, 4))),
        _gate("bystander", (_literal({0: 1}, 100),), box=((0, 0), (9, 9))),
        _gate("b", SECOND_LARGER, box=((3, 1), (8, 2))),
    ]
    with pytest.raises(NegativeAnswer) as caught:
        require_joint_satisfiability(gates, SIGNATURE)
    message = str(caught.value)
    assert "'a' and 'b' contradict each other" in message
    assert "bystander" not in message
    assert "x[0] in [3, 4], x[1] in [1, 2]" in message


def test_contradictory_properties_whose_boxes_do_not_meet_are_fine() -> None:
    gates = [_gate("a", FIRST_LARGER), _gate("b", SECOND_LARGER, box=((2, 0), (3, 1)))]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()


def test_boxes_that_touch_in_a_point_overlap() -> None:
    gates = [_gate("a", FIRST_LARGER), _gate("b", SECOND_LARGER, box=((1, 1), (3, 2)))]
    with pytest.raises(NegativeAnswer, match="contradict"):
        require_joint_satisfiability(gates, SIGNATURE)


def test_regions_that_their_cuts_keep_apart_do_not_contradict() -> None:
    below = _literal({}, 0.5, inputs={0: -1}, strict=False)
    above = _literal({}, -0.75, inputs={0: 1}, strict=False)
    gates = [_gate("a", FIRST_LARGER, cuts=(below,)), _gate("b", SECOND_LARGER, cuts=(above,))]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()


def test_closed_literals_that_force_equality_are_satisfiable_and_strict_ones_are_not() -> None:
    positive = (_literal({0: 1}),)
    assert require_joint_satisfiability([_gate("a", FIRST_NOT_SMALLER, SECOND_NOT_SMALLER, positive)], SIGNATURE) == ()
    with pytest.raises(NegativeAnswer, match="'a' contradicts itself"):
        require_joint_satisfiability([_gate("a", FIRST_NOT_SMALLER, SECOND_LARGER)], SIGNATURE)


def test_disjunctions_are_searched_through_all_their_literals() -> None:
    either = (_literal({0: 1}, -10), _literal({1: 1}, -10))
    gates = [_gate("a", either, (_literal({0: -1}, 5),)), _gate("b", (_literal({1: -1}, 11),))]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()
    with pytest.raises(NegativeAnswer, match="contradict"):
        require_joint_satisfiability([*gates, _gate("c", (_literal({1: -1}, 9),))], SIGNATURE)


def test_a_contradiction_with_a_refusing_property_is_noted_not_rejected() -> None:
    gates = [_gate("a", FIRST_LARGER), _gate("never", SECOND_LARGER, action=Action.REFUSE)]
    (note,) = require_joint_satisfiability(gates, SIGNATURE)
    assert "'a' and 'never'" in note
    assert "refused" in note


def test_a_refusing_property_does_not_excuse_a_contradiction_of_others() -> None:
    gates = [_gate("a", FIRST_LARGER), _gate("b", SECOND_LARGER), _gate("r", FIRST_LARGER, action=Action.REFUSE)]
    with pytest.raises(NegativeAnswer, match="'a' and 'b' contradict"):
        require_joint_satisfiability(gates, SIGNATURE)


def test_what_only_real_numbers_satisfy_but_no_wire_value_does_is_not_proved() -> None:
    between = Fraction(1) + Fraction(1, 2**12)
    clauses = (
        (Literal(terms({0: Fraction(1)}), (), -between, False),),
        (Literal(terms({0: Fraction(-1)}), (), between, False),),
    )
    assert require_joint_satisfiability([_gate("a", *clauses)], _signature(Datatype.FP32)) == ()
    with pytest.raises(NegativeAnswer, match="cannot be proved satisfiable"):
        require_joint_satisfiability([_gate("a", *clauses)], _signature(Datatype.FP16))


def test_what_exceeds_the_wire_datatypes_range_contradicts_itself() -> None:
    with pytest.raises(NegativeAnswer, match="contradicts itself"):
        require_joint_satisfiability([_gate("a", (_literal({0: 1}, -70_000),))], _signature(Datatype.FP16))


def test_margins_count_since_projection_aims_at_them() -> None:
    below_ten, above_nine = (_literal({0: -1}, 10),), (_literal({0: 1}, -9),)
    gates = [_gate("a", below_ten), _gate("b", above_nine)]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()
    wide = [dataclasses.replace(gate, margin=Fraction(3, 4)) for gate in gates]
    with pytest.raises(NegativeAnswer, match="'a' and 'b' contradict each other"):
        require_joint_satisfiability(wide, SIGNATURE)


def test_requirements_that_follow_an_input_are_proved_by_halving_the_box() -> None:
    tracks = [
        _gate("a", (_literal({0: 1}, 1, inputs={0: -1}),), (_literal({0: -1}, 1, inputs={0: 1}),), box=((0, 0), (9, 1)))
    ]
    assert require_joint_satisfiability(tracks, SIGNATURE) == ()


def test_requirements_that_follow_an_input_too_closely_are_not_proved() -> None:
    tracks = [
        _gate(
            "a",
            (_literal({0: 1}, 0, inputs={0: -1}, strict=False),),
            (_literal({0: -1}, 0, inputs={0: 1}, strict=False),),
            box=((0, 0), (9, 1)),
        )
    ]
    with pytest.raises(NegativeAnswer, match="cannot be proved satisfiable"):
        require_joint_satisfiability(tracks, SIGNATURE)


def test_one_input_without_a_satisfying_answer_is_a_contradiction() -> None:
    gate = _gate(
        "a", (_literal({0: 1}, 0, inputs={0: 1}),), (_literal({0: -1}, 1, inputs={0: -3}),), box=((1, 0), (9, 1))
    )
    with pytest.raises(NegativeAnswer, match="contradicts itself"):
        require_joint_satisfiability([gate], SIGNATURE)


def test_parts_that_cuts_take_away_need_no_answer() -> None:
    cut = _literal({}, -9, inputs={0: 1}, strict=False)
    gate = _gate("a", (_literal({0: 1}),), (_literal({0: -1}, -8, inputs={0: 1}),), box=((0, 0), (10, 1)), cuts=(cut,))
    assert require_joint_satisfiability([gate], SIGNATURE) == ()


RISES_ABOVE_FIVE = ((_literal({0: 1}, inputs={0: -1}),), (_literal({0: -1}, 5),))  # y0 > x0 and y0 < 5


def test_a_contradiction_outside_a_neighbours_box_is_found() -> None:
    neighbour = _gate("neighbour", (_literal({0: 1}, 100),), box=((0, 0), (1, 1)))
    with pytest.raises(NegativeAnswer, match=r"'a' contradicts itself on x\[0\] in \[0, 9\]"):
        require_joint_satisfiability([_gate("a", *RISES_ABOVE_FIVE, box=((0, 0), (9, 1))), neighbour], SIGNATURE)


@pytest.mark.parametrize("action", [Action.PROJECT, Action.REFUSE])
def test_a_contradiction_outside_a_neighbours_cuts_is_found(action: Action) -> None:
    below, above = _literal({}, 0.25, inputs={0: -1}, strict=False), _literal({}, -0.75, inputs={0: 1}, strict=False)
    gates = [
        _gate("a", FIRST_LARGER, cuts=(below,)),
        _gate("b", SECOND_LARGER),
        _gate("elsewhere", (_literal({0: 1}, 100),), cuts=(above,), action=action),
    ]
    with pytest.raises(NegativeAnswer, match="'a' and 'b' contradict each other"):
        require_joint_satisfiability(gates, SIGNATURE)


def test_a_contradiction_in_one_of_a_gates_regions_is_found() -> None:
    left, right = (
        Region(Box((Fraction(0),) * 2, (Fraction(1),) * 2)),
        Region(Box((Fraction(1),) * 2, (Fraction(9),) * 2)),
    )
    gate = dataclasses.replace(_gate("a", *RISES_ABOVE_FIVE), domain=(left, right))
    with pytest.raises(NegativeAnswer, match=r"'a' contradicts itself on x\[0\] in \[1, 9\]"):
        require_joint_satisfiability([gate], SIGNATURE)


def test_a_fallback_is_judged_outside_its_neighbours_boxes_too() -> None:
    follows = (_literal({0: 1}, inputs={0: -1}),)
    gates = [
        _gate("a", follows, action=Action.FALLBACK, fallback=(2, 0), box=((0, 0), (9, 1))),
        _gate("neighbour", (_literal({0: 1}, 100),), box=((0, 0), (1, 1))),
    ]
    with pytest.raises(NegativeAnswer, match="fallback of 'a' is not proved to satisfy its own requirement"):
        require_joint_satisfiability(gates, SIGNATURE)


def test_a_fallback_need_not_satisfy_what_cuts_keep_apart() -> None:
    below, above = _literal({}, 0.25, inputs={0: -1}, strict=False), _literal({}, -0.75, inputs={0: 1}, strict=False)
    gates = [
        _gate("a", FIRST_LARGER, cuts=(below,), action=Action.FALLBACK, fallback=(1, 0)),
        _gate("b", SECOND_LARGER, cuts=(above,)),
    ]
    assert require_joint_satisfiability(gates, SIGNATURE) == ()


def test_too_many_overlapping_parts_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "MAX_OVERLAPS", 3)
    gates = [_gate(str(n), (_literal({0: 1}, 100, inputs={0: 1}),), box=((n, 0), (n + 4, 1))) for n in range(4)]
    with pytest.raises(InputError, match="overlap in more than"):
        require_joint_satisfiability(gates, SIGNATURE)


def test_a_fallback_must_satisfy_every_property_that_it_can_meet() -> None:
    gates = [
        _gate("a", FIRST_LARGER, action=Action.FALLBACK, fallback=(1, 0)),
        _gate("b", (_literal({0: -1}, 0.5),), box=((0, 0), (2, 2))),
    ]
    with pytest.raises(NegativeAnswer, match="fallback of 'a' is not proved to satisfy 'b'"):
        require_joint_satisfiability(gates, SIGNATURE)
    apart = [gates[0], _gate("b", (_literal({0: -1}, 0.5),), box=((2, 0), (3, 2)))]
    assert require_joint_satisfiability(apart, SIGNATURE) == ()


def test_a_fallback_is_judged_against_the_worst_input_of_the_box() -> None:
    follows = (_literal({0: 1}, inputs={0: -1}),)
    gate = _gate("a", follows, action=Action.FALLBACK, fallback=(9, 0), box=((0, 0), (9, 1)))
    with pytest.raises(NegativeAnswer, match="fallback"):
        require_joint_satisfiability([gate], SIGNATURE)
    enough = _gate("a", follows, action=Action.FALLBACK, fallback=(10, 0), box=((0, 0), (9, 1)))
    assert require_joint_satisfiability([enough], SIGNATURE) == ()


def test_many_requirements_that_build_on_each_other_are_solved_together() -> None:
    """``y0 > y1 + 1 > y2 + 2 ...``: followed one by one, sixty of them took more than a minute."""
    outputs = 40
    signature = ModelSignature(SIGNATURE.inputs, (TensorSpec("y", Datatype.FP32, (outputs,)),), batch_axis=0)
    chain = [(_literal({index: 1, index + 1: -1}, -1),) for index in range(outputs - 1)]
    assert require_joint_satisfiability([_gate("chain", *chain)], signature) == ()
