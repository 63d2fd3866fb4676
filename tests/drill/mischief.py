"""What clients do besides asking properly: they give up, break off, and ask for what is refused."""

import contextlib
import threading
from collections.abc import Callable, Sequence

import grpc
import numpy as np

from tests.drill.load import METHOD, STREAM_METHOD, Load
from tests.drill.model import MODEL


class Mischief:
    """One thread, which connects anew all the time."""

    def __init__(self, load: Load, contents: Sequence[bytes]) -> None:
        self.done = dict.fromkeys(("given up", "broken off", "refused", "connected"), 0)
        self._load = load
        self._contents = contents
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._enough.set()
        self._thread.join(20)

    def _keep_on(self) -> None:
        rng = np.random.default_rng(7)
        turns: tuple[Callable[[grpc.Channel, bytes], None], ...] = (self._give_up, self._break_off, self._be_refused)
        while not self._enough.is_set():
            with self._load.connect() as channel:
                self.done["connected"] += 1
                for turn in turns * 4:
                    turn(channel, self._contents[rng.integers(len(self._contents))])
                    self._enough.wait(0.01)

    def _give_up(self, channel: grpc.Channel, content: bytes) -> None:
        call = channel.unary_unary(METHOD).future(content)
        self._enough.wait(0.002)
        call.cancel()
        self.done["given up"] += 1

    def _break_off(self, channel: grpc.Channel, content: bytes) -> None:
        stream = channel.stream_stream(STREAM_METHOD)(iter([content] * 3))
        with contextlib.suppress(grpc.RpcError):
            next(stream)
        stream.cancel()
        self.done["broken off"] += 1

    def _be_refused(self, channel: grpc.Channel, content: bytes) -> None:
        not_finite = content[:-4] + b"\x00\x00\xc0\x7f"
        another_model = content.replace(MODEL.encode(), b"x" * len(MODEL))
        for method, request in (
            (METHOD, not_finite),
            (METHOD, another_model),
            (METHOD, content[:-3]),
            ("/inference.GRPCInferenceService/RepositoryModelUnload", b""),
        ):
            try:
                channel.unary_unary(method)(request, timeout=10)
            except grpc.RpcError:
                self.done["refused"] += 1
