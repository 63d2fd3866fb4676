"""What a person sees of a compilation: a live line while it runs, a table at the end."""

import shlex
import textwrap
import types
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, Self, TextIO

import numpy as np

from sidecar.bundle.acceptance import digest
from sidecar.bundle.coverage import Label
from sidecar.bundle.naming import Naming, naming_of, physical_interval
from sidecar.bundle.readable import interval_text, share_text
from sidecar.bundle.values import Bundle
from sidecar.certificate import codec
from sidecar.compiler import sampling
from sidecar.compiler.certify import ProofStatus
from sidecar.compiler.pipeline import CompiledBundle, Status
from sidecar.compiler.sampling import Sampled
from sidecar.properties.vocabulary import Feature

LEGEND: Final = """\
silent: proved that the model keeps it; violating: proved that it breaks it; open: not known
(shares of the domain's box by volume). Every answer is checked at run time, whatever is proved."""

WRAPPED_CHARACTERS: Final = 100
"""Line length of notes."""

RANGE_TOLERANCE: Final = Fraction(1, 1000)
"""Share of a declared range by which a bound may lie outside it unremarked: it has been widened to a wire value."""

SHOWN_FEATURES: Final = 4
"""Values of a row that fit into one line of a command to try."""


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

    def show(self, status: Status) -> None:
        """Take a search's progress, or a certificate's."""
        if not self._live:
            return
        if isinstance(status, ProofStatus):
            total = "" if status.total is None else f" of {status.total:,}"
            self._stream.write(f"\r\x1b[K{status.what}: {status.done:,}{total} boxes")
            self._stream.flush()
            return
        state = status.progress
        self._stream.write(
            f"\r\x1b[K{status.property_id} ({status.number}/{status.total}): {state.regions:,} regions, "
            f"{state.settled:.1%} settled, {state.silent:.1%} silent, {state.violating:.2%} violating"
        )
        self._stream.flush()


def summary(compiled: CompiledBundle, sampled: Sequence[Sampled], model: Path, output: Path) -> str:
    """The closing table: per property what is proved, and what the model was caught at; and what to do next.

    ``sampled`` is what was seen at random points, per property; empty where none were drawn.
    """
    bundle = compiled.bundle
    width = max(len(gate.property_id) for gate in bundle.gates)
    lines = [f"{'property':<{width}}  {'silent':>9}  {'violating':>9}  {'open':>9}  counterexamples"]
    for gate, trees, found in zip(bundle.gates, bundle.coverage, compiled.counterexamples, strict=True):
        volumes = np.mean([tree.volume for tree in trees], axis=0)
        shares = "  ".join(f"{share_text(volumes[label]):>9}" for label in (Label.SILENT, Label.VIOLATING, Label.OPEN))
        lines.append(f"{gate.property_id:<{width}}  {shares}  {len(found) or 'none found'}")
    naming = naming_of(bundle)
    lines.append(LEGEND)
    lines += sampling.lines([gate.property_id for gate in bundle.gates], sampled)
    for note in (*compiled.notes, *_outside_ranges(bundle, naming)):
        lines += textwrap.wrap(f"note: {note}", WRAPPED_CHARACTERS, subsequent_indent="      ")
    lines.append(f"{output}: guards {bundle.manifest.name!r}, {len(compiled.content):,} bytes")
    lines.append(f"sha256 {digest(compiled.content)}")
    if compiled.certificate is not None:
        lines.append(f"{output}{codec.SUFFIX}: checked; `sidecar check` does it again without trusting this compiler")
    return "\n".join([*lines, "Try next", *_next_steps(compiled, naming, model, output)])


def _outside_ranges(bundle: Bundle, naming: Naming) -> list[str]:
    """Bounds that lie outside the declared range of their feature: allowed, and often a mistake in the units."""
    return [
        f"{gate.property_id} applies to {interval_text(named, low, high)}, beyond the declared range;"
        " are its bounds in physical units?"
        for gate in bundle.gates
        for region in gate.domain
        for named, low, high in zip(naming.inputs, region.box.lower, region.box.upper, strict=True)
        if isinstance(named, Feature) and _leaves_range(named, low, high)
    ]


def _leaves_range(feature: Feature, low: Fraction, high: Fraction) -> bool:
    """By more than the widening of a bound to its nearest wire value."""
    if feature.range is None:
        return False
    first, last = physical_interval(feature, low, high)
    allowed = (feature.range.upper - feature.range.lower) * RANGE_TOLERANCE
    return first < feature.range.lower - allowed or last > feature.range.upper + allowed


def _next_steps(compiled: CompiledBundle, naming: Naming, model: Path, output: Path) -> list[str]:
    """Commands that a person would type now; the row to try is a counterexample, where one is short enough."""
    steps = [f"sidecar inspect {shlex.quote(str(output))}"]
    found = next((rows[0] for rows in compiled.counterexamples if len(rows)), None)
    if found is not None and naming.origin is not None and len(found) <= SHOWN_FEATURES:
        values = ", ".join(
            f'"{named.name}": {float(named.wire.to_physical(Fraction(value))):.9g}'
            for named, value in zip(naming.inputs, found, strict=True)
        )
        steps.append(f"sidecar try {shlex.quote(str(output))} --model {shlex.quote(str(model))} \\")
        steps.append(f"    --input '{{{values}}}'")
    if compiled.certificate is not None:
        steps.append(f"sidecar check {shlex.quote(str(output))} --model {shlex.quote(str(model))}")
    steps.append(f"sidecar serve --bundle {shlex.quote(str(output))} --upstream HOST:PORT")
    return [f"   {step}" for step in steps]
