"""The two pure functions: what they promise for any bytes and any values."""

import dataclasses

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage import Label
from sidecar.config import ModelPolicy, Outside
from sidecar.errors import BundleError, Reason
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Action, Mode
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.events import (
    DomainRows,
    Events,
    Refusal,
    RequestOutcome,
    RowEvent,
    RowOutcome,
    Violation,
)
from sidecar.proxy.request_path import Admission, admit, judge
from tests.conformance.cases import CASES
from tests.conformance.guarded_model import bundle_bytes, request, response, typed_response, values

BUNDLE = activate(bundle_bytes())
MODELS = active_models([BUNDLE])


def refuses_outside(_: str) -> ModelPolicy:
    return ModelPolicy(outside=Outside.REFUSE)


SEEDS = sorted({case.request for case in CASES})

x0 = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 6.5, 8.0, 8.25, 8.5, 8.75, 9.0, 9.5])
x1 = st.sampled_from([-10.0, 0.0, 10.5])
output = st.one_of(st.floats(width=32), st.sampled_from([-1.0, 0.0, 1.0, 1.0000001192092896, 3.0, 5.0]))


def admitted(x, models=MODELS) -> Admission:
    admission = admit(request(x).SerializeToString(), (), models)
    assert isinstance(admission, Admission)
    return admission


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_admitted(content):
    outcome = admit(content, (), MODELS)
    if isinstance(outcome, Admission):
        pb.ModelInferRequest.FromString(content)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_requests_are_never_admitted_unless_protobuf_reads_them(seed, data):
    """Bytes replaced, removed and inserted in real requests."""
    content = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    outcome = admit(bytes(content), (), MODELS)
    try:
        message = pb.ModelInferRequest.FromString(bytes(content))
    except DecodeError:
        assert isinstance(outcome, Refusal)
        assert outcome.reason is Reason.MALFORMED_REQUEST
        return
    if isinstance(outcome, Admission):
        assert message.model_name == "guarded"
        assert np.isfinite(outcome.plan.inputs).all()
        assert outcome.forward.startswith(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=3))
def test_any_answer_is_judged_or_refused(noise, edits):
    plan = admitted([[0.75, 0]]).plan
    content = bytearray(response([[3, 2, 1]]).SerializeToString())
    for place, new in edits:
        content[place : place + len(new)] = new
    for answer in (noise, bytes(content)):
        judgement = judge(plan, answer)
        if not isinstance(judgement, Refusal) and isinstance(judgement.answer, bytes):
            assert values(judgement.answer, "y")[0, 0] <= 1


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(x0, st.sampled_from([-10.0, 0.0, 10.5]), output, output, output, output), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_every_delivered_row_satisfies_every_enforced_property_that_contains_it(rows, typed):
    """Promises 1 and 2, by rational arithmetic on what the client decodes."""
    table = np.array(rows)
    make = typed_response if typed else response
    answer = make(table[:, 2:5], table[:, 5:]).SerializeToString()
    judgement = judge(admitted(table[:, :2]).plan, answer)
    assert not isinstance(judgement, Refusal)
    before = np.concatenate([values(answer, "y").astype(float), values(answer, "z")], axis=1)
    holds = [_holds(x, y) for x, y in zip(table[:, :2], before, strict=True)]
    if isinstance(judgement.answer, Refusal):
        assert not all(holds)
        return
    after = np.concatenate([values(judgement.answer, "y").astype(float), values(judgement.answer, "z")], axis=1)
    for row in range(len(table)):
        assert _holds(table[row, :2], after[row])
        if holds[row]:
            np.testing.assert_array_equal(after[row], before[row])
    if all(holds):
        assert judgement.answer is answer


def _holds(x, y) -> bool:
    for gate, mode in zip(BUNDLE.bundle.gates, BUNDLE.modes, strict=True):
        if mode is Mode.ENFORCE and any(region_contains(region, x.tolist()) for region in gate.domain):
            mentioned = [index for clause in gate.requirement.clauses for lit in clause for index, _ in lit.outputs]
            needed = y[:3] if min(mentioned) < 3 else y[3:]
            if not np.isfinite(needed).all() or not requirement_holds(gate.requirement, x.tolist(), y.tolist()):
                return False
    return True


