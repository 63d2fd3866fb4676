"""A real Triton server on a plain machine: install it once, start it on ephemeral ports, stop it for certain.

The server binary comes out of the pytriton wheel and is never imported into our own environment: pytriton
pins an older numpy.
"""

import contextlib
import dataclasses
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.installing import REPOSITORY, ServerUnavailable, installation_key, installed_once, pip_install
from tests.e2e.processes import Launch, RunningServer, ServerFailed, free_ports, http_body, readable_log, running_server

__all__ = [
    "BFLOAT16_MODEL",
    "DECOUPLED_MODEL",
    "ECHO_MODEL",
    "PLAIN_MODEL",
    "SCRIPTED_MODEL",
    "RunningTriton",
    "ServedFolder",
    "ServedModel",
    "TritonFailed",
    "TritonInstall",
    "TritonUnavailable",
    "cache_folder",
    "free_ports",
    "install_triton",
    "readable_log",
    "running_triton",
    "triton_launch",
    "write_repository",
]

HERE = Path(__file__).resolve().parent
CACHE_VARIABLE = "GATE_TRITON_CACHE"

SIGNS_OF_ANOTHER_MACHINE = ("version `GLIBC", "cannot open shared object file", "Exec format error")
"""In the log of a server that cannot run here: an older glibc, an interpreter without libpython, another CPU."""

TritonUnavailable = ServerUnavailable
TritonFailed = ServerFailed
RunningTriton = RunningServer


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
class ServedFolder:
    """A model of Triton's python backend: a folder with its `model.py` and its `config.pbtxt`."""

    name: str
    folder: Path


BFLOAT16_MODEL = HERE / "bfloat16_model"
DECOUPLED_MODEL = HERE / "decoupled_model"
ECHO_MODEL = HERE / "echo_model"
PLAIN_MODEL = HERE / "plain_model"
SCRIPTED_MODEL = HERE / "scripted_model"


def cache_folder() -> Path:
    """Where installations are kept, from the environment or under the repository's root."""
    return Path(os.environ.get(CACHE_VARIABLE) or REPOSITORY / ".cache" / "triton")


def install_triton(cache: Path) -> TritonInstall:
    """The installation for this interpreter and these requirements, made if it is not there yet.

    Raises:
        TritonUnavailable: the packages cannot be installed.
    """
    key = installation_key([HERE / "requirements.txt", HERE / "onnxruntime_backend" / "model.py"])
    folder = installed_once(cache, key, _fill)
    return TritonInstall(folder / "site-packages", folder / "backends")


def _fill(folder: Path) -> None:
    packages = folder / "site-packages"
    pip_install(HERE / "requirements.txt", packages)
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
def running_triton(
    install: TritonInstall,
    models: Sequence[ServedModel | ServedFolder],
    folder: Path,
    ports: Sequence[int] | None = None,
) -> Iterator[RunningTriton]:
    """A ready server for these models, stopped when the block is left, whatever happens in it.

    Args:
        folder: an empty folder of the caller's, for the model repository and the log.
        ports: for gRPC and HTTP, where it has to be these, as for a server that comes back.

    Raises:
        TritonUnavailable: the binary does not run here.
        TritonFailed: it ran and did not become ready.
    """
    write_repository(folder / "models", models)
    with running_server(triton_launch(install, folder), lambda: ports or free_ports(2)) as server:
        yield server


def write_repository(repository: Path, models: Sequence[ServedModel | ServedFolder]) -> None:
    """An ordinary repository: Triton completes the configuration from the models themselves."""
    repository.mkdir(parents=True)
    for model in models:
        version = repository / model.name / "1"
        version.mkdir(parents=True)
        if isinstance(model, ServedFolder):
            shutil.copy2(model.folder / "model.py", version)
            shutil.copy2(model.folder / "config.pbtxt", repository / model.name)
            continue
        (version / "model.onnx").write_bytes(model.content)
        configuration = [
            'backend: "onnxruntime"',
            f"max_batch_size: {model.max_batch_size}",
            "instance_group [{ count: 1 kind: KIND_CPU }]",
        ]
        (repository / model.name / "config.pbtxt").write_text("\n".join(configuration) + "\n")


def triton_launch(install: TritonInstall, folder: Path, options: Sequence[str] = ()) -> Launch:
    """How Triton is started on the repository ``models`` in a folder, with more options of its command line."""
    libraries = [str(install.site_packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return Launch(
        server="Triton",
        command=lambda ports: [*_command(install, folder / "models", *ports), *options],
        is_ready=lambda ports: http_body(ports[1], "/v2/health/ready") is not None,
        log_path=folder / "triton.log",
        folder=folder,
        environment={
            "LD_LIBRARY_PATH": ":".join(libraries),
            "TRITON_BACKEND_SITE_PACKAGES": str(install.site_packages),
        },
        signs_of_another_machine=SIGNS_OF_ANOTHER_MACHINE,
    )


def _command(install: TritonInstall, repository: Path, grpc_port: int, http_port: int) -> Sequence[str]:
    return [
        str(install.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={install.backends}",
        "--grpc-address=127.0.0.1",
        "--http-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        "--allow-metrics=false",
    ]
