"""Deadlines, what is told once, and the failure table."""

import ast
import logging
from pathlib import Path

import grpc
import pytest

from sidecar.config import (
    DEFAULT_LIMIT_ROWS,
    BundleSource,
    ModelPolicy,
    ModelSettings,
    OnUpstreamFailure,
    ServeSettings,
)
from sidecar.errors import Reason
from sidecar.proxy.deadlines import upstream_seconds
from sidecar.proxy.failure_policy import calls_for_fallback, status_of_failure
from sidecar.proxy.failure_reference import reference
from sidecar.proxy.failure_table import CALLERS_CODES, FAILURES, Fault
from sidecar.proxy.first_seen import MAX_REMEMBERED, FirstSeen
from sidecar.proxy.upstream import UpstreamFailure
from tests.conformance.cases import CASES, Error
from tests.conformance.policy_cases import POLICY_CASES, FellBack, Passed

ROOT = Path(__file__).parents[3]

PRODUCED_ELSEWHERE = {
    Reason.METHOD_DENIED: "integration/test_proxy_over_sockets.py",
    Reason.METHOD_UNSUPPORTED: "integration/test_proxy_over_sockets.py",
    Reason.MESSAGE_TOO_LARGE: "integration/test_proxy_over_sockets.py",
    Reason.TOO_MANY_CALLS: "integration/test_limits_over_sockets.py",
    Reason.MEMORY_EXHAUSTED: "integration/test_limits_over_sockets.py",
    Reason.STREAM_IDLE: "integration/test_policies_over_sockets.py",
    Reason.SLOW_REQUEST: "native/test_attacks.py",
    Reason.PYTHON_LANE_FULL: "native/test_attacks.py",
    Reason.TOO_MANY_CORRECTIONS: "integration/test_fair_corrections.py",
    Reason.UPSTREAM_DEADLINE: "integration/test_proxy_over_sockets.py",
    Reason.UPSTREAM_UNCORRELATED: "integration/test_streams_over_sockets.py",
    Reason.STOPPING: "integration/test_streams_over_sockets.py",
    Reason.INTERNAL: "integration/test_proxy_over_sockets.py",
    Reason.OUTPUT_UNKNOWN: "unit/model_server/test_served_model.py",
}
"""Where no case with one request and one answer produces a reason: which tests do, by code that names it."""


class TestTable:
    def test_has_every_reason_that_a_client_can_meet(self):
        assert set(FAILURES) == {reason for reason in Reason if not reason.startswith(("bundle_", "settings_"))}

    def test_page_is_what_the_code_says(self):
        page = ROOT / "deploy" / "reference" / "failures.md"
        assert page.read_text() == reference(), "run: sidecar config failures > deploy/reference/failures.md"

    def test_page_has_every_reason(self):
        assert all(f"| `{reason}` |" in reference() for reason in FAILURES)

    @pytest.mark.parametrize("row", FAILURES.values(), ids=lambda row: row.reason)
    def test_opens_to_nothing_that_a_client_can_bring_about_nor_to_a_decision(self, row):
        if row.fault in (Fault.CALLER, Fault.GATE):
            assert not row.passes_open
            assert not row.falls_back

    def test_keeps_a_defect_of_ours_closed(self):
        assert not FAILURES[Reason.INTERNAL].passes_open
        assert not FAILURES[Reason.INTERNAL].falls_back

    @pytest.mark.parametrize("row", FAILURES.values(), ids=lambda row: row.reason)
    def test_hides_what_is_the_upstreams_or_ours(self, row):
        hidden = row.fault in (Fault.UPSTREAM, Fault.OURS) and row.reason is not Reason.UPSTREAM_ERROR
        assert (row.fixed_text is not None) is hidden

    @pytest.mark.parametrize("reason", FAILURES)
    def test_has_a_test_that_produces_each_reason(self, reason):
        cases = {case.expected.reason for case in (*CASES, *POLICY_CASES) if isinstance(case.expected, Error)}
        if reason in cases:
            assert reason not in PRODUCED_ELSEWHERE
            return
        tree = ast.parse((ROOT / "tests" / PRODUCED_ELSEWHERE[reason]).read_text())
        tests = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        ]
        named = (f"Reason.{reason.name}", f"'{reason}'", f"'{reason}:")
        assert any(name in ast.unparse(test) for test in tests for name in named), reason

    @pytest.mark.parametrize("row", [row for row in FAILURES.values() if row.falls_back], ids=lambda row: row.reason)
    def test_has_a_case_for_each_failure_that_falls_back(self, row):
        produced = {case.expected.reason for case in POLICY_CASES if isinstance(case.expected, FellBack)}
        alike = {Reason.UPSTREAM_OUTPUT_MISSING: [r for r in FAILURES if r.startswith("upstream_output_")]}
        assert row.reason in produced or any(row.reason in alike.get(reason, ()) for reason in produced)

    @pytest.mark.parametrize("row", [row for row in FAILURES.values() if row.passes_open], ids=lambda row: row.reason)
    def test_has_a_case_for_each_failure_that_passes_open(self, row):
        assert row.reason in {case.expected.reason for case in POLICY_CASES if isinstance(case.expected, Passed)}

    @pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
    def test_says_of_every_status_whether_the_upstream_failed(self, code):
        failure = UpstreamFailure(Reason.UPSTREAM_ERROR, code, "", answered=True)
        assert calls_for_fallback(failure) is (code not in CALLERS_CODES)
        assert status_of_failure(failure).code is code


