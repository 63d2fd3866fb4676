"""Whatever the policies are: what leaves for a row that could be judged satisfies the properties; and shadow properties
change nothing.
"""

import dataclasses
from fractions import Fraction

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import FailureMode, ModelPolicy, OnUpstreamFailure, Outside
from sidecar.errors import Reason
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.values import Mode, Requirement
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.active_bundle import ActiveBundle, activate, active_models
from sidecar.proxy.events import Refusal, RequestOutcome
from sidecar.proxy.request_path import Admission, admit, fall_back, judge
from tests.conformance.guarded_model import bundle_bytes, request, response, typed_response, values

CONTENT = bundle_bytes()
POLICIES = st.builds(
    ModelPolicy,
    outside=st.sampled_from(Outside),
    failure_mode=st.sampled_from(FailureMode),
    on_upstream_failure=st.sampled_from(OnUpstreamFailure),
)
X0 = st.sampled_from([0.25, 0.75, 1.5, 2.0, 2.5, 3.0, 4.5, 6.5, 8.25, 8.75])
Y = st.one_of(st.floats(width=32), st.sampled_from([-1.0, 0.0, 1.0, 3.0]))
ROWS = st.lists(st.tuples(X0, Y, Y, Y, Y), min_size=1, max_size=3)
SPOIL = st.sampled_from(["nothing", "name", "datatype", "shape", "contents", "rows", "truncated", "twice"])
WHY = st.sampled_from([Reason.UPSTREAM_UNAVAILABLE, Reason.UPSTREAM_DEADLINE, Reason.UPSTREAM_ERROR])
BASE = activate(CONTENT)


def with_policy(policy: ModelPolicy, mode: Mode | None = None) -> ActiveBundle:
    modes = BASE.modes if mode is None else tuple(mode for _ in BASE.modes)
    watched = np.array([each is not Mode.OFF for each in modes])
    return dataclasses.replace(BASE, policy=policy, modes=modes, watched=watched)


def admitted(bundle: ActiveBundle, x) -> Admission | Refusal:
    return admit(request(x).SerializeToString(), (), active_models([bundle]))


def spoilt(rows, how: str, tensor: int, typed: bool) -> bytes:
    table = np.array(rows)
    message = (typed_response if typed else response)(table[:, 1:4], table[:, 4:])
    output = message.outputs[tensor]
    match how:
        case "name":
            output.name = "w"
        case "datatype":
            output.datatype = "FP16"
        case "shape":
            output.shape.append(1)
        case "contents":
            if typed:
                output.contents.int_contents.append(1)
            else:
                message.raw_output_contents[tensor] = b"\0"
        case "rows":
            output.shape[0] += 1
        case "twice":
            message.outputs[1].name = output.name
    content = message.SerializeToString()
    return content[:-1] if how == "truncated" else content


def readable(content: bytes) -> dict[str, np.ndarray]:
    """What a client can make of the guarded outputs, by a plain reading."""
    message = pb.ModelInferResponse.FromString(content)
    found = {}
    for name, datatype, size in (("y", "FP32", 3), ("z", "FP64", 1)):
        tensors = [tensor for tensor in message.outputs if tensor.name == name]
        if len(tensors) == 1 and tensors[0].datatype == datatype and list(tensors[0].shape[1:]) == [size]:
            try:
                found[name] = values(content, name)
            except ValueError:
                continue
    return found


def assert_nothing_violated_that_shows(x, content: bytes) -> None:
    found = readable(content)
    for row, inputs in enumerate(x):
        if any(len(rows) != len(x) for rows in found.values()):
            continue
        y = [
            *(found["y"][row].tolist() if "y" in found else [None] * 3),
            *(found["z"][row] if "z" in found else [None]),
        ]
        for gate, mode in zip(BASE.bundle.gates, BASE.modes, strict=True):
            if mode is Mode.ENFORCE and any(region_contains(region, inputs) for region in gate.domain):
                clauses = [
                    clause
                    for clause in gate.requirement.clauses
                    if all(y[index] is not None for literal in clause for index, _ in literal.outputs)
                ]
                mentioned = [y[index] for clause in clauses for literal in clause for index, _ in literal.outputs]
                assert np.isfinite(np.array(mentioned, dtype=float)).all()
                assert requirement_holds(Requirement(tuple(clauses)), inputs, y)


@settings(max_examples=400, deadline=None)
@given(ROWS, POLICIES, SPOIL, st.sampled_from([0, 2]), st.booleans())
def test_an_answer_that_leaves_violates_nothing_that_can_be_seen(rows, policy, how, tensor, typed):
    x = [[row[0], 0.0] for row in rows]
    admission = admitted(with_policy(policy), x)
    if isinstance(admission, Refusal):
        assert admission.reason is Reason.OUTSIDE_DOMAIN
        return
    content = spoilt(rows, how, tensor, typed)
    judgement = judge(admission.plan, content)
    if isinstance(judgement, Refusal) or isinstance(judgement.answer, Refusal):
        return
    if judgement.outcome is not RequestOutcome.OUTSIDE:
        assert_nothing_violated_that_shows(x, judgement.answer)
    if policy.failure_mode is FailureMode.CLOSED:
        assert judgement.outcome is not RequestOutcome.BYPASSED
    if policy.on_upstream_failure is OnUpstreamFailure.ERROR:
        assert judgement.outcome is not RequestOutcome.FALLBACK


@settings(max_examples=200, deadline=None)
@given(ROWS, POLICIES, WHY)
def test_a_fallback_satisfies_every_property_of_every_row(rows, policy, why):
    x = [[row[0], 0.0] for row in rows]
    admission = admitted(with_policy(policy), x)
    if isinstance(admission, Refusal):
        return
    judgement = fall_back(admission.plan, Refusal(why, "", None))
    all_have_one = all(Fraction(2) <= Fraction(row[0]) <= Fraction(3) for row in rows)
    expected = policy.on_upstream_failure is OnUpstreamFailure.FALLBACK and all_have_one
    assert (judgement is not None) is expected
    if judgement is not None:
        assert_nothing_violated_that_shows(x, judgement.answer)
        assert set(readable(judgement.answer)) == {"y", "z"}


@settings(max_examples=200, deadline=None)
@given(ROWS, POLICIES, SPOIL, st.sampled_from([0, 2]))
def test_in_shadow_mode_no_policy_but_outside_changes_anything(rows, policy, how, tensor):
    x = [[row[0], 0.0] for row in rows]
    content = spoilt(rows, how, tensor, False)
    plain = ModelPolicy(outside=policy.outside)
    answers = []
    for each in (policy, plain):
        admission = admitted(with_policy(each, Mode.SHADOW), x)
        if isinstance(admission, Refusal):
            answers.append(admission.reason)
            continue
        assert fall_back(admission.plan, Refusal(Reason.UPSTREAM_UNAVAILABLE, "")) is None
        judgement = judge(admission.plan, content)
        assert not isinstance(judgement, Refusal)
        assert judgement.answer == content
        answers.append(judgement.outcome)
    assert answers[0] == answers[1]


def test_the_plain_reading_finds_what_is_there():
    whole = readable(response([[1, 2, 3]], [4]).SerializeToString())
    assert {name: rows.tolist() for name, rows in whole.items()} == {"y": [[1, 2, 3]], "z": [[4]]}
    try:
        assert readable(spoilt([(0.75, 1, 2, 3, 4)], "name", 0, False)).keys() == {"z"}
    except DecodeError as error:
        raise AssertionError("this one can be parsed") from error
