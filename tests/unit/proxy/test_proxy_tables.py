"""The tables of the proxy: statuses, methods, metadata, ids, settings."""

import grpc
import pytest

from sidecar.config import BundleSource, ServeSettings
from sidecar.errors import Reason
from sidecar.proxy import upstream
from sidecar.proxy.decision_ids import decision_id, new_call_id
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import is_failure, status_of_failure, status_of_refusal
from sidecar.proxy.metadata import is_sendable, travelling
from sidecar.proxy.methods import DENIED, RULES, SERVICE, STREAMED, UNSUPPORTED, Rule, rule_of
from sidecar.proxy.upstream import UpstreamFailure

OURS = [r for r in Reason if not r.startswith(("bundle_", "settings_")) and r is not Reason.UPSTREAM_ERROR]


@pytest.mark.parametrize("reason", OURS)
def test_every_reason_of_a_request_has_a_status_that_starts_with_it(reason):
    status = status_of_refusal(Refusal(reason, "secret detail"))
    assert status.code is not grpc.StatusCode.OK
    assert status.details.startswith(f"{reason}: ")
    assert status.reason is reason


@pytest.mark.parametrize("reason", [r for r in OURS if r.startswith("upstream_") or r is Reason.INTERNAL])
def test_what_is_known_of_the_upstream_or_of_us_is_not_shown(reason):
    assert "secret" not in status_of_refusal(Refusal(reason, "secret detail")).details
    assert is_failure(reason)


@pytest.mark.parametrize("reason", [Reason.INPUT_SHAPE, Reason.GATE_REFUSED, Reason.MODEL_NOT_GUARDED])
def test_what_the_caller_can_mend_is_shown(reason):
    assert "shape [1]" in status_of_refusal(Refusal(reason, "shape [1]")).details
    assert not is_failure(reason)


def test_an_upstreams_own_error_is_passed_on():
    failure = UpstreamFailure(Reason.UPSTREAM_ERROR, grpc.StatusCode.ABORTED, "theirs", answered=True)
    assert (status_of_failure(failure).code, status_of_failure(failure).details) == (grpc.StatusCode.ABORTED, "theirs")


def test_an_unreachable_upstream_is_described_in_our_words():
    failure = UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "10.0.0.1", answered=False)
    assert "10.0.0.1" not in status_of_failure(failure).details


def test_a_gates_refusal_is_a_failed_precondition():
    assert status_of_refusal(Refusal(Reason.GATE_REFUSED, "")).code is grpc.StatusCode.FAILED_PRECONDITION


def test_the_table_names_all_methods_of_the_service():
    from tritonclient.grpc import service_pb2

    methods = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    assert {name for name in RULES if name.startswith(SERVICE)} == {SERVICE + method.name for method in methods}


def test_every_rule_is_of_one_kind():
    assert {*DENIED, *UNSUPPORTED, *STREAMED, Rule.GATED, Rule.PASSED, Rule.ANSWERED} == set(Rule)


@pytest.mark.parametrize("method", ["", "/", SERVICE, SERVICE + "modelinfer", "ModelInfer", SERVICE + "ModelInfer "])
def test_what_the_table_does_not_name_is_unknown(method):
    assert rule_of(method) is Rule.UNSUPPORTED_UNKNOWN


@pytest.mark.parametrize(
    "key", ["gate-mode", "Gate-Mode", "grpc-timeout", "grpc-status", ":path", "te", "content-type", "user-agent"]
)
def test_metadata_that_stays_here(key):
    assert travelling([(key, "x"), ("authorization", "y")]) == (("authorization", "y"),)


@pytest.mark.parametrize("key", ["grpc-status-details-bin", "grpc-trace-bin", "x-gate-mode"])
def test_metadata_that_travels(key):
    assert travelling([(key, b"x")]) == ((key, b"x"),)


def test_a_message_that_a_client_made_long_is_cut():
    refusal = Refusal(Reason.INPUT_MISSING, "x" * 100_000)
    assert len(status_of_refusal(refusal).details) < 600


def test_repeated_keys_keep_their_order():
    pairs = (("a", "1"), ("b", "2"), ("a", "3"))
    assert travelling(pairs) == pairs


def test_ids():
    call_id = new_call_id()
    assert len(bytes.fromhex(call_id)) == 16
    assert new_call_id() != call_id
    assert decision_id(call_id, 1) == f"{call_id}/1"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"bundles": ()}, "bundle"),
        ({"limit_bytes": 0}, "limit_bytes"),
        ({"limit_rows": -1}, "limit_rows"),
        ({"upstream_timeout_seconds": 0}, "upstream_timeout_seconds"),
        ({"readiness_interval_seconds": 0}, "readiness_interval_seconds"),
        ({"drain_seconds": -1}, "drain_seconds"),
        ({"drain_delay_seconds": -1}, "drain_delay_seconds"),
        ({"upstream_connections": 0}, "upstream_connections"),
        ({"keepalive_seconds": 0}, "keepalive_seconds"),
        ({"limit_calls": 0}, "limit_calls"),
        ({"limit_bytes": 100, "limit_held_bytes": 99}, "limit_held_bytes"),
    ],
)
def test_settings_that_make_no_sense_are_told(tmp_path, changes, what):
    with pytest.raises(ValueError, match=what):
        ServeSettings(**{"bundles": (BundleSource(tmp_path),), "upstream": "h:1", **changes})


@pytest.mark.parametrize(
    ("value", "sendable"),
    [("", True), (" ~az", True), (b"\xff\0", True), ("J\u00fcrg", False), ("a\tb", False), ("a\n", False)],
)
def test_values_that_grpc_does_not_allow_are_told(value, sendable):
    assert is_sendable(value) is sendable


def test_metadata_of_the_upstream_that_cannot_be_sent_is_left_out_and_logged(caplog):
    kept = upstream._passing_on(
        (("x-user", "J\u00fcrg"), ("x-tenant", "blue"), ("gate-mode", "off"), ("x-bin", b"\xff"))
    )
    assert kept == (("x-tenant", "blue"), ("x-bin", b"\xff"))
    assert "x-user" in caplog.text
