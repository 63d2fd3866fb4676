"""What the drill and the soak begin with: the ground that all runs share, and the transports that they are run on."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sidecar.proxy.transport import TransportKind
from tests.drill.model import Guarded, prepare, requests
from tests.drill.seen import Request, encode
from tests.e2e.triton.launcher import TritonInstall, cache_folder, install_triton
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

REQUESTS = 400
BOTH = "both"


class NotRun(Exception):
    """What was asked for cannot run on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class Ground:
    """What all runs on a transport share.

    Args:
        transport: what carries the sidecars' calls.
    """

    transport: TransportKind
    install: TritonInstall
    guarded: Guarded
    requests: Sequence[Request]

    def require_transport(self) -> None:
        """See that it can carry calls here.

        Raises:
            NotRun: it is not built.
        """
        if self.transport is TransportKind.NATIVE and not NATIVE_IS_BUILT:
            raise NotRun(NOT_BUILT.removeprefix("NOT RUN: "))


def lay_ground(folder: Path, choice: str) -> Iterator[Ground]:
    """For each transport that was chosen: Triton installed, bundles compiled, requests encoded.

    Raises:
        ServerUnavailable: there is no Triton on this machine.
    """
    install = install_triton(cache_folder())
    made = requests(REQUESTS, np.random.default_rng(20260101))
    guarded, encoded = prepare(folder), [encode(rows) for rows in made]
    for transport in TransportKind if choice == BOTH else [TransportKind(choice)]:
        yield Ground(transport, install, guarded, encoded)


def ask_for_transport(parser: argparse.ArgumentParser) -> None:
    """The flag for ``lay_ground``'s choice."""
    parser.add_argument("--transport", choices=[*TransportKind, BOTH], default=BOTH, help="what carries the calls")
