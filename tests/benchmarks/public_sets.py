"""The public networks and properties that GATE_DATA names, and what is known about them."""

import csv
import dataclasses
import os
from pathlib import Path
from typing import Final

from sidecar.network.onnx_reader import read_model
from sidecar.network.values import Model
from sidecar.properties.values import Property
from sidecar.properties.vnnlib import read_vnnlib

ROOT: Final = Path(__file__).resolve().parents[2]

WHOLE_BOX_VIOLATES: Final = frozenset(
    (f"ACASXU_run2a_1_{column}_batch_2000.onnx", f"prop_{number}.vnnlib") for column in (7, 8, 9) for number in (3, 4)
)
"""Out of these properties' scope: every input of the box violates. No coverage is to be had there."""


def data_folder() -> Path:
    """Where the public sets lie; it need not exist."""
    return (ROOT / os.environ.get("GATE_DATA", "../shared/data")).resolve()


@dataclasses.dataclass(frozen=True)
class Instance:
    """A network and a property file.

    Args:
        model, stated: the files, packed or not.
        verdict: ``holds`` or ``violated`` where it is known, else None.
        published_seconds: by tool, where known.
    """

    model: Path
    stated: Path
    verdict: str | None = None
    published_seconds: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """For tables."""
        network = self.model.name.removesuffix(".gz").removesuffix(".onnx").removesuffix("_batch_2000")
        return f"{network.removeprefix('ACASXU_run2a_')} {self.stated.name.removesuffix('.gz').removesuffix('.vnnlib')}"

    def read(self) -> tuple[Model, tuple[Property, ...]]:
        """Model and properties. Raises InputError where they are not understood."""
        model = read_model(self.model)
        return model, read_vnnlib(self.stated, model.signature).properties


def acas_xu() -> list[Instance]:
    """The 186 instances of VNN-COMP, in the order of the file of verdicts."""
    folder = data_folder() / "acasxu"
    with (folder / "verdicts.csv").open(newline="") as file:
        return [
            Instance(
                folder / row["network"],
                folder / row["property"],
                row["verdict"],
                (
                    ("alpha-beta-CROWN", float(row["abcrown_vnncomp2021_s"])),
                    ("nnenum", float(row["nnenum_vnncomp2021_s"])),
                ),
            )
            for row in csv.DictReader(file)
        ]


def meaningful_violated_pairs() -> list[Instance]:
    """The violated instances of which part of the domain satisfies: 39 with property 2, N1,9 with 7, N2,9 with 8."""
    return [
        each
        for each in acas_xu()
        if each.verdict == "violated" and (each.model.name, each.stated.name) not in WHOLE_BOX_VIOLATES
    ]


def other_set(name: str) -> list[Instance]:
    """The instances of one of the larger sets, whose files are packed."""
    folder = data_folder() / name
    with (folder / "instances.csv").open(newline="") as file:
        return [Instance(_packed(folder / model), _packed(folder / stated)) for model, stated, _ in csv.reader(file)]


def _packed(path: Path) -> Path:
    return path if path.is_file() else path.with_name(f"{path.name}.gz")
