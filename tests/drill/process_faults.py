"""Faults of the model server's process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.drill.ground import Ground
from tests.drill.harness import Rig
from tests.drill.rigs import (
    DEADLINE_SECONDS,
    UPSTREAM_TIMEOUT,
    guarded_triton,
    guarding_sidecar,
    hiding,
)


@contextlib.contextmanager
def killed(ground: Ground, folder: Path) -> Iterator[Rig]:
    """kill -9, and a new server later."""
    with guarded_triton(ground, folder) as triton, guarding_sidecar(ground, folder, triton.address) as sidecar:
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, hiding(triton.address), triton.kill, triton.restart, reasons=reasons)


@contextlib.contextmanager
def restarted(ground: Ground, folder: Path) -> Iterator[Rig]:
    """SIGTERM, during which Triton says NOT_FOUND of its models for a while, and a new server."""
    with guarded_triton(ground, folder) as triton, guarding_sidecar(ground, folder, triton.address) as sidecar:
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, hiding(triton.address), triton.stop, triton.start, 1.0, reasons)


@contextlib.contextmanager
def frozen(ground: Ground, folder: Path) -> Iterator[Rig]:
    """SIGSTOP, and SIGCONT later. Half of the clients have deadlines shorter than the sidecar's patience."""
    with (
        guarded_triton(ground, folder) as triton,
        guarding_sidecar(ground, folder, triton.address, UPSTREAM_TIMEOUT) as sidecar,
    ):
        clients = hiding(triton.address, deadline_seconds=DEADLINE_SECONDS)
        yield Rig(sidecar, clients, triton.freeze, triton.thaw, 4.0, frozenset({"upstream_deadline"}))
