"""What surrounds the native transport, without it: counts, contexts, tables, and whether it is ours."""

import asyncio
import sys

import grpc
import grpc.aio
import pytest

from sidecar.config import ModelPolicy, Probing, TransportChoice
from sidecar.errors import OperationError, Reason
from sidecar.proxy import native_module
from sidecar.proxy.active_bundle import Registry, activate, active_models
from sidecar.proxy.events import Refusal
from sidecar.proxy.failure_policy import status_of_refusal
from sidecar.proxy.load import Lease, Load, let_in
from sidecar.proxy.metrics import CALL_BUCKETS, GATE_BUCKETS, Metrics
from sidecar.proxy.native_calls import HandedContext
from sidecar.proxy.native_counts import REFUSED, NativeCounts
from sidecar.proxy.native_tables import TABLE_FORMAT, counted_as, is_judged_natively, labels_of
from sidecar.proxy.processors import usable_processors
from sidecar.proxy.undisturbed import undisturbed
from tests.conformance.guarded_model import GATES, bundle_bytes
from tests.conformance.typed_model import typed_bundle

BUNDLE = activate(bundle_bytes())


class FakeCounting:
    """Counts that a test sets."""

    def __init__(self) -> None:
        self.model = {
            "outside_requests": 1,
            "untouched_requests": 2,
            "cancelled_requests": 3,
            "outside_rows": 4,
            "untouched_rows": 5,
            "domains": [[0, 1, 2, 3] for _ in BUNDLE.property_ids],
            "call_seconds": ([1] + [0] * (len(CALL_BUCKETS) - 1) + [2], 30.0),
            "gate_seconds": ([3] + [0] * len(GATE_BUCKETS), 0.5),
        }
        self.ended = dict.fromkeys(
            ["cancelled", "too_many_calls", "too_many_requests", "open_connections", "ping_flood", "panics"], 0
        ) | dict.fromkeys(REFUSED, 0)
        del self.ended["internal"]
        self.handed = {"fired": 7}

    def counts(self):
        return {counted_as(BUNDLE): self.model}

    def endings(self):
        return self.ended

    def handed_over(self):
        return self.handed


def _metrics(counting):
    metrics = Metrics()
    metrics.bundle_activated(BUNDLE)
    metrics.before_reading(NativeCounts(counting, metrics).bring)
    return metrics


def test_native_counts_join_the_series_of_python_and_only_what_is_new_is_added():
    counting = FakeCounting()
    metrics = _metrics(counting)
    for _ in range(2):  # reading does not change what is read
        assert metrics.value("gate_requests_total", model="guarded", outcome="untouched") == 2
        assert metrics.value("gate_requests_total", model="guarded", outcome="cancelled") == 3
        assert metrics.value("gate_rows_total", model="guarded", outcome="outside") == 4
        assert metrics.value("gate_in_domain_rows_total", model="guarded", property="order", region="open") == 3
        assert metrics.value("gate_native_handed_over_total", reason="fired") == 7
    counting.model["untouched_requests"] = 10
    assert metrics.value("gate_requests_total", model="guarded", outcome="untouched") == 10


def test_buckets_are_added_to_those_of_python():
    metrics = _metrics(FakeCounting())
    metrics.call_seconds.observe("guarded", 0.0003)
    name = "gate_request_duration_seconds"
    assert metrics.value(f"{name}_bucket", model="guarded", le="0.0005") == 2
    assert metrics.value(f"{name}_bucket", model="guarded", le="10.0") == 2
    assert metrics.value(f"{name}_bucket", model="guarded", le="+Inf") == metrics.value(
        f"{name}_count", model="guarded"
    )
    assert metrics.value(f"{name}_sum", model="guarded") == pytest.approx(30.0003)
    assert f'{name}_bucket{{le="0.0025",model="guarded"}} 2.0' in metrics.exposition().decode()


def test_what_is_refused_natively_is_counted_by_its_reason_and_calls_by_their_kind():
    counting = FakeCounting()
    counting.ended |= {
        "too_many_calls": 5,
        "too_many_requests": 3,
        "message_too_large": 2,
        "panics": 1,
        "ping_flood": 4,
    }
    metrics = _metrics(counting)
    assert metrics.value("gate_refusals_total", model="", reason="too_many_calls") == 5
    assert metrics.value("gate_requests_total", model="", outcome="refused") == 5  # other methods are no requests
    assert metrics.value("gate_requests_total", model="", outcome="failed") == 1
    assert metrics.value("gate_refusals_total", model="", reason="internal") == 1
    assert metrics.value("gate_native_events_total", event="ping_flood") == 4
    assert metrics.value("gate_native_events_total", event="too_many_calls") is None


def test_a_key_names_the_model_and_its_properties():
    assert labels_of(counted_as(BUNDLE)) == ("guarded", tuple(gate.property_id for gate, _, _ in GATES))


@pytest.mark.parametrize(("datatype", "natively"), [("FP16", True), ("FP64", True), ("INT32", False), ("BOOL", False)])
def test_integers_are_judged_in_python(datatype, natively):
    bundle = activate(typed_bundle(datatype))
    assert is_judged_natively(bundle, active_models([bundle])) is natively


def test_a_model_that_waits_for_its_match_is_judged_in_python_and_told_at_once_when_it_has_it():
    bundle = activate(bundle_bytes(), policy=lambda _: ModelPolicy(probe=Probing.REQUIRED))
    registry, told = Registry(active_models([bundle])), []
    registry.tell(lambda models: told.append(is_judged_natively(bundle, models)))
    registry.matched(bundle)
    registry.matched(bundle)
    registry.unmatched(bundle)
    registry.activate(active_models([bundle]))
    assert told == [False, True, False, False]


