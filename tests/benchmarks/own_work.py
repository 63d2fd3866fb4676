"""The gate's own work on a request, alone in a loop: CPU of admit, judge, and the books that are kept of both."""

import time
from collections.abc import Sequence

from sidecar.proxy.active_bundle import activate, active_models
from sidecar.proxy.exchange import Bookkeeping, Exchange
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.request_path import Admission, Judgement, admit, judge

METADATA = (("user-agent", "grpc-python/1 grpc-c/1"), ("content-type", "application/grpc"), ("te", "trailers"))


class OwnWork:
    """Does the work again and again, by a bundle of its own."""

    def __init__(self, bundle: bytes) -> None:
        active = activate(bundle)
        self._models = active_models([active])
        metrics = Metrics()
        metrics.bundle_activated(active)
        self._books = Bookkeeping(metrics)

    def microseconds(self, exchanges: Sequence[tuple[bytes, bytes]], repetitions: int) -> float:
        """CPU of one exchange, a request and its upstream's answer, on average."""
        began = time.thread_time()
        for _ in range(repetitions):
            for request, response in exchanges:
                self._once(request, response)
        return 1e6 * (time.thread_time() - began) / (repetitions * len(exchanges))

    def _once(self, request: bytes, response: bytes) -> None:
        exchange = Exchange()
        admission = exchange.timed(admit, request, METADATA, self._models)
        assert isinstance(admission, Admission)
        exchange.bundle = admission.plan.bundle
        judgement = exchange.timed(judge, admission.plan, response)
        assert isinstance(judgement, Judgement)
        self._books.judged(admission.plan, "0123456789abcdef0123456789abcdef/1", judgement.events)
        self._books.finished(exchange, judgement.outcome)
