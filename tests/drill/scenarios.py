"""The faults. Each scenario brings the servers up and says how its fault begins and ends."""

import contextlib
import functools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import onnx
from onnx import numpy_helper

from tests.drill import answer_fault, clock
from tests.drill.answer_fault import running_passthrough
from tests.drill.certificates import ShortLived, server_credentials_from
from tests.drill.disks import folder_on_small_disk, swapping_bundles
from tests.drill.harness import Ground, Report, Rig, Scenario, gauge
from tests.drill.pipes import read_pipe
from tests.drill.load import ClientOptions
from tests.drill.model import COARSE_ERROR, MAX_BATCH, MODEL, network
from tests.drill.tcp_fault import NONE, Fault, running_relay
from tests.drill.triton_process import POLL, TritonProcess, running_triton_process
from tests.e2e.guarding import RunningSidecar, running_sidecar
from tests.e2e.triton.launcher import ServedFolder, ServedModel

TIMEOUT_SECONDS = 0.8
UPSTREAM_TIMEOUT = ("--upstream-timeout", f"{TIMEOUT_SECONDS}s")
DEADLINE_SECONDS = 0.4
"""Of half of the clients: less than the sidecar's patience with the upstream."""

OF_A_CONNECTION = ("recvmsg", "sendmsg", "Socket closed", "Connection re", "from Core", "ipv4:")
HERE = Path(__file__).resolve().parent


def _served(content: bytes) -> list[ServedModel]:
    return [ServedModel(MODEL, content, MAX_BATCH)]


@contextlib.contextmanager
def _triton(ground: Ground, folder: Path, options: Sequence[str] = ()) -> Iterator[TritonProcess]:
    with running_triton_process(ground.install, _served(network()), folder / "triton", options) as triton:
        yield triton


def _sidecar(
    ground: Ground, folder: Path, upstream: str, options: Sequence[str] = (), **more
) -> contextlib.AbstractContextManager[RunningSidecar]:
    return running_sidecar([ground.guarded.bundles[0]], upstream, folder / "sidecar.log", options, **more)


def _hiding(upstream: str, **more) -> ClientOptions:
    """Clients that must not learn where the upstream is, nor what our own gRPC says of its connection to it."""
    return ClientOptions(hidden=(upstream, *OF_A_CONNECTION), **more)


# -- the model server's process --------------------------------------------------------------------------------


@contextlib.contextmanager
def killed(ground: Ground, folder: Path) -> Iterator[Rig]:
    """kill -9, and a new server later."""
    with _triton(ground, folder) as triton, _sidecar(ground, folder, triton.address) as sidecar:
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, _hiding(triton.address), triton.kill, triton.restart, reasons=reasons)


@contextlib.contextmanager
def restarted(ground: Ground, folder: Path) -> Iterator[Rig]:
    """SIGTERM, during which Triton says NOT_FOUND of its models for a while, and a new server."""
    with _triton(ground, folder) as triton, _sidecar(ground, folder, triton.address) as sidecar:
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, _hiding(triton.address), triton.stop, triton.start, 1.0, reasons)


@contextlib.contextmanager
def frozen(ground: Ground, folder: Path) -> Iterator[Rig]:
    """SIGSTOP, and SIGCONT later. Half of the clients have deadlines shorter than the sidecar's patience."""
    with (
        _triton(ground, folder) as triton,
        _sidecar(ground, folder, triton.address, UPSTREAM_TIMEOUT) as sidecar,
    ):
        clients = _hiding(triton.address, deadline_seconds=DEADLINE_SECONDS)
        yield Rig(sidecar, clients, triton.freeze, triton.thaw, 4.0, frozenset({"upstream_deadline"}))


# -- the wire between sidecar and model server --------------------------------------------------------------------


@contextlib.contextmanager
def _relayed(ground: Ground, folder: Path, fault: Fault, reason: str, deadline: float | None = None) -> Iterator[Rig]:
    with (
        _triton(ground, folder) as triton,
        running_relay(triton.address) as relay,
        _sidecar(ground, folder, relay.address, UPSTREAM_TIMEOUT) as sidecar,
    ):
        strike, heal = (functools.partial(setattr, relay, "fault", each) for each in (fault, NONE))
        clients = _hiding(relay.address, deadline_seconds=deadline)
        yield Rig(sidecar, clients, strike, heal, 3.0, frozenset({reason}))


