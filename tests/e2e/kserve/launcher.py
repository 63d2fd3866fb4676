"""A real KServe model server on a plain machine, from its SDK.

What its wire looks like, read off the running server (0.21.0): an answer's form is the model's choice; ours does
as the SDK's own helper, raw where the request was raw and typed where it was typed. Ids are echoed, versions are
not. Messages over 8 MiB are refused.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc

from tests.e2e.installing import installation_key, installed_once, pip_install, plain_interpreter
from tests.e2e.processes import Launch, RunningServer, free_ports, running_server

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
READY = b"\x08\x01"
"""A ServerReadyResponse that says yes."""


def install_kserve(cache: Path) -> Path:
    """The folder of KServe's packages, filled if it is not there yet.

    Raises:
        ServerUnavailable: the packages cannot be installed.
    """
    return installed_once(cache, installation_key([REQUIREMENTS]), lambda folder: pip_install(REQUIREMENTS, folder))


@contextlib.contextmanager
def running_kserve(packages: Path, models: Mapping[str, bytes | Path], folder: Path) -> Iterator[RunningServer]:
    """A ready server, stopped when the block is left, whatever happens in it.

    Args:
        models: ONNX files by served name, or for a scripted model the path of its script's reader.
        folder: an empty folder of the caller's, for the models and the log.

    Raises:
        ServerFailed: it did not become ready.
    """
    words = [f"{name}={_path(folder / f'{name}.onnx', model)}" for name, model in models.items()]
    launch = Launch(
        server="KServe",
        # Without `site` the interpreter sees the standard library and PYTHONPATH alone.
        command=lambda ports: [plain_interpreter(), "-S", str(HERE / "server.py"), str(ports[0]), *words],
        is_ready=lambda ports: _is_ready(ports[0]),
        log_path=folder / "kserve.log",
        folder=folder,
        environment={"PYTHONPATH": str(packages)},
    )
    with running_server(launch, lambda: free_ports(1)) as server:
        yield server


def _path(path: Path, model: bytes | Path) -> Path:
    if isinstance(model, Path):
        return model
    path.write_bytes(model)
    return path


def _is_ready(port: int) -> bool:
    with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=2) == READY
    return False
