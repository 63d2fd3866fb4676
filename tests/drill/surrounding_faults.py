"""Faults of the sidecar's own surroundings: its disk, its log's reader, its clock."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.drill import clock
from tests.drill.disks import folder_on_small_disk, swapping_bundles
from tests.drill.ground import Ground
from tests.drill.harness import Report, Rig, gauge
from tests.drill.pipes import read_pipe
from tests.drill.rigs import (
    DEADLINE_SECONDS,
    TIMEOUT_SECONDS,
    UPSTREAM_TIMEOUT,
    guarded_triton,
    guarding_sidecar,
    hiding,
)
from tests.drill.seen import ClientOptions
from tests.drill.tcp_fault import NONE, Fault, running_relay


@contextlib.contextmanager
def disk_full(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The disk of its log and of its last good bundles is full, while bundles are swapped under the load."""
    with (
        guarded_triton(ground, folder) as triton,
        folder_on_small_disk(folder / "disk") as disk,
        swapping_bundles(ground.guarded.bundles, folder) as place,
        guarding_sidecar(
            ground,
            folder,
            triton.address,
            ["--state-folder", str(disk.folder), "--bundle-poll", "200ms"],
            bundle=place,
            log=disk.folder / "sidecar.log",
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
        guarded_triton(ground, folder) as triton,
        read_pipe(folder / "pipe") as reader,
        guarding_sidecar(ground, folder, triton.address, log=reader.path) as sidecar,
    ):

        def proves(_: Report) -> str:
            return "" if gauge(sidecar, "gate_log_records_lost_total") else "no log record was lost"

        yield Rig(sidecar, ClientOptions(), reader.pause, reader.go_on, 20.0, proves=proves)


@contextlib.contextmanager
def clock_jump(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The wall clock jumps by hours, forward and back; every second client has a deadline, which must hold."""
    shifted = clock.build(folder)
    options = [*UPSTREAM_TIMEOUT, "--bundle-poll", "200ms"]  # each look at the bundles notes the time
    with (
        guarded_triton(ground, folder) as triton,
        running_relay(triton.address) as relay,
        guarding_sidecar(ground, folder, relay.address, options, environment=shifted.environment) as sidecar,
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

        clients = hiding(relay.address, deadline_seconds=DEADLINE_SECONDS)
        yield Rig(sidecar, clients, strike, heal, 1.0, frozenset({"upstream_deadline"}), proves=proves)


def _is_in_time(reason: str, seconds: float) -> bool:
    """Whether a failed call ended by its deadline: the client's own, or the sidecar's for calls without one."""
    expected = DEADLINE_SECONDS if reason == "DEADLINE_EXCEEDED" else TIMEOUT_SECONDS
    return 0.5 * expected <= seconds <= expected + 1.0