class TestDeadlines:
    FALLBACK = ModelPolicy(on_upstream_failure=OnUpstreamFailure.FALLBACK)

    @pytest.mark.parametrize(
        ("policy", "left", "reserve", "expected"),
        [
            (None, 10.0, 0.0, 10.0),
            (ModelPolicy(), 10.0, 0.0, 10.0),
            (ModelPolicy(upstream_timeout_seconds=2.0), 10.0, 0.0, 2.0),
            (ModelPolicy(upstream_timeout_seconds=2.0), 1.0, 0.0, 1.0),
            (FALLBACK, 10.0, 0.5, 9.5),
            (FALLBACK, 0.6, 0.5, 0.3),
            (FALLBACK, -1.0, 0.5, 0.0),
        ],
    )
    def test_upstream_seconds(self, policy, left, reserve, expected):
        assert upstream_seconds(policy, left, reserve) == expected


class TestFirstSeen:
    def test_names_are_told_once_and_not_without_end(self, caplog):
        caplog.set_level(logging.WARNING, "sidecar.proxy")
        seen = FirstSeen()
        for number in [*range(MAX_REMEMBERED + 50)] * 2:
            seen.unguarded(f"m{number:04}")
            seen.unproved("guarded", f"{number:04}")
        assert len(caplog.records) == 2 * MAX_REMEMBERED
        assert len(seen.unguarded_models) == len(seen.unproved_versions("guarded")) == MAX_REMEMBERED
        assert seen.unproved_versions("other") == ()


class TestSettings:
    def test_a_models_own_stand_in_for_the_sidecars(self):
        settings = ServeSettings(
            (BundleSource(Path("a.gates")),),
            "h:1",
            on_upstream_failure=OnUpstreamFailure.FALLBACK,
            models=(ModelSettings("a", on_upstream_failure=OnUpstreamFailure.ERROR),),
        )
        assert settings.policy("a").on_upstream_failure is OnUpstreamFailure.ERROR
        assert settings.policy("b").on_upstream_failure is OnUpstreamFailure.FALLBACK
        assert settings.limit_rows == DEFAULT_LIMIT_ROWS

    @pytest.mark.parametrize(
        ("changes", "what"),
        [({"stream_idle_seconds": 0}, "stream_idle"), ({"fallback_reserve_seconds": -1}, "reserve")],
    )
    def test_that_make_no_sense_are_told(self, changes, what):
        with pytest.raises(ValueError, match=what):
            ServeSettings((BundleSource(Path("a.gates")),), "h:1", **changes)

    def test_a_models_time_is_positive(self):
        with pytest.raises(ValueError, match="upstream_timeout_seconds"):
            ModelSettings("a", upstream_timeout_seconds=0)