class TestEvents:
    def test_of_a_corrected_batch(self):
        x = [[0.25, 0], [0.75, 0], [1.5, 0], [0.75, 1]]
        answer = response([[3, 0, 0], [0, 6, 0], [9, 9, 9], [0, 0, 0]]).SerializeToString()
        events = judge(admitted(x).plan, answer).events
        assert dict(events.rows) == {RowOutcome.OUTSIDE: 1, RowOutcome.CORRECTED: 1, RowOutcome.UNTOUCHED: 2}
        assert events.fired == (
            RowEvent(
                0,
                RowOutcome.CORRECTED,
                Action.PROJECT,
                None,
                2.0,
                (Violation("ceiling", Mode.ENFORCE, Label.SILENT),),
            ),
            RowEvent(1, RowOutcome.UNTOUCHED, None, None, 0.0, (Violation("watched", Mode.SHADOW, Label.SILENT),)),
        )
        assert events.fired[0].violations[0].is_breach
        assert set(events.in_domain) == {
            DomainRows("ceiling", Label.SILENT, 1),
            DomainRows("ceiling", Label.OPEN, 2),
            DomainRows("watched", Label.SILENT, 3),
        }

    @pytest.mark.parametrize("row", [[0.25, 0], [0.75, 0], [2.5, 0], [6.5, 0], [8.75, 0]])
    def test_of_a_row_alone_are_half_those_of_it_twice(self, row):
        answers = [response([[0.5, -1, 1]] * count, [[1.0]] * count).SerializeToString() for count in (1, 2)]
        alone, twice = (judge(admitted([row] * (n + 1)).plan, answers[n]) for n in (0, 1))
        assert alone.outcome is twice.outcome
        assert twice.events == Events(
            rows=tuple((outcome, 2 * count) for outcome, count in alone.events.rows),
            in_domain=tuple(dataclasses.replace(each, count=2 * each.count) for each in alone.events.in_domain),
        )

    def test_of_a_refused_batch_no_row_counts_as_corrected(self):
        answer = response([[3, 0, 0], [0, 0, 0]]).SerializeToString()
        judgement = judge(admitted([[0.75, 0], [4.5, 0]]).plan, answer)
        assert judgement.outcome is RequestOutcome.REFUSED
        assert judgement.answer.reason is Reason.GATE_REFUSED
        assert "'never'" in judgement.answer.message
        assert judgement.events.rows == ((RowOutcome.REFUSED, 2),)
        assert [event.outcome for event in judgement.events.fired] == [RowOutcome.REFUSED] * 2
        assert [event.reason for event in judgement.events.fired] == [None, Reason.GATE_REFUSED]
        assert judgement.events.fired[1].violations == (Violation("never", Mode.ENFORCE, Label.VIOLATING),)

    def test_of_rows_outside_and_off(self):
        judgement = judge(admitted([[1.5, 0], [6.5, 0]]).plan, response([[9, 9, 9], [9, 9, 9]]).SerializeToString())
        assert judgement.outcome is RequestOutcome.OUTSIDE
        assert judgement.events.rows == ((RowOutcome.OUTSIDE, 2),)
        assert judgement.events.in_domain == ()


