"""What a person sees of a compilation: a live line while it runs, a table at the end."""

import types
from pathlib import Path
from typing import Self, TextIO

import numpy as np

from sidecar.bundle.acceptance import digest
from sidecar.bundle.coverage import Label
from sidecar.compiler.pipeline import CompiledBundle, SearchStatus


class Reporter:
    """Shows search progress as one line that rewrites itself; silent unless the stream is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, status: SearchStatus) -> None:
        """Take a search's progress."""
        if not self._live:
            return
        state = status.progress
        self._stream.write(
            f"\r\x1b[K{status.property_id} ({status.number}/{status.total}): {state.regions:,} regions, "
            f"{state.settled:.1%} settled, {state.silent:.1%} silent, {state.violating:.2%} violating"
        )
        self._stream.flush()


def summary(compiled: CompiledBundle, output: Path) -> str:
    """The closing table: per property what is proved, and what the model was caught at."""
    bundle = compiled.bundle
    width = max(len(gate.property_id) for gate in bundle.gates)
    lines = [f"{'property':<{width}}  {'silent':>9}  {'violating':>9}  {'open':>9}  counterexamples"]
    for gate, trees, found in zip(bundle.gates, bundle.coverage, compiled.counterexamples, strict=True):
        volumes = np.mean([tree.volume for tree in trees], axis=0)
        shares = "  ".join(f"{volumes[label]:>9.4%}" for label in (Label.SILENT, Label.VIOLATING, Label.OPEN))
        lines.append(f"{gate.property_id:<{width}}  {shares}  {len(found) or 'none found'}")
    lines += [f"note: {note}" for note in compiled.notes]
    size = len(compiled.content)
    lines.append(f"{output}: guards {bundle.manifest.name!r}, {size:,} bytes, sha256 {digest(compiled.content)}")
    return "\n".join(lines)
