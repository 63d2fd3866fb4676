"""The product as its users start it: `sidecar compile` and `sidecar serve`, as processes of their own."""

import contextlib
import dataclasses
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e.triton.launcher import free_ports

SIDECAR = (sys.executable, "-m", "sidecar.cli")
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class RunningSidecar:
    """A sidecar that says it is ready."""

    address: str
    admin: str
    pid: int

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the admin address."""
        with contextlib.closing(http.client.HTTPConnection(self.admin, timeout=5)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(each in line for each in wanted))


def compile_bundle(
    model: Path, properties: Sequence[Path], name: str, output: Path, time_limit: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """One `sidecar compile`, from the outside."""
    command = [*SIDECAR, "compile", "--model", str(model), "--name", name, "--output", str(output)]
    for path in properties:
        command += ["--property", str(path)]
    command += ["--time-limit", time_limit, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=_one_thread())


def _one_thread() -> Mapping[str, str]:
    """Compilations run side by side: a BLAS that takes every core for each would only slow them."""
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def running_sidecar(
    bundles: Sequence[Path],
    upstream: str,
    log_path: Path,
    options: Sequence[str] = (),
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningSidecar]:
    """A `sidecar serve` that is ready, stopped by SIGTERM when the block is left; it must then exit with 0.

    Args:
        bundles: files or folders.
        prefix: words before the command, of a program that becomes it.
        environment: variables on top of our own.
    """
    port, admin_port = free_ports(2)
    address, admin = f"127.0.0.1:{port}", f"127.0.0.1:{admin_port}"
    command = [*SIDECAR, "serve", "--upstream", upstream, "--listen", address, "--admin", admin]
    for bundle in bundles:
        command += ["--bundle", str(bundle)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*prefix, *command, *options],
            env=os.environ | (environment or {}),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    running = RunningSidecar(address, admin, process.pid)
    try:
        _wait_until_ready(running, process, log_path)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_SECONDS) == 0, log_path.read_text(errors="replace")[-2000:]
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(running: RunningSidecar, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if running.get("/readyz")[0] == http.client.OK:
                return
        time.sleep(0.05)
    raise AssertionError(f"the sidecar did not become ready:\n{log_path.read_text(errors='replace')[-4000:]}")