class TestShadow:
    """What no enforced property watches reaches the client whatever it is."""

    MODELS = active_models([activate(bundle_bytes(), mode=Mode.SHADOW)])

    def judged(self, asked: pb.ModelInferRequest, answer: bytes):
        admission = admit(asked.SerializeToString(), (), self.MODELS)
        return judge(admission.plan, answer)

    def test_violations_are_recorded_only(self):
        answer = response([[0, 0, 0]]).SerializeToString()
        judgement = self.judged(request([4.5, 0]), answer)
        assert judgement.answer is answer
        assert judgement.events.fired[0].violations == (Violation("never", Mode.SHADOW, Label.VIOLATING),)

    @pytest.mark.parametrize("answer", [b"", b"\xff\xff", response([[0, 0]]).SerializeToString()])
    def test_an_answer_that_cannot_be_judged_passes_and_is_counted(self, answer):
        judgement = self.judged(request([[0.75, 0], [1.5, 0]]), answer)
        assert judgement.answer is answer
        assert judgement.outcome is RequestOutcome.UNJUDGED
        assert judgement.events.rows == ((RowOutcome.UNJUDGED, 1), (RowOutcome.OUTSIDE, 1))
        assert judgement.events.unjudged.reason.startswith("upstream_")

    def test_an_answer_that_cannot_be_judged_is_still_cut_to_what_was_asked_for(self):
        asked = request([0.75, 0])
        asked.outputs.add(name="note")
        answer = response([[0, 0]])
        assert self.judged(asked, answer.SerializeToString()).answer == _only_note(answer)

    @pytest.mark.parametrize("defect", ["no protobuf", "misaligned"])
    def test_an_answer_that_cannot_be_cut_is_refused(self, defect):
        asked = request([0.75, 0])
        asked.outputs.add(name="note")
        answer = response([[0, 0, 0]])
        answer.raw_output_contents.pop()
        content = b"\xff" if defect == "no protobuf" else answer.SerializeToString()
        assert isinstance(self.judged(asked, content), Refusal)

    @pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.OFF])
    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            (request([float("nan"), 0]), Reason.INPUT_NOT_FINITE),
            (request([[0.75, 0]] * 5), Reason.INPUT_SHAPE),
            (pb.ModelInferRequest(model_name="guarded"), Reason.INPUT_MISSING),
        ],
    )
    def test_a_request_that_cannot_be_judged_passes_as_it_is_and_is_counted(self, mode, asked, reason):
        content = asked.SerializeToString()
        models = active_models([activate(bundle_bytes(), mode=mode)], limit_rows=4)
        admission = admit(content, (), models)
        assert admission.forward is content
        judgement = judge(admission.plan, b"whatever")
        assert judgement.answer == b"whatever"
        assert judgement.outcome is RequestOutcome.UNJUDGED
        assert judgement.events.unjudged.reason is reason

    def test_a_request_that_cannot_be_judged_is_refused_where_rows_outside_are(self):
        models = active_models([activate(bundle_bytes(), mode=Mode.SHADOW, policy=refuses_outside)])
        refusal = admit(request([float("nan"), 0]).SerializeToString(), (), models)
        assert refusal.reason is Reason.INPUT_NOT_FINITE

    def test_an_enforced_row_in_the_batch_is_judged_strictly(self):
        admission = admitted([[0.75, 0], [4.5, 0]])
        assert judge(admission.plan, b"\xff").reason is Reason.UPSTREAM_MALFORMED


def _only_note(answer: pb.ModelInferResponse) -> bytes:
    expected = pb.ModelInferResponse()
    expected.CopyFrom(answer)
    del expected.outputs[2], expected.outputs[0]
    del expected.raw_output_contents[2], expected.raw_output_contents[0]
    return expected.SerializeToString()


def test_a_plan_keeps_the_bundle_that_its_request_started_with():
    models = active_models([activate(bundle_bytes())])
    plan = admitted([[0.75, 0]], models).plan
    assert plan.bundle is models.bundles["guarded"]


def test_without_any_bundle_the_sidecar_is_not_ready():
    assert admit(request([0, 0]).SerializeToString(), (), active_models([])).reason is Reason.NOT_READY


def test_outside_refuse_names_the_row():
    models = active_models([activate(bundle_bytes(), policy=refuses_outside)])
    refusal = admit(request([[0.75, 0], [1.5, 0]]).SerializeToString(), (), models)
    assert refusal.reason is Reason.OUTSIDE_DOMAIN
    assert refusal.bundle is models.bundles["guarded"]
    assert "row 1" in refusal.message
    assert isinstance(admit(request([0.75, 0]).SerializeToString(), (), models), Admission)


def test_metadata_travels_without_what_is_ours():
    metadata = (
        ("authorization", "x"),
        ("gate-mode", "off"),
        ("user-agent", "grpc"),
        ("grpc-foo", "1"),
        ("k-bin", b"1"),
    )
    admission = admit(request([0, 0]).SerializeToString(), metadata, MODELS)
    assert admission.metadata == (("authorization", "x"), ("k-bin", b"1"))


class TestActivation:
    def test_takes_modes_and_name_from_the_manifest(self):
        assert (BUNDLE.model_name, BUNDLE.revision, BUNDLE.modes[1]) == ("guarded", 3, Mode.SHADOW)

    def test_can_be_given_another_name_and_mode(self):
        bundle = activate(bundle_bytes(), "other", Mode.OFF)
        assert bundle.model_name == "other"
        assert set(bundle.modes) == {Mode.OFF}

    def test_refuses_a_broken_bundle(self):
        with pytest.raises(BundleError) as error:
            activate(bundle_bytes()[:-1])
        assert error.value.reason is Reason.BUNDLE_TRUNCATED

    def test_refuses_two_bundles_for_one_model(self):
        with pytest.raises(BundleError, match="guarded") as error:
            active_models([BUNDLE, dataclasses.replace(BUNDLE)])
        assert error.value.reason is Reason.BUNDLE_CONFLICT

    def test_the_set_cannot_be_changed_in_place(self):
        with pytest.raises(TypeError):
            MODELS.bundles["other"] = BUNDLE
