"""A real TorchServe on a plain machine: pip's packages, Debian's torch, the machine's Java.

The Java process is started as `torchserve` itself would start it: that script keeps one pid file for the whole
machine, refuses to run twice, and does not pass a signal on.

Besides its own service (see `predictions`) the server offers Open Inference, under the package
`org.pytorch.serve.grpc.openinference`. For a ModelInfer request the handler gets, in `body`, a dictionary such as
`{"model_name", "id", "inputs": [{"name", "datatype", "shape", "data"}]}`: typed contents as a flat list, raw contents
as an empty one. It must return one with an id, or the worker is ended. The service's metadata names no tensors.
"""

import contextlib
import dataclasses
import enum
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sidecar.network.values import Affine, Network, Relu
from tests.e2e.installing import (
    ServerUnavailable,
    installation_key,
    installed_once,
    pip_install,
    plain_interpreter,
    run_installer,
)
from tests.e2e.processes import Launch, RunningServer, free_ports, http_body, running_server
from tests.e2e.torchserve import debian_torch

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
HANDLER = HERE / "handler.py"
SCRIPTED_HANDLER = HERE / "scripted_handler.py"
OLDEST_JAVA = 17
DEBIANS_JAVAS = Path("/usr/lib/jvm")
ARCHIVER = "from model_archiver.model_packaging import generate_model_archive; generate_model_archive()"


class Payload(enum.Enum):
    """What a model's requests and answers carry; the handler says how."""

    JSON = "json"
    NPY = "npy"
    RAW = "raw"
    OPEN_INFERENCE = "open_inference"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A dense network, and the format of its payloads."""

    name: str
    network: Network
    payload: Payload = Payload.JSON


@dataclasses.dataclass(frozen=True)
class ScriptedModel:
    """A model that answers what a test writes down; ``reader`` is the file that reads it."""

    name: str
    reader: Path


@dataclasses.dataclass(frozen=True)
class TorchServeInstall:
    """A complete installation.

    Args:
        java: a Java that is new enough.
        environment: variables with which TorchServe's Python finds its packages, and torch its libraries.
    """

    java: str
    packages: Path
    environment: dict[str, str]


def install_torchserve(cache: Path) -> TorchServeInstall:
    """The installation for this interpreter and these requirements, made if it is not there yet.

    Raises:
        ServerUnavailable: the machine has no Java, no apt or another Debian's, or the packages cannot be had.
    """
    java = _java()
    folder = installed_once(cache, installation_key([REQUIREMENTS], debian_torch.PACKAGE), _fill)
    return TorchServeInstall(java, folder / "site-packages", _environment(folder))


def _java() -> str:
    """The Java of JAVA_HOME, of the search path or of Debian's folder, whichever is the first new enough."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += sorted(DEBIANS_JAVAS.glob("*"))
    for java in [shutil.which("java"), *(str(home / "bin" / "java") for home in homes)]:
        if java and os.access(java, os.X_OK):
            said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
            version = re.search(r'version "(\d+)', said)
            if version and int(version[1]) >= OLDEST_JAVA:
                return java
    raise ServerUnavailable(f"TorchServe needs Java {OLDEST_JAVA} or newer: apt-get install openjdk-17-jre-headless")


def _fill(folder: Path) -> None:
    debian_torch.unpack_torch(folder / "debian")
    pip_install(REQUIREMENTS, folder / "site-packages")
    # Here, and not when a server fails: a library that is missing is no defect of anything under test.
    run_installer([plain_interpreter(), "-S", "-c", "import torch"], env=os.environ | _environment(folder))


def _environment(folder: Path) -> dict[str, str]:
    packages = [folder / "site-packages", debian_torch.python_folder(folder / "debian")]
    libraries = debian_torch.library_folders(folder / "debian")
    return {
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTHONNOUSERSITE": "1",
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
    }


