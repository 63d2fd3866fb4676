"""Real servers whose models answer what a test writes down: which models they have, and how they count arrivals."""

import contextlib
import dataclasses
import enum
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecar.tensors import ModelSignature
from tests.conformance.guarded_model import DTYPES, MODEL, SIGNATURE
from tests.conformance.more_models import NAMES, SINGLE
from tests.conformance.typed_model import model_name, signature
from tests.e2e.conformance.asking import Way
from tests.e2e.conformance.script import ScriptFolder
from tests.e2e.installing import server_cache
from tests.e2e.kserve.launcher import install_kserve, running_kserve
from tests.e2e.mlserver.launcher import install_mlserver, running_mlserver
from tests.e2e.processes import RunningServer, free_ports, running_server
from tests.e2e.triton.launcher import (
    SCRIPTED_MODEL,
    ServedFolder,
    cache_folder,
    install_triton,
    triton_launch,
    write_repository,
)

MODELS = (MODEL, *NAMES, *map(model_name, DTYPES), "other", "later")
"""Guarded by the cases' bundles, but for the last two."""


class Kind(enum.StrEnum):
    """Whose server it is."""

    TRITON = "triton"
    MLSERVER = "mlserver"
    KSERVE = "kserve"


WAYS = {Kind.TRITON: (Way.CALL, Way.STREAM), Kind.MLSERVER: (Way.CALL,), Kind.KSERVE: (Way.CALL,)}
"""KServe has no streams. MLServer's ModelStreamInfer sends other messages than the protocol's: see its test."""


@dataclasses.dataclass(frozen=True)
class ScriptedServer:
    """A running server with the models of these names, and its script."""

    kind: Kind
    models: tuple[str, ...]
    address: str
    script: ScriptFolder
    log_path: Path

    def arrivals(self) -> int:
        """How many inferences have reached the server, by its own log, whatever became of them."""
        return len(re.findall(_SIGN_OF_ARRIVAL[self.kind], self.log_path.read_text(errors="replace")))


_SIGN_OF_ARRIVAL = {
    # A call, or a message on a stream.
    Kind.TRITON: r"ModelInferHandler, rpc_ok=1, \d+ step START|ModelStreamInferHandler, rpc_ok=1, .* step READ",
    Kind.MLSERVER: r"GRPCInferenceService/ModelInfer\n",
    Kind.KSERVE: r"GRPCInferenceService/ModelInfer\n",
}


@contextlib.contextmanager
def scripted_server(kind: Kind, folder: Path, models: tuple[str, ...] = MODELS) -> Iterator[ScriptedServer]:
    """A server of this kind, ready, until the block is left.

    Args:
        folder: an empty folder of the caller's.
        models: those of the names that it serves.

    Raises:
        ServerUnavailable: it cannot be installed or run on this machine.
        ServerFailed: it did not become ready.
    """
    script = ScriptFolder.make(folder / "script")
    (folder / "server").mkdir()
    with _STARTS[kind](models, script, folder / "server") as server:
        yield ScriptedServer(kind, models, server.grpc_address, script, server.log_path)


@contextlib.contextmanager
def _triton(models: tuple[str, ...], script: ScriptFolder, folder: Path) -> Iterator[RunningServer]:
    served = [ServedFolder(name, _triton_folder(folder / f"{name}.model", name, script)) for name in models]
    write_repository(folder / "models", served)
    launch = triton_launch(install_triton(cache_folder()), folder, ["--log-verbose=1"])
    with running_server(launch, lambda: free_ports(2)) as server:
        yield server


_EXTRA_INPUTS = ("hint", "more", "y", "text")
"""Of BYTES, and nobody has to send them."""

_EXTRA_OUTPUTS = ("note", "w", "gone", "words", "odd", "none", "big", "nothing")
"""Named by an answer of the cases, or asked for. Triton holds answers to the names that a model's configuration has,
not to its datatypes and shapes: so a script can break these."""


def _triton_folder(folder: Path, name: str, script: ScriptFolder) -> Path:
    folder.mkdir()
    shutil.copy2(SCRIPTED_MODEL / "model.py", folder)
    stated = _signature(name)
    rows = [] if stated.batch_axis is None else [-1]
    inputs = [_described(each.name, each.datatype, [*rows, *each.row_shape]) for each in stated.inputs]
    inputs += [_described(each, "STRING", [-1], " optional: true") for each in _EXTRA_INPUTS]
    outputs = [_described(each.name, each.datatype, [*rows, *each.row_shape]) for each in stated.outputs]
    outputs += [_described(each, "STRING", [-1]) for each in _EXTRA_OUTPUTS]
    lines = [
        'backend: "python"',
        f"input [ {', '.join(inputs)} ]",
        f"output [ {', '.join(outputs)} ]",
        f'parameters {{ key: "script_folder" value: {{ string_value: "{script.path}" }} }}',
        "instance_group [{ count: 1 kind: KIND_CPU }]",
    ]
    (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")
    return folder


def _signature(name: str) -> ModelSignature:
    datatype = name.removeprefix("guarded-")
    if datatype != name:
        return signature(datatype)
    return SIGNATURE.with_batch_axis(None) if name == SINGLE else SIGNATURE


def _described(name: str, datatype: str, dims: Sequence[int], more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{datatype} dims: {list(dims)}{more} }}'


def _python_server(install: Callable, running: Callable, cache: str) -> Callable:
    def start(models: tuple[str, ...], script: ScriptFolder, folder: Path):
        reader = script.path / "script_reader.py"
        return running(install(server_cache(cache)), dict.fromkeys(models, reader), folder)

    return start


_STARTS: dict[Kind, Callable] = {
    Kind.TRITON: _triton,
    Kind.MLSERVER: _python_server(install_mlserver, running_mlserver, "mlserver"),
    Kind.KSERVE: _python_server(install_kserve, running_kserve, "kserve"),
}
