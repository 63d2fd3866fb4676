"""A decoupled model on a real Triton behind the sidecar: streams of many responses, asked as Triton's own client asks.

The bundle is the conformance cases': where x0 lies in 0..1 the property says y0 <= 1, and the model answers y0 = 3.
"""

import contextlib
import queue
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sidecar.config import UpstreamWords
from tests.conformance.guarded_model import MODEL
from tests.e2e.triton.launcher import DECOUPLED_MODEL, ServedFolder, running_triton
from tests.integration.proxy_harness import Loop, settings, sidecar

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WATCHED, OUTSIDE = 0.75, 20.0


@pytest.fixture(scope="module")
def server(triton_install, server_logs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    server_logs.append(folder / "triton.log")
    with running_triton(triton_install, [ServedFolder(MODEL, DECOUPLED_MODEL)], folder) as server:
        yield server


@pytest.fixture(scope="module")
def running(server, tmp_path_factory):
    loop = Loop()
    upstream_port = int(server.grpc_address.rpartition(":")[2])
    with sidecar(
        loop, settings(tmp_path_factory.mktemp("bundles"), upstream_port, upstream_words=UpstreamWords.ALL)
    ) as running:
        yield running
    loop.close()


class Stream:
    def __init__(self, client: triton.InferenceServerClient) -> None:
        self.client = client
        self.got: queue.SimpleQueue = queue.SimpleQueue()
        client.start_stream(lambda result, error: self.got.put((result, error)))

    def ask(self, x0: float, responses: float, request_id: str = "", others: Sequence[str] = (), **options) -> None:
        tensors = [triton.InferInput(name, [1, 2], "FP32") for name in ("x", *others)]
        for tensor in tensors:
            tensor.set_data_from_numpy(np.array([[x0, responses]], np.float32))
        self.client.async_stream_infer(MODEL, tensors, request_id=request_id, **options)

    def next(self):
        result, error = self.got.get(timeout=20)
        if error is not None:
            raise error
        return result


@contextlib.contextmanager
def stream(address: str) -> Iterator[Stream]:
    with triton.InferenceServerClient(address) as client:
        yield Stream(client)
        client.stop_stream()


@pytest.fixture
def through(running):
    with stream(f"127.0.0.1:{running.listen_port}") as opened:
        yield opened


@pytest.fixture
def direct(server):
    with stream(server.grpc_address) as opened:
        yield opened


def test_every_response_of_a_request_is_corrected(through):
    through.ask(WATCHED, 5, "a")
    for _ in range(5):
        result = through.next()
        np.testing.assert_array_equal(result.as_numpy("y"), [[1, 2, 1]])
        assert result.get_response().id == "a"


@pytest.mark.parametrize("wants_final", [False, True])
@pytest.mark.parametrize("request_id", ["", "same"])
def test_what_is_outside_is_what_triton_answers(through, direct, wants_final, request_id):
    for asked in (direct, through):
        asked.ask(OUTSIDE, 2, request_id, enable_empty_final_response=wants_final)
        asked.ask(OUTSIDE, 1, request_id, enable_empty_final_response=wants_final)
    # Two decoupled requests are computed side by side: their responses come in any order.
    answers = [
        sorted(
            asked.next().get_response().SerializeToString(deterministic=True) for _ in range(5 if wants_final else 3)
        )
        for asked in (through, direct)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("request_id", ["", "e"])
@pytest.mark.parametrize("whose", ["the model's", "the server's"])
def test_errors_are_what_triton_answers(through, direct, whose, request_id):
    errors = []
    for asked in (direct, through):
        if whose == "the model's":
            asked.ask(OUTSIDE, -1, request_id)
        else:
            asked.ask(OUTSIDE, 1, request_id, others=("no-such",))
        with pytest.raises(InferenceServerException) as caught:
            asked.next()
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert errors[0]


def test_a_refused_request_does_not_end_the_stream(through):
    through.ask(float("nan"), 1, "bad")
    with pytest.raises(InferenceServerException, match="input_not_finite"):
        through.next()
    through.ask(WATCHED, 1, "good")
    assert through.next().get_response().id == "good"


def test_a_thousand_requests_on_one_stream(through, running):
    for number in range(1000):
        through.ask(WATCHED, number % 3, str(number), enable_empty_final_response=True)
    finals = 0
    while finals < 1000:
        result = through.next()
        if result.get_response().parameters["triton_final_response"].bool_param:
            finals += 1
        if result.get_response().outputs:
            np.testing.assert_array_equal(result.as_numpy("y"), [[1, 2, 1]])
    assert running.metrics.value("gate_refusals_total", model="", reason="upstream_uncorrelated") == 0
