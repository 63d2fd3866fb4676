"""A client that sends only counterexamples in full batches: its neighbours are served in turn, and it is bounded."""

import contextlib
import time

import grpc
import pytest

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy import turns
from sidecar.proxy.methods import MODEL_INFER
from sidecar.proxy.workers import MAX_ROWS_ON_THE_LOOP
from tests.conformance.guarded_model import request, response, values
from tests.integration.proxy_harness import SocketUpstream, call, settings, sidecar
from tests.transports import BOTH_TRANSPORTS

pytestmark = BOTH_TRANSPORTS

FULL_BATCH = 4096
BATCHES_IN_FLIGHT = 4
ABOVE_THE_CEILING = (3.0, 2.0, 1.0)


def counterexamples(rows: int) -> bytes:
    return request([[0.75, 0]] * rows).SerializeToString()


@pytest.fixture
def running(loop, tmp_path):
    """A sidecar whose upstream answers every row with a violation."""
    upstream = SocketUpstream()
    port = loop.run(upstream.start())
    answers = {}

    async def behave(content, _):
        rows = pb.ModelInferRequest.FromString(content).inputs[0].shape[0]
        if rows not in answers:
            answers[rows] = response([ABOVE_THE_CEILING] * rows).SerializeToString()
        return answers[rows]

    upstream.behaviour = behave
    with sidecar(loop, settings(tmp_path, port)) as running:
        yield running
    loop.run(upstream.server.stop(0))


@contextlib.contextmanager
def crowd(running):
    """Full batches of counterexamples in flight, all from one client; gives a function that sends one more."""
    with grpc.insecure_channel(f"127.0.0.1:{running.listen_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary(MODEL_INFER)
        yield lambda: infer.future(counterexamples(FULL_BATCH), timeout=60)


@pytest.mark.parametrize("rows", [1, MAX_ROWS_ON_THE_LOOP + 1], ids=["on the loop at first", "in the thread at once"])
def test_neighbours_are_corrected_while_full_batches_wait(running, rows):
    """Counted in batches that end meanwhile, not in seconds: who had to wait for them would see all of them end."""
    with crowd(running) as send_batch:
        batches = [send_batch() for _ in range(BATCHES_IN_FLIGHT)]
        time.sleep(0.1)
        ended_meanwhile = []
        for _ in range(20):
            in_flight = [batch for batch in batches if not batch.done()]
            batches += [send_batch() for _ in range(BATCHES_IN_FLIGHT - len(in_flight))]
            in_flight = [batch for batch in batches if not batch.done()]
            reply = call(running.listen_port, MODEL_INFER, counterexamples(rows))
            ended_meanwhile.append(sum(batch.done() for batch in in_flight))
            assert (values(reply.body, "y") == [1, 2, 1]).all()
        assert sum(ended_meanwhile) < 20
        assert all((values(batch.result(), "y") == [1, 2, 1]).all() for batch in batches)


def test_too_many_corrections_of_one_client_are_refused_and_others_are_not(running, monkeypatch):
    monkeypatch.setattr(turns, "MAX_STEPS_OF_CLIENT", FULL_BATCH)
    with crowd(running) as send_batch:
        batches = [send_batch() for _ in range(BATCHES_IN_FLIGHT)]
        reply = call(running.listen_port, MODEL_INFER, counterexamples(1))
        codes = [batch.code() for batch in batches]
    refused = [batch for batch in batches if batch.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refused
    assert codes.count(grpc.StatusCode.OK) == BATCHES_IN_FLIGHT - len(refused) >= 1
    assert dict(refused[0].trailing_metadata())["gate-reason"] == "too_many_corrections"
    assert refused[0].details().startswith("too_many_corrections: as many rows wait to be corrected as may")
    assert reply.code is grpc.StatusCode.OK
    counted = running.metrics.value("gate_refusals_total", model="guarded", reason="too_many_corrections")
    assert counted == len(refused)
