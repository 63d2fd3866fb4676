"""Which fallback is the answer, where several properties contain a row; and what stands in such an answer."""

import dataclasses

import numpy as np
import pytest

from sidecar.bundle.coverage import Label
from sidecar.errors import InternalError, Reason, UpstreamError
from sidecar.gates.values import Action, Mode
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.request import Asked
from sidecar.protocols.open_inference.response import read_what_can_be
from sidecar.proxy import fallback
from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.fallback import all_have_fallbacks, fallback_answer
from sidecar.proxy.unguarded import without_bundle
from sidecar.tensors import GATED_DATATYPES
from tests.conformance.guarded_model import SIGNATURE, bundle_bytes, gate, leaf, literal, response, values

ABOVE = [[literal({0: 1}, -2)]]  # y0 >= 2
BELOW = [[literal({1: -1}, 0)]]  # y1 <= 0


def falling_back(name, x0, clauses, values_):
    return gate(name, x0, clauses, Action.FALLBACK, values_)


def active(*gates, modes=()):
    modes = modes or [Mode.ENFORCE] * len(gates)
    rows = [(each, mode, leaf(Label.OPEN)) for each, mode in zip(gates, modes, strict=True)]
    return activate(bundle_bytes(gates=tuple(rows)))


NOTHING_SAID = Asked()


def answer(bundle, x, asked=NOTHING_SAID, added=()):
    inputs = np.array([[each, 0.0] for each in x])
    contained = np.array([[lower <= each <= lower + 1 for lower in LOWER[: len(bundle.modes)]] for each in x])
    return fallback_answer(bundle, inputs, contained, asked, added)


LOWER = (0.0, 0.5, 0.0)
FIRST = falling_back("first", ("0", "1"), ABOVE, (2, 5, 0, 0))
SECOND = falling_back("second", ("1/2", "3/2"), BELOW, (3, 0, 0, 7))


def test_one_that_satisfies_all_properties_of_the_row_is_taken():
    body = answer(active(FIRST, SECOND), [0.25, 0.75, 1.25])
    assert values(body, "y").tolist() == [[2, 5, 0], [3, 0, 0], [3, 0, 0]]
    assert values(body, "z").tolist() == [[0], [7], [7]]


def test_where_none_does_there_is_no_answer():
    other = falling_back("second", ("1/2", "3/2"), BELOW, (0, 0, 0, 0))
    assert answer(active(FIRST, other), [0.25]) is not None
    assert answer(active(FIRST, other), [0.25, 0.75]) is None


@pytest.mark.parametrize("action", [Action.PROJECT, Action.REFUSE])
def test_a_property_with_another_action_has_to_be_satisfied_too(action):
    bundle = active(FIRST, gate("second", ("1/2", "3/2"), BELOW, action))
    assert answer(bundle, [0.25]) is not None
    assert answer(bundle, [0.75]) is None


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
def test_properties_that_are_not_enforced_have_no_say(mode):
    bundle = active(FIRST, gate("second", ("1/2", "3/2"), BELOW), modes=(Mode.ENFORCE, mode))
    assert values(answer(bundle, [0.75]), "y").tolist() == [[2, 5, 0]]
    assert answer(active(FIRST, SECOND, modes=(mode, mode)), [0.75]) is None


def test_the_first_of_several_is_taken():
    both = active(FIRST, falling_back("again", ("1/2", "3/2"), ABOVE, (4, 4, 4, 4)))
    assert values(answer(both, [0.75]), "y").tolist() == [[2, 5, 0]]


def test_only_requests_whose_rows_all_have_one_may_fall_back():
    bundle = active(FIRST)
    assert all_have_fallbacks(bundle, np.array([[True], [True]]))
    assert not all_have_fallbacks(bundle, np.array([[True], [False]]))
    assert not all_have_fallbacks(bundle, np.zeros((0, 1), np.bool_))


def test_it_repeats_what_the_request_says_and_has_what_it_asks_for():
    asked = Asked("m", "4", "7", ("z",))
    message = pb.ModelInferResponse.FromString(answer(active(FIRST), [0.5, 0.25], asked, {"y"}))
    assert (message.model_name, message.model_version, message.id) == ("m", "4", "7")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.outputs] == [("z", "FP64", [2, 1])]
    assert answer(active(FIRST), [0.5], Asked(outputs=("y", "note"))) is None


def test_without_a_batch_axis_there_is_none_in_the_answer():
    signature = dataclasses.replace(SIGNATURE, batch_axis=None)
    bundle = activate(bundle_bytes(signature=signature, gates=((FIRST, Mode.ENFORCE, leaf(Label.OPEN)),)))
    message = pb.ModelInferResponse.FromString(answer(bundle, [0.5]))
    assert [list(each.shape) for each in message.outputs] == [[3], [1]]


@pytest.mark.parametrize("datatype", GATED_DATATYPES)
def test_it_is_written_in_the_outputs_datatype_and_any_can_be_read_in_part(datatype):
    one = falling_back("one", ("0", "1"), [[literal({0: 1}, -1)]], (1, 0, 1, 7))
    y = dataclasses.replace(SIGNATURE.outputs[0], datatype=datatype)
    signature = dataclasses.replace(SIGNATURE, outputs=(y, SIGNATURE.outputs[1]))
    bundle = activate(bundle_bytes(signature=signature, gates=((one, Mode.ENFORCE, leaf(Label.OPEN)),)))
    body = answer(bundle, [0.5])
    assert values(body, "y").tolist() == [[1, 0, 1]]
    outputs, readable = read_what_can_be(body, SIGNATURE, 1)
    assert (outputs.tolist(), readable.tolist()) == ([[1, 0, 1, 7]], [True] * 4)


def test_an_answer_that_violates_a_property_after_all_is_a_defect(monkeypatch):
    monkeypatch.setattr(fallback, "_fallback_rows", lambda *_: np.zeros((1, 4)))
    with pytest.raises(InternalError, match="violates a property"):
        answer(active(FIRST), [0.5])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda m: setattr(m.outputs[1], "name", "y"), Reason.UPSTREAM_MALFORMED),
        (lambda m: m.raw_output_contents.pop(), Reason.UPSTREAM_OUTPUT_CONTENTS),
        (lambda m: m.outputs[0].shape.__setitem__(0, -1), Reason.UPSTREAM_OUTPUT_CONTENTS),
    ],
)
def test_what_two_readers_may_read_differently_is_not_read_in_part(edit, reason):
    message = response([[1, 2, 3]])
    edit(message)
    with pytest.raises(UpstreamError) as caught:
        read_what_can_be(message.SerializeToString(), SIGNATURE, 1)
    assert caught.value.reason is reason


def test_before_there_is_any_bundle_nothing_is_ready():
    refusal = without_bundle("m", active_models([]))
    assert (refusal.reason, refusal.message) == (Reason.NOT_READY, "no gate bundle is active")
