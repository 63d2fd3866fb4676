"""What `sidecar compile` takes as a whole: search, certificate, replay, sealing, self-test and check."""

import time
from typing import Final

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.compiler.options import CompileOptions
from sidecar.compiler.pipeline import compile_bundle
from sidecar.compiler.stated import with_batch_axis
from sidecar.properties.reader import read_properties
from tests.benchmarks.public_sets import Instance, data_folder

PAIRS: Final = ((5, 7, 2), (1, 2, 2), (2, 1, 2), (2, 9, 8), (1, 9, 7))


def run(limit_seconds: float) -> None:
    """Print the section."""
    print(f"\nBundles: time limit {limit_seconds:g} s for the search, smallest undecided leaf 1e-6 of the box")
    columns = ("seconds", "regions", "silent", "violating", "open", "found", "bytes")
    print(f"   {'pair':<12}" + "".join(f"{column:>12}" for column in columns))
    folder = data_folder() / "acasxu"
    for row, column, number in PAIRS:
        each = Instance(folder / f"ACASXU_run2a_{row}_{column}_batch_2000.onnx", folder / f"prop_{number}.vnnlib")
        began = time.monotonic()
        model, _ = each.read()
        files = [read_properties(each.stated, model.signature)]
        options = CompileOptions(time_limit_seconds=limit_seconds)
        compiled = compile_bundle(with_batch_axis(model, files), files, options, lambda _: None)
        seconds = time.monotonic() - began
        volume = np.mean([tree.volume for trees in compiled.bundle.coverage for tree in trees], axis=0)
        regions = dict(compiled.bundle.manifest.options)["max-regions"]
        shares = "".join(f"{volume[label]:>12.4%}" for label in (Label.SILENT, Label.VIOLATING, Label.OPEN))
        found = sum(map(len, compiled.counterexamples))
        print(
            f"   {each.name:<12}{seconds:>12.1f}{regions:>12}{shares}{found:>12}{len(compiled.content):>12,}",
            flush=True,
        )
