"""Certificates that end, on either side."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.drill.answer_fault import running_passthrough
from tests.drill.certificates import ShortLived, server_credentials_from
from tests.drill.ground import Ground
from tests.drill.harness import Report, Rig
from tests.drill.rigs import (
    guarded_triton,
    guarding_sidecar,
    hiding,
)
from tests.drill.seen import ClientOptions
from tests.e2e.guarding import RunningSidecar


@contextlib.contextmanager
def own_certificate_expires(ground: Ground, folder: Path) -> Iterator[Rig]:
    """The sidecar's certificate ends; clients, which connect anew all the time, turn away until it is replaced."""
    with guarded_triton(ground, folder) as triton, contextlib.ExitStack() as stack:
        ours = ShortLived(folder / "tls", "sidecar")
        flag = ["--listen-tls", f"certificate={ours.files.certificate},key={ours.files.key}"]
        sidecar = stack.enter_context(guarding_sidecar(ground, folder, triton.address, flag))

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
    with guarded_triton(ground, folder) as triton, contextlib.ExitStack() as stack:
        pairs = {name: ShortLived(folder / "tls", name) for name in ("sidecar", "upstream")}
        for name in pairs.keys() - {whose}:
            pairs[name].rotate()
        ours, theirs = pairs["sidecar"], pairs["upstream"]
        credentials = server_credentials_from(theirs.files, ours.authority)
        ages = [("grpc.max_connection_age_ms", 1000)]
        passthrough = stack.enter_context(running_passthrough(triton.address, credentials, ages))
        parts = {"ca": "upstream.ca", "certificate": "sidecar.crt", "key": "sidecar.key"}
        flag = ["--upstream-tls", ",".join(f"{name}={folder / 'tls' / file}" for name, file in parts.items())]
        sidecar = stack.enter_context(guarding_sidecar(ground, folder, passthrough.address, flag))
        mortal = pairs[whose]
        reasons = frozenset({"upstream_unavailable"})
        yield Rig(sidecar, hiding(passthrough.address), mortal.await_end, mortal.rotate, 3.0, reasons)
