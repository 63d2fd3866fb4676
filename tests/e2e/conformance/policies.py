"""The cases of the models' policies on a real server: a sidecar of its own for each policy, asked by calls."""

import dataclasses
import itertools
from pathlib import Path

import grpc

from sidecar.config import BundleSource, ModelPolicy, ModelSettings, Probing, ServeSettings, Unguarded
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.upstream import UpstreamFailure
from tests.conformance.expectations import Case, Error, VeryBytes
from tests.conformance.guarded_model import MODEL, bundle_bytes
from tests.conformance.judging import check_fallback
from tests.conformance.policy_cases import POLICY_CASES, SLOW, FellBack, Passed, PolicyCase
from tests.e2e.conformance.asking import Asker, Reply, Way, asker
from tests.e2e.conformance.limits import Limit, answer_limit
from tests.e2e.conformance.playing import Result, Verdict
from tests.e2e.conformance.product import Share
from tests.e2e.conformance.script import ScriptFolder, tensors
from tests.e2e.conformance.servers import Kind, ScriptedServer
from tests.integration.proxy_harness import Loop, sidecar

PATIENCE_SECONDS, SLOWNESS_SECONDS = 1.0, 1.5

_TRITONS_ERRORS = {
    grpc.StatusCode.UNKNOWN: "UNKNOWN",
    grpc.StatusCode.INTERNAL: "INTERNAL",
    grpc.StatusCode.NOT_FOUND: "NOT_FOUND",
    grpc.StatusCode.INVALID_ARGUMENT: "INVALID_ARG",
    grpc.StatusCode.UNIMPLEMENTED: "UNSUPPORTED",
    grpc.StatusCode.ALREADY_EXISTS: "ALREADY_EXISTS",
    grpc.StatusCode.CANCELLED: "CANCELLED",
}


@dataclasses.dataclass(frozen=True)
class _Sidecar:
    """What a sidecar is told that suits a number of cases."""

    policy: ModelPolicy
    unguarded: Unguarded
    mode: Mode | None
    is_impatient: bool


def _sidecar_of(case: PolicyCase) -> _Sidecar:
    return _Sidecar(case.policy, case.unguarded, case.mode, case.answer is SLOW)


def run_policies(loop: Loop, server: ScriptedServer, folder: Path) -> Share:
    """Every policy case's result.

    Args:
        folder: an empty folder of the caller's, for the bundle.
    """
    bundle = folder / "guarded.gates"
    bundle.write_bytes(bundle_bytes())
    results = []
    with asker(server.address, Way.CALL) as direct:
        for told, cases in itertools.groupby(sorted(POLICY_CASES, key=_order), key=_sidecar_of):
            with (
                sidecar(loop, _settings(told, bundle, server.address)) as running,
                asker(f"127.0.0.1:{running.listen_port}", Way.CALL) as through,
            ):
                results += [_play(case, server, direct, through) for case in cases]
    return Share(f"{server.kind} policies", Way.CALL, tuple(results))


def _order(case: PolicyCase) -> str:
    return repr(_sidecar_of(case))


def _settings(told: _Sidecar, bundle: Path, upstream: str) -> ServeSettings:
    model = ModelSettings(
        MODEL,
        outside=told.policy.outside,
        probe=Probing.OFF if told.policy.probe is Probing.REPORT else told.policy.probe,
        failure_mode=told.policy.failure_mode,
        on_upstream_failure=told.policy.on_upstream_failure,
        upstream_timeout_seconds=PATIENCE_SECONDS if told.is_impatient else None,
    )
    return ServeSettings(
        (BundleSource(bundle),),
        upstream,
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        mode=told.mode,
        unguarded_models=told.unguarded,
        models=(model,),
        limit_rows=8,
    )


def _play(case: PolicyCase, server: ScriptedServer, direct: Asker, through: Asker) -> Result:
    limit = _limit(case, server.kind)
    if limit is not None:
        return Result(case.name, Verdict.NOT_APPLICABLE, limit)
    try:
        _say(case, server.script)
        answered = direct.ask(case.request) if _has_answer(case) else Reply(None, "", {})
        seen = len(server.script.seen())
        reply = through.ask(case.request)
        _check(case, reply, answered, arrived=len(server.script.seen()) > seen)
    except AssertionError as error:
        return Result(case.name, Verdict.FAILED, str(error) or repr(error))
    return Result(case.name, Verdict.PASSED)


def _has_answer(case: PolicyCase) -> bool:
    return isinstance(case.expected, Passed | VeryBytes)


def _limit(case: PolicyCase, kind: Kind) -> Limit | None:
    if case.awaited or case.failing or case.open_models:
        return Limit.ACTIVATION
    if isinstance(case.expected, Error) and not case.expected.forwarded:
        return None
    if isinstance(case.answer, bytes):
        limit = answer_limit(Case(case.name, case.request, case.answer, VeryBytes("")))
        return None if limit is Limit.HEADER else limit  # of no policy's concern
    if case.answer is SLOW:
        return None
    if case.answer.reason is not Reason.UPSTREAM_ERROR:
        return Limit.DOWN
    return None if kind is Kind.TRITON and case.answer.code in _TRITONS_ERRORS else Limit.STATUS


def _say(case: PolicyCase, script: ScriptFolder) -> None:
    match case.answer:
        case bytes() as answer:
            script.say(tensors(answer) or [])
        case UpstreamFailure(Reason.UPSTREAM_ERROR, code, details) if code in _TRITONS_ERRORS:
            script.say([], {"code": _TRITONS_ERRORS[code], "message": details})
        case _:
            script.say([], delay_seconds=SLOWNESS_SECONDS if case.answer is SLOW else 0.0)


def _check(case: PolicyCase, reply: Reply, answered: Reply, *, arrived: bool) -> None:
    said = (reply.trailers.get("gate-outcome"), reply.trailers.get("gate-reason"))
    match case.expected:
        case Error(reason, forwarded):
            assert (reply.body, said[1]) == (None, reason), f"{said}: {reply.details}"
            assert arrived is forwarded
        case Passed(outcome, reason):
            assert said == (outcome, reason), f"{said}: {reply.details}"
            assert (reply.body is not None, reply.body) == (True, answered.body)
        case FellBack(reason):
            assert said == ("fallback", reason), f"{said}: {reply.details}"
            assert reply.body is not None
            check_fallback(case.request, reply.body, case.expected)
        case VeryBytes(outcome):
            assert said == (outcome, None), f"{said}: {reply.details}"
            assert (reply.body is not None, reply.body) == (True, answered.body)