# -- the budget ----------------------------------------------------------------------------------------------


def test_a_call_that_the_room_has_let_in_is_not_counted_again():
    load = Load(1, 100)

    async def answered():
        let_in(is_request_held=True)
        with load.call(60) as refusal:
            assert refusal is None
            assert (load.calls, load.held_bytes) == (0, 0)
            assert isinstance(load.open(10), Lease)  # a request of its stream
            assert (load.calls, load.held_bytes) == (1, 10)

    asyncio.run(answered())


def test_a_request_that_the_room_does_not_hold_is_held():
    load = Load(1, 100)

    async def answered():
        let_in(is_request_held=False)
        with load.call(60) as refusal:
            assert refusal is None
            assert (load.calls, load.held_bytes) == (0, 60)
        with load.call(101) as refusal:
            assert refusal.reason is Reason.MEMORY_EXHAUSTED
        assert (load.calls, load.held_bytes) == (0, 0)

    asyncio.run(answered())


# -- handlers' context -----------------------------------------------------------------------------------------


class FakeCall:
    """A call that was handed over; keeps what it is told."""

    method, call_id, peer, timeout = "/a.b/C", "ab" * 16, 7, 2.5
    metadata = (("x", b"y\xe9"), ("x-bin", b"\xff"))

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def read(self):
        self.told.append(("read",))

    def open(self, initial):
        self.told.append(("open", initial))

    def write(self, message):
        self.told.append(("write", message))

    def end(self, *how):
        self.told.append(("end", *how))


def _with_context(use):
    call = FakeCall()

    async def run():
        await use(HandedContext(call, asyncio.get_running_loop()))

    asyncio.run(run())
    return call.told


def test_a_context_shows_the_call_as_grpc_does():
    async def use(context):
        assert context.invocation_metadata() == (("x", "y\xe9"), ("x-bin", b"\xff"))
        assert 2.0 < context.time_remaining() <= 2.5
        assert context.peer() == "connection:7"

    assert _with_context(use) == []


def test_messages_are_read_and_written_one_by_one():
    async def use(context):
        reading = asyncio.create_task(context.read())
        await asyncio.sleep(0)
        context.got(b"message")
        assert await reading == b"message"
        writing = asyncio.create_task(context.write(b"answer"))
        await asyncio.sleep(0)
        assert not writing.done()
        context.written()
        await writing
        last = asyncio.create_task(context.read())
        await asyncio.sleep(0)
        context.got(None)
        assert await last is grpc.aio.EOF
        context.set_trailing_metadata((("k", "v"),))
        context.end()

    assert _with_context(use) == [("read",), ("write", b"answer"), ("read",), ("end", 0, "", [("k", b"v")])]


def test_a_call_ends_once():
    async def use(context):
        with pytest.raises(grpc.aio.AbortError):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no", (("k-bin", b"\0"),))
        context.end()
        context.break_off(status_of_refusal(Refusal(Reason.INTERNAL, "")))

    assert _with_context(use) == [("end", 5, "no", [("k-bin", b"\0")])]


def test_nothing_waits_for_a_call_that_is_over():
    async def use(context):
        waiting = [asyncio.create_task(undisturbed(each)) for each in (context.read(), context.write(b""))]
        await asyncio.sleep(0.01)
        context.end()
        await asyncio.wait(waiting, timeout=5)
        assert [each.cancelled() for each in waiting] == [True, True]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    _with_context(use)


def test_a_call_that_is_broken_off_says_why():
    async def use(context):
        context.break_off(status_of_refusal(Refusal(Reason.STOPPING, "")))

    ((_, code, details, trailing),) = _with_context(use)
    assert (code, trailing) == (14, [("gate-reason", b"stopping")])
    assert details.startswith("stopping: ")


# -- which one --------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a module in the place of the native transport."""

    def install(text):
        (tmp_path / "gate_sidecar_native.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "gate_sidecar_native", raising=False)

    yield install
    sys.modules.pop("gate_sidecar_native", None)


def _module(version="0.1.0", table_format=TABLE_FORMAT):
    return f"VERSION, TABLE_FORMAT = {version!r}, {table_format!r}\nclass Transport: ...\n"


def test_what_is_installed_and_belongs_to_us_is_taken(installed):
    installed(_module())
    assert native_module.load(TransportChoice.AUTO, "h:1").__name__ == "Transport"
    assert native_module.load(TransportChoice.NATIVE, "unix:/s").__name__ == "Transport"
    assert native_module.load(TransportChoice.PORTABLE, "h:1") is None
    assert native_module.load(TransportChoice.AUTO, "unix:/s") is None


@pytest.mark.parametrize("text", [_module(version="0.0.9"), _module(table_format="0"), "import no_such_module\n"])
@pytest.mark.parametrize("choice", [TransportChoice.AUTO, TransportChoice.NATIVE])
def test_what_is_installed_and_not_usable_keeps_us_from_starting(installed, text, choice):
    installed(text)
    with pytest.raises(OperationError, match="make native"):
        native_module.load(choice, "h:1")


def test_what_is_not_installed_is_missed_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(native_module.importlib.util, "find_spec", lambda _: None)
    assert native_module.load(TransportChoice.AUTO, "h:1") is None
    with pytest.raises(OperationError, match="not installed"):
        native_module.load(TransportChoice.NATIVE, "h:1")


# -- processors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({}, "", 8),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "250000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        ({"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, "0::/pod/box\n", 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/\n", 4),
        ({"cpu.max": "nonsense"}, "0::/\n", 8),
    ],
)
def test_processors_by_affinity_and_quota(tmp_path, monkeypatch, files, group, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    (tmp_path / "group").write_text(group)
    assert usable_processors(tmp_path / "root", tmp_path / "group") == expected
