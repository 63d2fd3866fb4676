"""How long compiling takes and how much it proves, on public networks: `make bench-compile`.

One process, one search after the other; wall seconds include reading, attack, replay, sealing and self-test. The
machine is shared, so seconds are a guide; region counts and shares are the same in every run that ends by itself.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.compiler.pipeline import CompileOptions, compile_bundle, with_batch_axis
from sidecar.network.onnx_reader import read_model
from sidecar.properties.reader import read_properties

TIME_LIMIT_SECONDS = 60.0
INSTANCES = ((5, 7, 2), (1, 2, 2), (2, 1, 2), (2, 9, 8), (1, 9, 7))


def main() -> int:
    """Print one line per instance."""
    root = Path(__file__).resolve().parents[2]
    folder = (root / os.environ.get("GATE_DATA", "../shared/data")).resolve() / "acasxu"
    if not folder.is_dir():
        print(f"NOT RUN: no public data at GATE_DATA ({folder})", file=sys.stderr)
        return 1
    print(f"time limit {TIME_LIMIT_SECONDS:g} s each, smallest undecided leaf 1e-6 of the box")
    print(
        f"{'instance':<14}{'seconds':>9}{'regions':>10}{'silent':>10}{'violating':>11}{'open':>10}{'found':>7}{'bytes':>12}"
    )
    for row, column, number in INSTANCES:
        began = time.monotonic()
        model = read_model(folder / f"ACASXU_run2a_{row}_{column}_batch_2000.onnx")
        files = [read_properties(folder / f"prop_{number}.vnnlib", model.network.signature)]
        options = CompileOptions(time_limit_seconds=TIME_LIMIT_SECONDS)
        compiled = compile_bundle(with_batch_axis(model, files), files, options, lambda _: None)
        seconds = time.monotonic() - began
        volume = np.mean([tree.volume for trees in compiled.bundle.coverage for tree in trees], axis=0)
        regions = dict(compiled.bundle.manifest.options)["max-regions"]
        print(
            f"N{row},{column} prop_{number:<4}{seconds:>9.1f}{regions:>10}{volume[Label.SILENT]:>10.4%}"
            f"{volume[Label.VIOLATING]:>11.4%}{volume[Label.OPEN]:>10.4%}{sum(map(len, compiled.counterexamples)):>7}"
            f"{len(compiled.content):>12,}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