@contextlib.contextmanager
def running_torchserve(
    install: TorchServeInstall,
    models: Sequence[ServedModel | ScriptedModel],
    folder: Path,
    *,
    token_auth: bool = False,
) -> Iterator[RunningServer]:
    """A server whose models are all ready, stopped when the block is left, whatever happens in it.

    Args:
        folder: an empty folder of the caller's, for the model archives and the log.
        token_auth: whether it wants tokens, as it does where nobody says otherwise; see `tokens`.

    Raises:
        ServerFailed: it did not become ready.
    """
    for model in models:
        _archive(install, model, folder / "models")
    # Workers listen on Unix sockets in Java's temporary folder, whose path must be short, and nobody else's.
    with tempfile.TemporaryDirectory(prefix="ts-") as scratch:
        launch = Launch(
            server="TorchServe",
            command=lambda ports: [
                *_command(install, models, folder, scratch, ports),
                *([] if token_auth else ["--disable-token-auth"]),
            ],
            is_ready=lambda ports: all(_is_ready(ports[2], model.name, folder) for model in models),
            log_path=folder / "torchserve.log",
            folder=folder,
            environment=install.environment
            | {"LOG_LOCATION": f"{folder}/logs", "METRICS_LOCATION": f"{folder}/logs"}
            | {"TS_OPEN_INFERENCE_PROTOCOL": "oip"},
        )
        with running_server(launch, lambda: free_ports(5)) as server:
            yield server


def _archive(install: TorchServeInstall, model: ServedModel | ScriptedModel, store: Path) -> None:
    """Packs weights, handler and configuration as a user of TorchServe does."""
    parts = store.parent / model.name
    parts.mkdir()
    store.mkdir(exist_ok=True)
    if isinstance(model, ScriptedModel):
        handler, serialized, settings = SCRIPTED_HANDLER, model.reader, {"script": str(model.reader)}
    else:
        handler, serialized, settings = HANDLER, parts / "dense.npz", {"format": model.payload.value}
        _write_weights(serialized, model.network)
    # JSON is YAML too.
    configuration = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "handler": settings}
    (parts / "model-config.yaml").write_text(json.dumps(configuration))
    options = {
        "model-name": model.name,
        "version": "1.0",
        "serialized-file": serialized,
        "handler": handler,
        "config-file": parts / "model-config.yaml",
        "export-path": store,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run(
        [plain_interpreter(), "-S", "-c", ARCHIVER, *words],
        env=os.environ | install.environment,
        check=True,
        timeout=60,
    )


def _write_weights(path: Path, network: Network) -> None:
    arrays: dict[str, np.ndarray] = {}
    relu: list[bool] = []
    for layer, following in zip(network.layers, [*network.layers[1:], None], strict=True):
        if isinstance(layer, Affine):
            arrays[f"weight_{len(relu)}"] = layer.weight.astype(np.float32)
            arrays[f"bias_{len(relu)}"] = layer.bias.astype(np.float32)
            relu.append(isinstance(following, Relu))
    np.savez(path, relu=np.array(relu), **arrays)


def _command(
    install: TorchServeInstall,
    models: Sequence[ServedModel | ScriptedModel],
    folder: Path,
    scratch: str,
    ports: Sequence[int],
) -> list[str]:
    grpc, inference, management, metrics, grpc_management = ports
    settings = {
        "inference_address": f"http://127.0.0.1:{inference}",
        "management_address": f"http://127.0.0.1:{management}",
        "metrics_address": f"http://127.0.0.1:{metrics}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": grpc,
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": grpc_management,
        "model_store": folder / "models",
        "load_models": ",".join(f"{model.name}.mar" for model in models),
        "number_of_netty_threads": 2,
        "disable_system_metrics": "true",
    }
    configuration = folder / "config.properties"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return [
        install.java,
        f"-Dmodel_server_home={install.packages}",
        f"-Djava.io.tmpdir={scratch}",
        "-Xmx512m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{install.packages}/ts/frontend/*",
        "org.pytorch.serve.ModelServer",
        f"--python={plain_interpreter()}",
        f"--ts-config-file={configuration}",
        "--no-config-snapshot",
    ]


def _is_ready(management_port: int, model: str, folder: Path) -> bool:
    token = tokens(folder).get("management")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = http_body(management_port, f"/models/{model}", headers)
    return body is not None and any(worker["status"] == "READY" for worker in json.loads(body)[0]["workers"])


def tokens(folder: Path) -> dict[str, str]:
    """The tokens that a server in this folder has written down, by the service that wants them; none where it has not.

    A client sends one as `authorization: Bearer <token>`.
    """
    path = folder / "key_file.json"
    text = path.read_text() if path.exists() else ""
    return {name: stated["key"] for name, stated in json.loads(text).items() if "key" in stated} if text else {}
