"""A real Triton server on a plain machine: install it once, start it on ephemeral ports, stop it for certain.

The server binary comes out of the pytriton wheel and is never imported into our own environment: pytriton
pins an older numpy. `pip install --target` gives it a folder of its own, without a `bin/` or an interpreter, so
that a finished installation can be moved into place by one rename and a half-finished one is never seen.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
CACHE_VARIABLE = "GATE_TRITON_CACHE"
INSTALL_TIMEOUT_SECONDS = 900
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 20
START_ATTEMPTS = 5

SIGNS_OF_ANOTHER_MACHINE = ("version `GLIBC", "cannot open shared object file", "Exec format error")
"""In the log of a server that cannot run here: an older glibc, an interpreter without libpython, another CPU."""

EXEC_AND_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A test run that is killed outright leaves no server behind (1 is PR_SET_PDEATHSIG; exec keeps it)."""


class TritonUnavailable(Exception):
    """Triton cannot be installed or run on this machine; the message says why. Not a defect of the product."""


class TritonFailed(Exception):
    """Triton was installed and started, and did not become ready; the message carries the end of its log."""


@dataclasses.dataclass(frozen=True)
class TritonInstall:
    """A complete installation: where the packages are, and where the backends."""

    site_packages: Path
    backends: Path


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One model of the repository.

    Args:
        max_batch_size: 0 where the model's shapes are static; above 0 the first dimension is the batch.
    """

    name: str
    content: bytes
    max_batch_size: int = 0


@dataclasses.dataclass(frozen=True)
class RunningTriton:
    """A server that is ready; ``grpc_address`` is ``127.0.0.1:port``."""

    grpc_address: str
    log_path: Path
    start_seconds: float


def cache_folder() -> Path:
    """Where installations are kept, from the environment or under the repository's root."""
    return Path(os.environ.get(CACHE_VARIABLE) or REPOSITORY / ".cache" / "triton")


def install_triton(cache: Path) -> TritonInstall:
    """The installation for this interpreter and these requirements, made if it is not there yet.

    Raises:
        TritonUnavailable: the packages cannot be installed.
    """
    final = cache / _installation_key()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            # Under the lock, whatever is half-finished belongs to nobody any more.
            for leftover in cache.glob("partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
            _fill(partial)
            partial.rename(final)
    return TritonInstall(final / "site-packages", final / "backends")


def _installation_key() -> str:
    """A name that changes with the interpreter, the packages and the backend."""
    digest = hashlib.sha256(sysconfig.get_config_var("LIBDIR").encode() + sys.version.encode())
    for path in (HERE / "requirements.txt", HERE / "onnxruntime_backend" / "model.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _fill(folder: Path) -> None:
    packages = folder / "site-packages"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(packages)]
    try:
        subprocess.run(
            [*command, "--requirement", str(HERE / "requirements.txt")],
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise TritonUnavailable(f"pip could not install Triton's packages: {error.stderr[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise TritonUnavailable(f"installing Triton's packages took over {INSTALL_TIMEOUT_SECONDS} s") from error
    _lay_out_backends(folder / "backends", packages / "pytriton" / "tritonserver")


def _lay_out_backends(backends: Path, server: Path) -> None:
    """The `python` backend with this interpreter's stub beside it, and our `onnxruntime` on top of it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise TritonUnavailable(f"the wheel carries no Python stub for Python {version}")
    shutil.copytree(server / "backends" / "python", backends / "python")
    shutil.copy2(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copy2(HERE / "onnxruntime_backend" / "model.py", backends / "onnxruntime")


@contextlib.contextmanager
def running_triton(install: TritonInstall, models: Sequence[ServedModel], folder: Path) -> Iterator[RunningTriton]:
    """A ready server for these models, stopped when the block is left, whatever happens in it.

    Args:
        folder: an empty folder of the caller's, for the model repository and the log.

    Raises:
        TritonUnavailable: the binary does not run here.
        TritonFailed: it ran and did not become ready.
    """
    _write_repository(folder / "models", models)
    began = time.monotonic()
    process, grpc_port, log_path = _start(install, folder)
    try:
        yield RunningTriton(f"127.0.0.1:{grpc_port}", log_path, time.monotonic() - began)
    finally:
        _stop(process)


def _write_repository(repository: Path, models: Sequence[ServedModel]) -> None:
    """An ordinary repository: Triton completes the configuration from the models themselves."""
    repository.mkdir(parents=True)
    for model in models:
        version = repository / model.name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(model.content)
        configuration = [
            'backend: "onnxruntime"',
            f"max_batch_size: {model.max_batch_size}",
            "instance_group [{ count: 1 kind: KIND_CPU }]",
        ]
        (repository / model.name / "config.pbtxt").write_text("\n".join(configuration) + "\n")


def _start(install: TritonInstall, folder: Path) -> tuple["subprocess.Popen[bytes]", int, Path]:
    """Somebody may take a port between our look and Triton's bind: then try other ports."""
    log_path = folder / "triton.log"
    for _ in range(START_ATTEMPTS):
        grpc_port, http_port = free_ports(2)
        process = _spawn(install, folder / "models", grpc_port, http_port, log_path)
        try:
            if _becomes_ready(process, http_port):
                return process, grpc_port, log_path
        except BaseException:
            _stop(process)
            raise
        _stop(process)
        log = readable_log(log_path)
        if any(sign in log for sign in SIGNS_OF_ANOTHER_MACHINE):
            raise TritonUnavailable(f"the server's binary does not run on this machine: {log[-2000:]}")
        if "already in use" not in log and "failed to start" not in log.lower():
            break
    raise TritonFailed(f"Triton did not become ready; the end of {log_path}:\n{log[-6000:]}")


def readable_log(log_path: Path) -> str:
    """A log without the padding and the rules of Triton's tables."""
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(re.sub(r" {2,}", "  ", line) for line in lines if not line.startswith("+-"))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, at least until somebody takes them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _spawn(
    install: TritonInstall, repository: Path, grpc_port: int, http_port: int, log_path: Path
) -> "subprocess.Popen[bytes]":
    libraries = [str(install.site_packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "TRITON_BACKEND_SITE_PACKAGES": str(install.site_packages),
    }
    command = [
        str(install.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={install.backends}",
        "--grpc-address=127.0.0.1",
        "--http-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        "--allow-metrics=false",
    ]
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", EXEC_AND_DIE_WITH_PARENT, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _becomes_ready(process: "subprocess.Popen[bytes]", http_port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=2)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.client.OK:
                return True
        time.sleep(0.05)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Politely, then with force, and the Python stubs in its process group with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
