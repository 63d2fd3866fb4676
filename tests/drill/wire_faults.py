"""Faults of the wire between sidecar and model server, and of what is said over it."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.drill import answer_fault
from tests.drill.answer_fault import running_passthrough
from tests.drill.ground import Ground
from tests.drill.harness import Rig
from tests.drill.rigs import (
    DEADLINE_SECONDS,
    UPSTREAM_TIMEOUT,
    guarded_triton,
    guarding_sidecar,
    hiding,
)
from tests.drill.seen import ClientOptions
from tests.drill.tcp_fault import NONE, Fault, running_relay


@contextlib.contextmanager
def _relayed(ground: Ground, folder: Path, fault: Fault, reason: str, deadline: float | None = None) -> Iterator[Rig]:
    with (
        guarded_triton(ground, folder) as triton,
        running_relay(triton.address) as relay,
        guarding_sidecar(ground, folder, relay.address, UPSTREAM_TIMEOUT) as sidecar,
    ):
        strike, heal = (functools.partial(setattr, relay, "fault", each) for each in (fault, NONE))
        clients = hiding(relay.address, deadline_seconds=deadline)
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
        guarded_triton(ground, folder) as triton,
        running_passthrough(triton.address) as passthrough,
        guarding_sidecar(ground, folder, passthrough.address) as sidecar,
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
