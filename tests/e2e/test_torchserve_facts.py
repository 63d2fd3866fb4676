"""What a real TorchServe does beside its answers, and what the sidecar before it makes of that: tokens, and a handler
that hangs. See SERVERS in the cases' README.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from sidecar.config import Probing
from sidecar.errors import Reason
from sidecar.proxy.methods import PING
from tests.conformance.guarded_model import MODEL
from tests.conformance.torchserve_cases import FINE, SETTINGS, request_bytes
from tests.e2e.conformance.script import ScriptFolder
from tests.e2e.torchserve.launcher import ScriptedModel, TorchServeInstall, running_torchserve, tokens
from tests.e2e.torchserve.predictions import METHOD, prediction
from tests.integration.proxy_harness import Loop, Reply, call, settings, sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATIENCE_SECONDS, HANG_SECONDS = 0.5, 2.0
ASKED = request_bytes({"data": b'{"instances": [[0.5, 0]]}'})
TOO_LARGE = FINE.replace("0.5", "1.5")


@dataclasses.dataclass(frozen=True)
class Running:
    """A TorchServe that wants tokens and the sidecar before it."""

    direct: int
    through: int
    script: ScriptFolder
    token: str
    key_file: Path

    def ask(self, port: int, method: str = METHOD, message: bytes = ASKED) -> Reply:
        """One call that brings the token."""
        return call(port, method, message, metadata=(("authorization", f"Bearer {self.token}"),))


@pytest.fixture(scope="module")
def running(torchserve_install: TorchServeInstall, server_logs, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("torchserve")
    script = ScriptFolder.make(folder / "script")
    script.say_prediction(TOO_LARGE.encode())
    home = folder / "server"
    home.mkdir()
    server_logs.append(home / "torchserve.log")
    model = dataclasses.replace(SETTINGS, upstream_timeout_seconds=PATIENCE_SECONDS)
    models = [ScriptedModel(MODEL, script.path / "script_reader.py")]
    loop = Loop()
    with running_torchserve(torchserve_install, models, home, token_auth=True) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        stated = settings(folder, port, models=(model,), probe=Probing.OFF, readiness_interval_seconds=3600.0)
        with sidecar(loop, stated) as sidecar_:
            yield Running(port, sidecar_.listen_port, script, tokens(home)["inference"], home / "key_file.json")
    loop.close()


def test_a_clients_token_reaches_the_server_and_the_answer_is_judged(running: Running):
    reply = running.ask(running.through)
    assert prediction(reply.body).decode() == FINE.replace("0.5", "1.0")
    assert reply.trailing["gate-outcome"] == "corrected"


def test_without_a_token_the_client_is_told_so_without_the_servers_words(running: Running):
    direct, through = (call(port, METHOD, ASKED) for port in (running.direct, running.through))
    assert direct.code is through.code is grpc.StatusCode.PERMISSION_DENIED
    assert "Token Authorization failed" in direct.details
    assert "Token" not in through.details
    assert through.trailing["gate-reason"] == Reason.UPSTREAM_ERROR


def test_with_the_servers_key_file_the_sidecar_is_ready(running: Running, tmp_path):
    loop = Loop()
    for token_file, is_ready in ((None, False), (running.key_file, True)):
        stated = settings(tmp_path, running.direct, models=(SETTINGS,), probe=Probing.OFF, upstream_token=token_file)
        with sidecar(loop, stated) as ours:
            assert ours.readiness.ready is is_ready, ours.readiness.why
            assert is_ready or "--upstream-token" in ours.readiness.why[0]
            assert call(ours.listen_port, METHOD, ASKED).code is grpc.StatusCode.PERMISSION_DENIED, (
                "clients need theirs"
            )
            assert running.ask(ours.listen_port).trailing["gate-outcome"] == "corrected"
    loop.close()


def test_a_handler_that_hangs_is_given_up_in_time_while_ping_says_healthy(running: Running):
    running.script.say([], delay_seconds=HANG_SECONDS)
    began = time.monotonic()
    reply = running.ask(running.through)
    assert (reply.code, reply.trailing["gate-reason"]) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        Reason.UPSTREAM_DEADLINE,
    )
    assert time.monotonic() - began < HANG_SECONDS / 2
    assert b"Healthy" in running.ask(running.direct, PING, b"").body
    running.script.say([])
    time.sleep(HANG_SECONDS)
    assert running.ask(running.through).trailing["gate-outcome"] == "corrected"
