"""TorchServe's cases on a real TorchServe: a handler that answers what the case says, asked as the cases ask."""

import contextlib
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError

from sidecar.config import Probing
from sidecar.protocols.generated import torchserve_pb2 as pb
from tests.conformance.guarded_model import MODEL
from tests.conformance.torchserve_cases import CASES, FINE, SETTINGS, Case, Error, Prediction
from tests.e2e.conformance.asking import TIMEOUT_SECONDS, Way
from tests.e2e.conformance.playing import Result, Verdict
from tests.e2e.conformance.product import Share
from tests.e2e.conformance.script import ScriptFolder
from tests.e2e.installing import server_cache
from tests.e2e.torchserve.launcher import ScriptedModel, install_torchserve, running_torchserve
from tests.e2e.torchserve.predictions import METHOD
from tests.integration.proxy_harness import Loop, Reply, call, http, settings, sidecar

NO_MESSAGE = "no message: servers write whole messages"


# The sidecar asks the handler whether it is ready, too: once, so that the handler's count is the cases' own.
_SIDECAR = {
    "limit_rows": 8,
    "models": (SETTINGS,),
    "probe": Probing.OFF,
    "readiness_interval_seconds": 3600.0,
}


@contextlib.contextmanager
def scripted_torchserve(folder: Path) -> Iterator[tuple[str, ScriptFolder]]:
    """Its address and its script, until the block is left.

    Raises:
        ServerUnavailable: it cannot be installed or run on this machine.
    """
    script = ScriptFolder.make(folder / "script")
    (folder / "server").mkdir()
    model = ScriptedModel(MODEL, script.path / "script_reader.py")
    with running_torchserve(install_torchserve(server_cache("torchserve")), [model], folder / "server") as server:
        yield server.grpc_address, script


def run_cases(loop: Loop, folder: Path) -> Share:
    """Every case's result, on a server that is started for it.

    Args:
        folder: an empty folder of the caller's.
    """
    with scripted_torchserve(folder) as (address, script):
        return play_cases(loop, folder, address, script)


def play_cases(loop: Loop, folder: Path, address: str, script: ScriptFolder) -> Share:
    """Every case's result on a running server that has the scripted model.

    Args:
        loop: in which the sidecar runs.
        folder: of the caller's, for the bundle.
    """
    script.say_prediction(FINE.encode())
    port = int(address.rpartition(":")[2])
    with sidecar(loop, settings(folder, port, **_SIDECAR)) as running:
        _wait_until_ready(running.admin_port)
        results = [_play(case, running.listen_port, script) for case in CASES]
    return Share("torchserve", Way.CALL, tuple(results))


def _wait_until_ready(admin_port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while http(admin_port, "/readyz")[0] != HTTPStatus.OK:
        assert time.monotonic() < deadline, http(admin_port, "/readyz")
        time.sleep(0.05)


def _play(case: Case, port: int, script: ScriptFolder) -> Result:
    answer = _prediction(case.answer)
    forwarded = not isinstance(case.expected, Error) or case.expected.forwarded
    if answer is None and forwarded:
        return Result(case.name, Verdict.NOT_APPLICABLE, NO_MESSAGE)
    script.say_prediction(answer or b"")
    before = len(script.seen())
    try:
        _check(case, call(port, METHOD, case.request, timeout=TIMEOUT_SECONDS))
        assert (len(script.seen()) > before) is forwarded, "the handler was asked" if not forwarded else "it was not"
    except AssertionError as error:
        return Result(case.name, Verdict.FAILED, str(error) or repr(error))
    return Result(case.name, Verdict.PASSED)


def _prediction(answer: bytes) -> bytes | None:
    try:
        return pb.PredictionResponse.FromString(answer).prediction
    except DecodeError:
        return None


def _check(case: Case, reply: Reply) -> None:
    match case.expected:
        case Prediction(outcome, text):
            assert (reply.code, reply.trailing["gate-outcome"]) == (grpc.StatusCode.OK, outcome), reply.details
            assert reply.body == pb.PredictionResponse(prediction=text.encode()).SerializeToString()
        case Error(reason, _, code):
            assert (reply.code, reply.trailing["gate-reason"]) == (code, reason), reply.details