def slow(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """Answers that take longer than the sidecar or the client has patience."""
    return _relayed(ground, folder, Fault(delay_seconds=1.2), "upstream_deadline", DEADLINE_SECONDS)


def trickling(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """Answers that come in pieces of seven bytes, late and later."""
    return _relayed(ground, folder, Fault(delay_seconds=0.1, piece_bytes=7), "upstream_deadline", DEADLINE_SECONDS)


def reset(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """Connections that are reset in the middle of an answer, again and again."""
    return _relayed(ground, folder, Fault(cut_after=6000), "upstream_unavailable")


@contextlib.contextmanager
def _spoiled(ground: Ground, folder: Path, edit: answer_fault.Edit, reasons: set[str]) -> Iterator[Rig]:
    with (
        _triton(ground, folder) as triton,
        running_passthrough(triton.address) as passthrough,
        _sidecar(ground, folder, passthrough.address) as sidecar,
    ):
        strike, heal = (
            functools.partial(setattr, passthrough, "edit", each) for each in (edit, answer_fault.untouched)
        )
        # Rows outside every domain are nobody's to judge: what the upstream says of them passes as it is.
        clients = ClientOptions(largest_difference=None)
        yield Rig(sidecar, clients, strike, heal, 2.5, frozenset(reasons))


def wrong_shapes(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """Another shape, a row too many, a negative size, contents too short, another datatype, another name."""
    reasons = {"shape", "contents", "datatype", "missing"}
    edit = answer_fault.in_turn(answer_fault.WRONG_SHAPES)
    return _spoiled(ground, folder, edit, {f"upstream_output_{each}" for each in reasons})


def truncated_protobuf(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """Messages without their end."""
    return _spoiled(ground, folder, answer_fault.truncated(), {"upstream_malformed"})


def not_a_number(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """NaN among the scores."""
    return _spoiled(ground, folder, answer_fault.NOT_A_NUMBER, {"output_not_finite"})


# -- another model, another arithmetic --------------------------------------------------------------------------


def _needs_breaches(report: Report) -> str:
    return "" if report.breaches else "no breach was counted: this run proves nothing"


@contextlib.contextmanager
def model_swapped(ground: Ground, folder: Path) -> Iterator[Rig]:
    """Triton loads another network under the same name, which violates nearly everywhere; then the right one again."""
    with (
        _triton(ground, folder, POLL) as triton,
        _sidecar(ground, folder, triton.address) as sidecar,
    ):
        place = triton.repository / MODEL / "1" / "model.onnx"
        yield Rig(
            sidecar,
            ClientOptions(largest_difference=None),
            functools.partial(place.write_bytes, network(first=5.0)),
            functools.partial(place.write_bytes, network()),
            6.0,
            proves=_needs_breaches,
        )


@contextlib.contextmanager
def model_of_another_shape(ground: Ground, folder: Path) -> Iterator[Rig]:
    """Triton loads a network with one score more."""
    with (
        _triton(ground, folder, POLL) as triton,
        _sidecar(ground, folder, triton.address) as sidecar,
    ):
        place, configuration = (
            triton.repository / MODEL / "1" / "model.onnx",
            triton.repository / MODEL / "config.pbtxt",
        )

        def put(outputs: int) -> None:
            place.write_bytes(network(outputs=outputs))
            configuration.touch()

        yield Rig(
            sidecar,
            ClientOptions(largest_difference=None),
            functools.partial(put, 4),
            functools.partial(put, 3),
            6.0,
            frozenset({"upstream_output_shape"}),
        )


@contextlib.contextmanager
def _coarse(ground: Ground, folder: Path, arithmetic: str) -> Iterator[Rig]:
    """The verified network, served in another arithmetic throughout; there is nothing to recover from."""
    layers = {
        each.name: numpy_helper.to_array(each).tolist() for each in onnx.load_from_string(network()).graph.initializer
    }
    served = folder / "rounded"
    served.mkdir()
    (served / "model.py").write_bytes((HERE / "rounded_model" / "model.py").read_bytes())
    (served / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: {MAX_BATCH}\n'
        'input [{ name: "input" data_type: TYPE_FP32 dims: [ 3 ] }]\n'
        'output [{ name: "scores" data_type: TYPE_FP32 dims: [ 3 ] }]\n'
        "instance_group [{ count: 1 kind: KIND_CPU }]\n"
        f'parameters {{ key: "arithmetic" value {{ string_value: "{arithmetic}" }} }}\n'
        f'parameters {{ key: "layers" value {{ string_value: {json.dumps(json.dumps(layers))} }} }}\n'
    )
    with (
        running_triton_process(ground.install, [ServedFolder(MODEL, served)], folder / "triton") as triton,
        _sidecar(ground, folder, triton.address) as sidecar,
    ):
        clients = ClientOptions(largest_difference=COARSE_ERROR)
        yield Rig(sidecar, clients, lambda: None, lambda: None, 2.0, proves=_needs_breaches)


def tf32(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """TF32: violations where the verified network provably has none are corrected and counted as breaches."""
    return _coarse(ground, folder, "tf32")


def fp16(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """The same in FP16."""
    return _coarse(ground, folder, "fp16")


# -- the sidecar's own surroundings -----------------------------------------------------------------------------


@contextlib.contextmanager
def disk_full(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The disk of its log and of its last good bundles is full, while bundles are swapped under the load."""
    with (
        _triton(ground, folder) as triton,
        folder_on_small_disk(folder / "disk") as disk,
        swapping_bundles(ground.guarded.bundles, folder) as place,
        running_sidecar(
            [place],
            triton.address,
            disk.folder / "sidecar.log",
            ["--state-folder", str(disk.folder), "--bundle-poll", "200ms"],
        ) as sidecar,
    ):
        failing: list[float] = []

        def heal() -> None:
            failing.append(gauge(sidecar, "gate_bundle_last_good_failing"))
            disk.free()

        def proves(_: Report) -> str:
            failing.append(gauge(sidecar, "gate_bundle_last_good_failing"))
            lost = gauge(sidecar, "gate_log_records_lost_total")
            return "" if failing == [1, 0] and lost else f"last good failing {failing}, {lost} log records lost"

        yield Rig(sidecar, ClientOptions(), disk.fill, heal, 2.5, proves=proves)


@contextlib.contextmanager
def log_reader_stopped(ground: Ground, folder: Path) -> Iterator[Rig]:
    """Whoever reads the pipe that the log goes into stops reading it."""
    with (
        _triton(ground, folder) as triton,
        read_pipe(folder / "pipe") as reader,
        running_sidecar([ground.guarded.bundles[0]], triton.address, reader.path) as sidecar,
    ):

        def proves(_: Report) -> str:
            return "" if gauge(sidecar, "gate_log_records_lost_total") else "no log record was lost"

        yield Rig(sidecar, ClientOptions(), reader.pause, reader.go_on, 25.0, proves=proves)


@contextlib.contextmanager
def clock_jump(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The wall clock jumps by hours, forward and back; every second client has a deadline, which must hold."""
    shifted = clock.build(folder)
    options = [*UPSTREAM_TIMEOUT, "--bundle-poll", "200ms"]  # each look at the bundles notes the time
    with (
        _triton(ground, folder) as triton,
        running_relay(triton.address) as relay,
        _sidecar(ground, folder, relay.address, options, environment=shifted.environment) as sidecar,
    ):
        jumped: list[float] = []

        def strike() -> None:
            clock.jump_about(shifted)
            jumped.append(clock.of_sidecar(sidecar))
            relay.fault = Fault(delay_seconds=3.0)
            clock.jump_about(shifted)

        def heal() -> None:
            shifted.jump(0)
            relay.fault = NONE

        def proves(report: Report) -> str:
            if not jumped or jumped[0] < clock.HOUR:
                return f"the sidecar's clock did not jump: {jumped}"
            late = [each for each in report.seen.waits if not _is_in_time(*each)]
            return f"deadlines that did not hold: {late[:3]}" if late else ""

        clients = _hiding(relay.address, deadline_seconds=DEADLINE_SECONDS)
        yield Rig(sidecar, clients, strike, heal, 1.0, frozenset({"upstream_deadline"}), proves=proves)


def _is_in_time(reason: str, seconds: float) -> bool:
    """Whether a failed call ended by its deadline: the client's own, or the sidecar's for calls without one."""
    expected = DEADLINE_SECONDS if reason == "DEADLINE_EXCEEDED" else TIMEOUT_SECONDS
    return 0.5 * expected <= seconds <= expected + 1.0


# -- certificates -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_certificate_expires(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The sidecar's certificate ends; clients, which connect anew all the time, turn away until it is replaced."""
    with _triton(ground, folder) as triton, contextlib.ExitStack() as stack:
        ours = ShortLived(folder / "tls", "sidecar")
        flag = ["--listen-tls", f"certificate={ours.files.certificate},key={ours.files.key}"]
        sidecar = stack.enter_context(_sidecar(ground, folder, triton.address, flag))

        def credentials() -> grpc.ChannelCredentials:
            return grpc.ssl_channel_credentials(ours.authority.pem)

        clients = ClientOptions(calls_per_connection=20, credentials=credentials)
        unreached = frozenset({"UNAVAILABLE"})

        def heal() -> None:
            ends.append(_certificate_end(sidecar) - time.time())
            ours.rotate()

        def proves(report: Report) -> str:
            if not report.seen.bare["UNAVAILABLE"]:
                return "no client turned away"
            ends.append(_certificate_end(sidecar) - time.time())
            return "" if ends[0] < 0 < ends[1] else f"the metric says that the certificate lasts {ends} s"

        ends: list[float] = []
        yield Rig(sidecar, clients, ours.await_end, heal, 2.5, unreached=unreached, proves=proves)


def _certificate_end(sidecar: RunningSidecar) -> float:
    return sidecar.metric("gate_certificate_expiry_timestamp_seconds", side="listen")


def upstream_certificate_expires(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """The certificate of the model server's side ends."""
    return _mutual_tls(ground, folder, "upstream")


def client_certificate_expires(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """The certificate with which the sidecar calls the model server ends."""
    return _mutual_tls(ground, folder, "sidecar")


@contextlib.contextmanager
def _mutual_tls(ground: Ground, folder: Path, whose: str) -> Iterator[Rig]:
    """Connections to the upstream are a second old at most, so that each of them meets the certificate's end."""
    with _triton(ground, folder) as triton, contextlib.ExitStack() as stack:
        pairs = {name: ShortLived(folder / "tls", name) for name in ("sidecar", "upstream")}
        for name in pairs.keys() - {whose}:
            pairs[name].rotate()
        ours, theirs = pairs["sidecar"], pairs["upstream"]
        credentials = server_credentials_from(theirs.files, ours.authority)
        ages = [("grpc.max_connection_age_ms", 1000)]
        passthrough = stack.enter_context(running_passthrough(triton.address, credentials, ages))
        parts = {"ca": "upstream.ca", "certificate": "sidecar.crt", "key": "sidecar.key"}
        flag = ["--upstream-tls", ",".join(f"{name}={folder / 'tls' / file}" for name, file in parts.items())]
        sidecar = stack.enter_context(_sidecar(ground, folder, passthrough.address, flag))
        mortal = pairs[whose]
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, _hiding(passthrough.address), mortal.await_end, mortal.rotate, 3.0, reasons)


SCENARIOS: dict[str, Scenario] = {
    "kill -9": killed,
    "SIGSTOP": frozen,
    "restart": restarted,
    "slow": slow,
    "trickling": trickling,
    "reset mid-answer": reset,
    "wrong shapes": wrong_shapes,
    "truncated protobuf": truncated_protobuf,
    "NaN": not_a_number,
    "model swapped": model_swapped,
    "model of another shape": model_of_another_shape,
    "disk full": disk_full,
    "log reader stopped": log_reader_stopped,
    "clock jump": clock_jump,
    "own certificate ends": own_certificate_expires,
    "upstream's cert. ends": upstream_certificate_expires,
    "client's cert. ends": client_certificate_expires,
    "TF32": tf32,
    "FP16": fp16,
}
