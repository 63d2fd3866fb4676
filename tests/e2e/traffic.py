"""Traffic by tritonclient, many requests in flight on one channel, and what came back as bytes."""

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

IN_FLIGHT = 16


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: the message's bytes, or the error; exactly one of the two."""

    message: bytes | None
    rows: np.ndarray | None
    error: InferenceServerException | None


@dataclasses.dataclass(frozen=True)
class Wire:
    """How a model's rows travel: tensor names, and the shape of a request of n rows (None stands for n)."""

    input_name: str
    output_name: str
    shape: tuple[int | None, ...]

    def tensor(self, rows: np.ndarray) -> triton.InferInput:
        shape = [len(rows) if size is None else size for size in self.shape]
        tensor = triton.InferInput(self.input_name, shape, "FP32")
        tensor.set_data_from_numpy(rows.astype(np.float32, copy=False).reshape(shape))
        return tensor


def ask(address: str, model: str, wire: Wire, requests: Sequence[np.ndarray]) -> list[Answer]:
    """Sends every request (float32 rows each) and returns the answers in the same order."""
    answers: list[Answer | None] = [None] * len(requests)
    window = threading.Semaphore(IN_FLIGHT)

    def arrived(index: int, result: triton.InferResult | None, error: InferenceServerException | None) -> None:
        answers[index] = _answer(wire, result, error)
        window.release()

    with triton.InferenceServerClient(address) as client:
        for index, rows in enumerate(requests):
            window.acquire()
            client.async_infer(
                model,
                [wire.tensor(rows)],
                lambda result, error, index=index: arrived(index, result, error),
                request_id=str(index),
                client_timeout=30,
            )
        for _ in range(IN_FLIGHT):
            window.acquire()
    assert None not in answers
    return answers


def _answer(wire: Wire, result: triton.InferResult | None, error: InferenceServerException | None) -> Answer:
    if error is not None:
        return Answer(None, None, error)
    values = result.as_numpy(wire.output_name)
    return Answer(result.get_response().SerializeToString(), values.reshape(-1, values.shape[-1]), None)
