"""The upstream is probed when it should be, what that shows is known, and what has not matched is withheld."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import pytest

from sidecar.config import ModelPolicy, PredictionFormat, Probing, TorchServeSettings
from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy import probe as probe_module
from sidecar.proxy.active_bundle import ActiveBundle, Registry, activate, active_models
from sidecar.proxy.memory_upstream import MemoryUpstream
from sidecar.proxy.methods import MODEL_INFER, MODEL_READY
from sidecar.proxy.metrics import Metrics
from sidecar.proxy.probe import Probe
from sidecar.proxy.probing import MAX_ROWS, ProbeResult, mismatch
from sidecar.proxy.readiness import Readiness
from sidecar.proxy.request_path import Admission, admit
from sidecar.proxy.upstream import UpstreamFailure
from sidecar.tensors import Datatype
from tests.conformance.guarded_model import MODEL, bundle_bytes, request, response
from tests.conformance.probed_model import answer_with, certified_bundle, certified_vectors

YES = pb.ModelReadyResponse(ready=True).SerializeToString()
NO = pb.ModelReadyResponse(ready=False).SerializeToString()
BUSY = UpstreamFailure(Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, "too late", answered=True)
GONE = UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "connection refused", answered=False)
REQUEST = request([[0.5, 0.5]]).SerializeToString()


def active(content: bytes, probing: Probing = Probing.REQUIRED) -> ActiveBundle:
    return activate(content, policy=lambda _: ModelPolicy(probe=probing))


class Fixture:
    """A probe of an upstream in memory that serves the verified model."""

    def __init__(self, *bundles: ActiveBundle, interval_seconds: float = 1000.0) -> None:
        self.upstream = MemoryUpstream({MODEL_READY: YES, MODEL_INFER: answer_with()})
        self.registry, self.metrics = Registry(active_models(bundles)), Metrics()
        for bundle in bundles:
            self.metrics.bundle_activated(bundle)
        self.readiness = Readiness(self.registry, self.upstream, self.metrics, 1.0)
        self.probe = Probe(self.registry, self.upstream, self.metrics, self.readiness, interval_seconds, 1.0)

    @property
    def admitted(self) -> bool:
        found = admit(REQUEST, (), self.registry.current)
        assert isinstance(found, Admission) or found.reason is Reason.UPSTREAM_UNMATCHED
        return isinstance(found, Admission)

    @property
    def asked(self) -> int:
        return sum(each.method == MODEL_INFER for each in self.upstream.asked)

    def count(self, result: ProbeResult) -> float | None:
        return self.metrics.value("gate_probe_total", model=MODEL, result=result)

    def run(self, steps: Callable[[], Awaitable[None]]) -> None:
        """Run the steps while the probe keeps probing."""

        async def both() -> None:
            probing = asyncio.create_task(self.probe.keep_probing())
            try:
                await steps()
            finally:
                probing.cancel()

        asyncio.run(both())

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(400):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"waited in vain; reports: {self.probe.reports}")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(probe_module, "RETRY_SECONDS", 0.02)


def test_a_model_is_withheld_until_its_upstream_has_matched() -> None:
    fixture = Fixture(active(certified_bundle()))

    async def steps() -> None:
        await asyncio.sleep(0.05)
        assert not fixture.asked  # nobody is known to be there
        assert not fixture.admitted
        await fixture.readiness.ask()
        assert "has not been seen to serve the verified model" in fixture.readiness.why[0]
        await fixture.until(lambda: fixture.readiness.ready)

    fixture.run(steps)
    assert fixture.admitted
    assert fixture.asked == MAX_ROWS - 12  # every second one of forty
    assert fixture.count(ProbeResult.MATCH) == 1
    assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 0
    assert fixture.metrics.value("gate_probe_last_match_timestamp_seconds", model=MODEL) > 1e9


@pytest.mark.parametrize("probing", [Probing.REPORT, Probing.OFF])
def test_where_no_match_is_required_nothing_is_withheld(probing: Probing) -> None:
    fixture = Fixture(active(certified_bundle(), probing))
    fixture.upstream.answers[MODEL_INFER] = answer_with(error=0.25)

    async def steps() -> None:
        await fixture.readiness.ask()
        await asyncio.sleep(0.1)

    fixture.run(steps)
    assert fixture.admitted
    assert fixture.readiness.ready
    assert bool(fixture.asked) is (probing is Probing.REPORT)
    assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == (probing is Probing.REPORT)


def test_another_model_is_noticed_withheld_and_told_once_until_the_right_one_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sidecar.proxy")
    fixture = Fixture(active(certified_bundle()), interval_seconds=0.02)

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        fixture.upstream.answers[MODEL_INFER] = answer_with(error=1e-4)
        await fixture.until(lambda: not fixture.readiness.ready)
        assert not fixture.admitted
        await fixture.until(lambda: fixture.count(ProbeResult.MISMATCH) > 2)
        report = fixture.probe.reports[MODEL]
        assert report.verdict.result is ProbeResult.MISMATCH
        assert "output y[1] is" in report.verdict.detail
        assert report.matched_at is not None
        fixture.upstream.answers[MODEL_INFER] = answer_with()
        await fixture.until(lambda: fixture.readiness.ready)

    fixture.run(steps)
    assert fixture.admitted
    probed = [message for message in caplog.messages if message.startswith("probe of")]
    assert [message.split(": ")[1] for message in probed] == ["match", "mismatch", "match"]


@pytest.mark.parametrize("away", [NO, GONE], ids=["not-ready", "unreachable"])
def test_what_comes_back_has_to_match_again(away: bytes | UpstreamFailure) -> None:
    fixture = Fixture(active(certified_bundle()))

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        before = fixture.asked
        fixture.upstream.answers |= {MODEL_READY: away, MODEL_INFER: answer_with(error=3.0)}
        await fixture.readiness.ask()
        assert not fixture.admitted
        fixture.upstream.answers[MODEL_READY] = YES
        await fixture.readiness.ask()
        assert not fixture.admitted
        await fixture.until(lambda: fixture.count(ProbeResult.MISMATCH) > 0)
        assert fixture.asked > before

    fixture.run(steps)
    assert not fixture.admitted


def test_a_server_too_busy_to_say_that_it_is_ready_has_not_left() -> None:
    fixture = Fixture(active(certified_bundle()))

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        fixture.upstream.answers[MODEL_READY] = BUSY
        await fixture.readiness.ask()
        assert fixture.admitted
        fixture.upstream.answers[MODEL_READY] = YES
        await fixture.readiness.ask()
        await asyncio.sleep(0.05)

    fixture.run(steps)
    assert fixture.count(ProbeResult.MATCH) == 1


def test_a_lost_connection_has_the_upstream_probed_without_refusing_anything_meanwhile() -> None:
    fixture = Fixture(active(certified_bundle()))

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        fixture.upstream.losses += 1
        assert fixture.admitted
        await fixture.until(lambda: fixture.count(ProbeResult.MATCH) == 2)

    fixture.run(steps)
    assert fixture.admitted


def test_an_upstream_that_left_during_a_probe_has_not_matched() -> None:
    fixture = Fixture(active(certified_bundle()))
    answered, right = [], answer_with()

    def restarting(request: bytes) -> bytes:
        answered.append(request)
        if len(answered) == 5:
            fixture.upstream.losses += 1
        return right(request)

    async def steps() -> None:
        fixture.upstream.answers[MODEL_INFER] = restarting
        await fixture.readiness.ask()
        (bundle,) = fixture.registry.current.bundles.values()
        assert (await fixture.probe.ask(bundle)).result is ProbeResult.MATCH

    asyncio.run(steps())
    assert not fixture.admitted


def test_a_match_while_the_server_was_too_busy_to_say_that_it_is_ready_is_tried_again() -> None:
    fixture = Fixture(active(certified_bundle()))
    (bundle,) = fixture.registry.current.bundles.values()

    async def steps() -> None:
        await fixture.readiness.ask()
        fixture.upstream.answers[MODEL_READY] = BUSY
        await fixture.readiness.ask()
        assert (await fixture.probe.ask(bundle)).result is ProbeResult.MATCH
        assert not fixture.admitted
        fixture.upstream.answers[MODEL_READY] = YES
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.admitted)

    fixture.run(steps)


def test_an_error_shows_nothing_and_takes_no_match_back() -> None:
    fixture = Fixture(active(certified_bundle()), interval_seconds=0.02)

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        fixture.upstream.answers[MODEL_INFER] = BUSY
        await fixture.until(lambda: fixture.count(ProbeResult.UNASKED) > 1)
        assert fixture.admitted
        assert "DEADLINE_EXCEEDED: too late" in fixture.probe.reports[MODEL].verdict.detail

    fixture.run(steps)
    assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 0


@pytest.mark.parametrize("answer", [b"\xff", b"", response([[1, 2, 3], [4, 5, 6]]).SerializeToString()])
def test_an_answer_that_cannot_be_the_models_is_a_mismatch(answer: bytes) -> None:
    fixture = Fixture(active(certified_bundle()))
    fixture.upstream.answers[MODEL_INFER] = answer
    (bundle,) = fixture.registry.current.bundles.values()
    assert asyncio.run(fixture.probe.ask(bundle)).result is ProbeResult.MISMATCH


def test_a_slow_model_is_compared_as_far_as_time_goes() -> None:
    fixture = Fixture(active(certified_bundle()))
    fixture.upstream.delay_seconds = 0.3
    (bundle,) = fixture.registry.current.bundles.values()
    verdict = asyncio.run(fixture.probe.ask(bundle))
    assert verdict.result is ProbeResult.MATCH
    assert 1 <= verdict.rows <= 4


def test_a_bundle_without_bounds_is_said_to_be_beyond_probing_and_nothing_is_asked() -> None:
    fixture = Fixture(active(bundle_bytes(), Probing.REPORT))

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: MODEL in fixture.probe.reports)
        await asyncio.sleep(0.05)

    fixture.run(steps)
    assert not fixture.asked
    assert fixture.count(ProbeResult.UNASKED) == 1
    assert "nothing to compare with" in fixture.probe.reports[MODEL].verdict.detail


def test_a_defect_of_ours_does_not_end_the_probing(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(active(certified_bundle()))

    def broken(_: bytes) -> bytes:
        raise RuntimeError("torn")

    async def steps() -> None:
        fixture.upstream.answers[MODEL_INFER] = broken
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.asked > 1)
        fixture.upstream.answers[MODEL_INFER] = answer_with()
        await fixture.until(lambda: fixture.readiness.ready)

    fixture.run(steps)
    assert "probing model guarded failed" in caplog.text


def test_a_new_bundle_is_probed_and_has_its_own_match() -> None:
    first, other = active(certified_bundle()), active(certified_bundle(revision=4, count=10))
    fixture = Fixture(first)

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.until(lambda: fixture.readiness.ready)
        fixture.metrics.bundle_activated(other, first)
        fixture.registry.activate(active_models([other]))
        assert not fixture.admitted
        await fixture.until(lambda: fixture.admitted)
        fixture.registry.activate(active_models([first]))
        assert not fixture.admitted  # what it matched before it was replaced is forgotten

    fixture.run(steps)
    assert fixture.probe.reports[MODEL].digest == other.digest


def test_a_mismatch_before_the_first_match_has_no_last_match() -> None:
    fixture = Fixture(active(certified_bundle()))
    fixture.upstream.answers[MODEL_INFER] = answer_with(error=2.0)
    (bundle,) = fixture.registry.current.bundles.values()
    asyncio.run(fixture.probe.ask(bundle))
    assert fixture.probe.reports[MODEL].matched_at is None
    assert fixture.metrics.value("gate_probe_last_match_timestamp_seconds", model=MODEL) == 0


def test_one_probe_goes_on_at_a_time() -> None:
    fixture = Fixture(active(certified_bundle()))
    going_on, most = 0, 0

    class Counting(MemoryUpstream):
        async def call(self, *arguments):
            nonlocal going_on, most
            going_on += 1
            most = max(most, going_on)
            try:
                return await super().call(*arguments)
            finally:
                going_on -= 1

    upstream = Counting({MODEL_INFER: answer_with()}, delay_seconds=0.001)
    probe = Probe(fixture.registry, upstream, fixture.metrics, fixture.readiness, 1.0, 1.0)
    (bundle,) = fixture.registry.current.bundles.values()

    async def both() -> None:
        await asyncio.gather(*(probe.ask(bundle) for _ in range(3)))

    asyncio.run(both())
    assert most == 1


def test_float16_arithmetic_is_a_mismatch() -> None:
    fixture = Fixture(active(certified_bundle()))

    def in_float16(request: bytes) -> bytes:
        message = pb.ModelInferRequest.FromString(request)
        x = np.frombuffer(message.raw_input_contents[0], "<f4").astype(np.float16).astype("<f4")
        message.raw_input_contents[0] = x.tobytes()
        return answer_with()(message.SerializeToString())

    fixture.upstream.answers[MODEL_INFER] = in_float16
    (bundle,) = fixture.registry.current.bundles.values()
    assert asyncio.run(fixture.probe.ask(bundle)).result is ProbeResult.MISMATCH


def test_a_bundle_to_be_active_is_probed_where_its_model_is_served_and_counts_as_matched_then() -> None:
    first, other = active(certified_bundle()), active(certified_bundle(revision=4, count=10))
    fixture = Fixture(first)

    async def steps() -> None:
        assert (await fixture.probe.ask(other, is_to_be_active=True)).result is ProbeResult.UNASKED
        assert not fixture.asked
        await fixture.readiness.ask()
        assert (await fixture.probe.ask(other, is_to_be_active=True)).result is ProbeResult.MATCH
        fixture.registry.activate(active_models([other]))

    asyncio.run(steps())
    assert fixture.admitted


def test_a_bundle_to_be_active_that_does_not_match_changes_nothing_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, other = active(certified_bundle()), active(certified_bundle(revision=4, count=10))
    fixture = Fixture(first)

    async def steps() -> None:
        await fixture.readiness.ask()
        await fixture.probe.ask(first)
        fixture.upstream.answers[MODEL_INFER] = answer_with(error=2.0)
        for _ in range(2):
            assert (await fixture.probe.ask(other, is_to_be_active=True)).result is ProbeResult.MISMATCH

    asyncio.run(steps())
    assert fixture.admitted
    assert fixture.probe.reports[MODEL].digest == first.digest
    assert fixture.metrics.value("gate_probe_mismatch", model=MODEL) == 0
    assert [other.digest[:12] in message for message in caplog.messages] == [True]


def test_bounds_are_those_of_what_clients_read_where_they_read_coarser_numbers():
    places = (("x", ("/x",)),), (("y", ("/y",)), ("z", ("/z",)))
    settings = TorchServeSettings(PredictionFormat.JSON, Datatype.FP32, "data", (), *places)
    outputs = certified_vectors(1).outputs
    outputs[0, 3] = 2.0 + 1e-9  # an FP64 output, which reads as 2.0
    upper = outputs.copy()
    upper[0, 3] = 1e300  # which reads as infinity
    content = certified_bundle(count=1, outputs=outputs, corrected=outputs, lower=outputs, upper=upper)
    served = activate(content, policy=lambda _: ModelPolicy(torchserve=settings))
    for read, is_possible in ((2.0, True), (np.inf, True), (1.999, False)):
        answer = np.append(outputs[0, :3], read)
        assert (mismatch(served, 0, answer) is None) is is_possible, read
