"""A real MLServer on a plain machine: its own command line over ordinary model folders.

What its wire looks like, read off the running server (1.7.1): an answer is raw where the request was raw, and its
tensors then have `contents` too, present and empty; it is typed where the request was typed. An id is echoed where it
was set. The trailers describe the answer as `ce-*` metadata; with an id, `ce-id` and `ce-requestid` are among them.
For a model that it does not know ModelReady is UNKNOWN, and ModelMetadata NOT_FOUND. Repository control is offered
twice, also as `inference.model_repository.ModelRepositoryService`. Messages over grpcio's 4 MiB are refused.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.installing import installation_key, installed_once, pip_install, plain_interpreter
from tests.e2e.processes import Launch, RunningServer, free_ports, http_body, reserved_port, running_server

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"


def install_mlserver(cache: Path) -> Path:
    """The folder of MLServer's packages, filled if it is not there yet.

    Raises:
        ServerUnavailable: the packages cannot be installed.
    """
    return installed_once(cache, installation_key([REQUIREMENTS]), lambda folder: pip_install(REQUIREMENTS, folder))


@contextlib.contextmanager
def running_mlserver(packages: Path, models: Mapping[str, bytes | Path], folder: Path) -> Iterator[RunningServer]:
    """A ready server, stopped when the block is left, whatever happens in it.

    Args:
        models: ONNX files by served name, or for a scripted model the path of its script's reader.
        folder: an empty folder of the caller's, for the models, the settings and the log.

    Raises:
        ServerFailed: it did not become ready.
    """
    for name, content in models.items():
        _write_model(folder / name, content)
    with reserved_port() as grpc_port:
        launch = Launch(
            server="MLServer",
            command=lambda ports: _command(folder, *ports),
            is_ready=lambda ports: http_body(ports[1], "/v2/health/ready") is not None,
            log_path=folder / "mlserver.log",
            folder=folder,
            environment={"PYTHONPATH": f"{packages}:{HERE}"},
        )
        with running_server(launch, lambda: [grpc_port, *free_ports(1)]) as server:
            yield server


def _write_model(folder: Path, model: bytes | Path) -> None:
    folder.mkdir()
    if isinstance(model, Path):
        implementation, uri = "scripted_model.ScriptedModel", model
    else:
        implementation, uri = "onnx_runtime_model.OnnxRuntimeModel", folder / "model.onnx"
        uri.write_bytes(model)
    settings = {
        "name": folder.name,
        "implementation": implementation,
        "parameters": {"uri": str(uri), "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


def _command(folder: Path, grpc_port: int, http_port: int) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "grpc_port": grpc_port,
        "http_port": http_port,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": True,  # it logs every call then
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    # Without `site` the interpreter sees the standard library and PYTHONPATH alone.
    return [plain_interpreter(), "-S", "-c", "from mlserver.cli import main; main()", "start", str(folder)]
