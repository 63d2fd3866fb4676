"""Steady load through the sidecar: several clients in a closed loop, every answer judged, every error kept.

The judge is :mod:`tests.e2e.judge`, which shares nothing with the product. The clients are plain grpcio: nothing
between the wire and the record retries, hides or interprets.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from sidecar.errors import Reason
from tests.drill.seen import OUTCOME, REASON, UPSTREAM_ERROR, ClientOptions, Request, Seen
from tests.e2e.judge import Judge

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
PAUSE_AFTER_FAILURE_SECONDS = 0.02
PATIENCE_SECONDS = 20.0
"""For calls in flight at the end: one that takes longer hangs."""


class Load:
    """Clients in threads of their own; ``seen`` is what they saw."""

    def __init__(self, address: str, requests: Sequence[Request], judge: Judge, options: ClientOptions) -> None:
        self.seen = Seen()
        self._address = address
        self._requests = requests
        self._judge = judge
        self._options = options
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._channels: dict[int, grpc.Channel] = {}
        self._threads = [
            threading.Thread(target=self._keep_asking, args=(index,), daemon=True) for index in range(options.count + 1)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the calls in flight, and end; calls that hang are broken off."""
        self._enough.set()
        until = time.monotonic() + PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.seen.hanging = sum(thread.is_alive() for thread in self._threads)
        for channel in list(self._channels.values()):
            channel.close()

    def connect(self) -> grpc.Channel:
        """A connection of its own to the sidecar."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
        if self._options.credentials is None:
            return grpc.insecure_channel(self._address, options)
        return grpc.secure_channel(self._address, self._options.credentials(), options)

    def _keep_asking(self, index: int) -> None:
        rng = np.random.default_rng(index)
        deadline = self._options.deadline_seconds if index % 2 else None
        while not self._enough.is_set():
            with self.connect() as channel:
                self._channels[index] = channel
                if index == self._options.count:
                    self._ask_on_stream(channel, rng)
                    continue
                infer = channel.unary_unary(METHOD)
                for request in self._drawn(rng):
                    failed = self._ask(infer, request, deadline)
                    self._enough.wait(PAUSE_AFTER_FAILURE_SECONDS if failed else self._options.pause_seconds)

    def _ask_on_stream(self, channel: grpc.Channel, rng: np.random.Generator) -> None:
        """A stream to its end, which is an error's or ours."""
        outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream = channel.stream_stream(STREAM_METHOD)(iter(outbox.get, None))
        try:
            for request in self._drawn(rng):
                outbox.put(request.content)
                failed = self._streamed(request, next(stream))
                self._enough.wait(PAUSE_AFTER_FAILURE_SECONDS if failed else self._options.pause_seconds)
            outbox.put(None)
            self._strange(*(f"after the last answer: {left!r}" for left in stream))
        except grpc.RpcError as error:
            self._failed(error)
            with self._lock:
                self.seen.broken_streams += 1
        except StopIteration:
            self._strange("a stream that ended early, and without an error")
        finally:
            outbox.put(None)
        self._enough.wait(PAUSE_AFTER_FAILURE_SECONDS)

    def _strange(self, *what: str) -> None:
        with self._lock:
            self.seen.strange += what

    def _streamed(self, request: Request, message: bytes) -> bool:
        """Whether it is an error."""
        response = service_pb2.ModelStreamInferResponse.FromString(message)
        with self._lock:
            if response.error_message:
                reason = response.error_message.partition(":")[0]
                self._note_failure(reason if reason in set(Reason) else UPSTREAM_ERROR, response.error_message)
                return True
            self.seen.streamed += 1
            self.seen.last_answer = time.monotonic()
            self._look_at(request, response.infer_response.SerializeToString(), "streamed")
            return False

    def _drawn(self, rng: np.random.Generator) -> Iterator[Request]:
        asked = 0
        while not self._enough.is_set() and asked != self._options.calls_per_connection:
            asked += 1
            yield self._requests[rng.integers(len(self._requests))]

    def _ask(self, infer: grpc.UnaryUnaryMultiCallable, request: Request, deadline: float | None) -> bool:
        began = time.monotonic()
        try:
            answer, call = infer.with_call(request.content, timeout=deadline)
        except grpc.RpcError as error:
            reason = self._failed(error)
            with self._lock:
                self.seen.waits.append((reason, time.monotonic() - began))
            return True
        outcome = dict(call.trailing_metadata()).get(OUTCOME, "without a word")
        with self._lock:
            now = time.monotonic()
            self.seen.latencies.append((now, now - began))
            self.seen.last_answer = now
            self.seen.outcomes[outcome] += 1
            self._look_at(request, answer, outcome)
        return False

    def _failed(self, error: grpc.RpcError) -> str:
        reason = dict(error.trailing_metadata() or ()).get(REASON)
        with self._lock:
            if reason is not None:
                self._note_failure(reason, error.details())
                return reason
            self.seen.last_failure = time.monotonic()
            self.seen.bare[error.code().name] += 1
            return error.code().name

    def _note_failure(self, reason: str, text: str) -> None:
        self.seen.last_failure = time.monotonic()
        self.seen.reasons[reason] += 1
        self.seen.leaks |= {text for word in self._options.hidden if word in text}

    def _look_at(self, request: Request, answer: bytes, outcome: str) -> None:
        allowed = self._options.largest_difference
        is_inside = any(self._judge.contains(row) for row in request.rows)
        if not is_inside and allowed is None:
            return  # nobody's to judge: what the upstream says of it passes as it is
        if outcome == "outside" and is_inside:
            self.seen.strange.append(f"{request.rows} are said to be outside every domain")
        response = service_pb2.ModelInferResponse.FromString(answer)
        raw = b"".join(response.raw_output_contents)
        if len(raw) != request.rows.nbytes:
            self.seen.strange.append(f"{len(raw)} bytes of scores for {len(request.rows)} rows: {outcome}")
            return
        scores = np.frombuffer(raw, "<f4").reshape(request.rows.shape)
        for row, score in zip(request.rows, scores, strict=True):
            if self._judge.violated(row, score):
                self.seen.violating.append(f"{row} -> {score} ({outcome})")
        may_move = outcome in ("corrected", "streamed")
        if allowed is not None and not may_move and not np.abs(scores - request.rows).max() <= allowed:
            self.seen.strange.append(f"{request.rows} -> {scores} ({outcome})")


@contextlib.contextmanager
def running_load(load: Load) -> Iterator[Load]:
    """Started, and stopped when the block is left."""
    load.start()
    try:
        yield load
    finally:
        load.stop()
