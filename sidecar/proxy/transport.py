"""What carries the calls of clients to the handlers: one protocol, two implementations.

The portable transport is gRPC's own library, the native one is written in Rust. Both give each call that Python answers
to the same handlers; the native one answers ordinary ModelInfer calls by itself, and has the others judged by the same
:class:`~sidecar.proxy.infer.ModelInfer`.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from sidecar.proxy.active_bundle import ActiveModels
from sidecar.proxy.infer import ModelInfer
from sidecar.proxy.load import Room
from sidecar.proxy.upstream import Upstream


class TransportKind(enum.StrEnum):
    """Which one it is, as operators see it."""

    NATIVE = "native"
    PORTABLE = "portable"


@dataclasses.dataclass(frozen=True)
class Handlers:
    """What answers calls.

    Args:
        generic: for calls as they come in; the first that takes a method has it.
        judging: makes what answers a ModelInfer call that has been to the upstream already, by the bundles that were
            active when it started; the upstream's outcome stands in for an upstream.
    """

    generic: Sequence[grpc.GenericRpcHandler]
    judging: Callable[[ActiveModels, Upstream], ModelInfer]


class Transport(Protocol):
    """A transport that is bound to an address. All methods are for the event loop's thread."""

    @property
    def kind(self) -> TransportKind:
        """Which one."""

    @property
    def version(self) -> str:
        """Of what carries the calls."""

    @property
    def port(self) -> int:
        """As bound; it means nothing for a Unix socket."""

    @property
    def room(self) -> Room | None:
        """Where calls in flight are counted, if the transport does that itself."""

    def judge_by(self, models: ActiveModels) -> None:
        """Judge by these bundles from now on; may be called from any thread."""

    async def start(self, handlers: Handlers) -> None:
        """Take calls from now on."""

    async def ended(self) -> object:
        """Wait until no calls are taken any more; raises what broke it off, where that was not ``stop``."""

    async def stop(self, seconds: float) -> None:
        """Take no new calls; those in flight have so long to end."""
