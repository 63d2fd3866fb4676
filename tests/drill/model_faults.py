"""Faults of the served model: another network, or the verified one in another arithmetic."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.drill.ground import Ground
from tests.drill.harness import Report, Rig
from tests.drill.model import COARSE_ERROR, MODEL, network, rounded_model
from tests.drill.rigs import (
    guarded_triton,
    guarding_sidecar,
)
from tests.drill.seen import ClientOptions
from tests.drill.triton_process import POLL, running_triton_process


def _needs_breaches(report: Report) -> str:
    return "" if report.breaches else "no breach was counted: this run proves nothing"


@contextlib.contextmanager
def model_swapped(ground: Ground, folder: Path) -> Iterator[Rig]:
    """Triton loads another network under the same name, which violates nearly everywhere; then the right one again."""
    with (
        guarded_triton(ground, folder, POLL) as triton,
        guarding_sidecar(ground, folder, triton.address) as sidecar,
    ):
        place = triton.repository / MODEL / "1" / "model.onnx"
        yield Rig(
            sidecar,
            ClientOptions(largest_difference=None),
            functools.partial(place.write_bytes, network(first=5.0)),
            functools.partial(place.write_bytes, network()),
            6.0,
            proves=_needs_breaches,
        )


@contextlib.contextmanager
def model_of_another_shape(ground: Ground, folder: Path) -> Iterator[Rig]:
    """Triton loads a network with one score more."""
    with (
        guarded_triton(ground, folder, POLL) as triton,
        guarding_sidecar(ground, folder, triton.address) as sidecar,
    ):
        place, configuration = (
            triton.repository / MODEL / "1" / "model.onnx",
            triton.repository / MODEL / "config.pbtxt",
        )

        def put(outputs: int) -> None:
            place.write_bytes(network(outputs=outputs))
            configuration.touch()

        yield Rig(
            sidecar,
            ClientOptions(largest_difference=None),
            functools.partial(put, 4),
            functools.partial(put, 3),
            6.0,
            frozenset({"upstream_output_shape"}),
        )


@contextlib.contextmanager
def _coarse(ground: Ground, folder: Path, arithmetic: str) -> Iterator[Rig]:
    """The verified network, served in another arithmetic throughout; there is nothing to recover from."""
    with (
        running_triton_process(
            ground.install, [rounded_model(folder / "rounded", arithmetic)], folder / "triton"
        ) as triton,
        guarding_sidecar(ground, folder, triton.address) as sidecar,
    ):
        clients = ClientOptions(largest_difference=COARSE_ERROR)
        yield Rig(sidecar, clients, lambda: None, lambda: None, 2.0, proves=_needs_breaches)


def tf32(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """TF32: violations where the verified network provably has none are corrected and counted as breaches."""
    return _coarse(ground, folder, "tf32")


def fp16(ground: Ground, folder: Path) -> contextlib.AbstractContextManager[Rig]:
    """The same in FP16."""
    return _coarse(ground, folder, "fp16")
