"""What scenarios have in common: the guarded Triton, the sidecar before it, and clients that watch for leaks."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.drill.ground import Ground
from tests.drill.model import MAX_BATCH, MODEL, network
from tests.drill.seen import ClientOptions
from tests.drill.triton_process import TritonProcess, running_triton_process
from tests.e2e.guarding import RunningSidecar, running_sidecar
from tests.e2e.triton.launcher import ServedModel

TIMEOUT_SECONDS = 0.8
UPSTREAM_TIMEOUT = ("--upstream-timeout", f"{TIMEOUT_SECONDS}s")
DEADLINE_SECONDS = 0.4
"""Of half of the clients: less than the sidecar's patience with the upstream."""

OF_A_CONNECTION = ("recvmsg", "sendmsg", "Socket closed", "Connection re", "from Core", "ipv4:")
"""Words of our own gRPC's about a connection; the upstream does not use them."""


def served(content: bytes) -> list[ServedModel]:
    """A repository with this network under the guarded name."""
    return [ServedModel(MODEL, content, MAX_BATCH)]


@contextlib.contextmanager
def guarded_triton(ground: Ground, folder: Path, options: Sequence[str] = ()) -> Iterator[TritonProcess]:
    """A Triton that serves the verified network."""
    with running_triton_process(ground.install, served(network()), folder / "triton", options) as triton:
        yield triton


def guarding_sidecar(
    ground: Ground,
    folder: Path,
    upstream: str,
    options: Sequence[str] = (),
    *,
    bundle: Path | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[RunningSidecar]:
    """A sidecar as a user starts it, on the transport in question.

    Args:
        bundle: the thorough one by default.
        log: ``sidecar.log`` in the folder by default.
        environment: variables on top of our own.
    """
    return running_sidecar(
        [bundle or ground.guarded.bundles[0]],
        upstream,
        log or folder / "sidecar.log",
        ["--transport", ground.transport, *options],
        environment=environment,
    )


def hiding(upstream: str, **more) -> ClientOptions:
    """Clients that must not learn where the upstream is, nor what our own gRPC says of its connection to it."""
    return ClientOptions(hidden=(upstream, *OF_A_CONNECTION), **more)
