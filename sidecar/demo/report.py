"""What the demo tells at its end, as lines of at most 100 characters: what was proved, what happened, what to try."""

import shlex
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.bundle.readable import share_text
from sidecar.bundle.values import Bundle
from sidecar.demo.driving import ADVICE, INPUT, LARGEST, MODEL_PATH, PROPERTIES_PATH
from sidecar.demo.judge import Correction, Verdict
from sidecar.properties.values import Severity
from sidecar.tensors import Rows


def proved(bundle: Bundle) -> list[str]:
    """Per property, the shares of its domain's box by what is proved of them."""
    lines = [
        "   silent: proved that the model keeps it; violating: proved that it breaks it; open: not known",
        f"   {'property':<30}{'silent':>9}{'violating':>12}{'open':>9}",
    ]
    for gate, trees in zip(bundle.gates, bundle.coverage, strict=True):
        volume = np.mean([tree.volume for tree in trees], axis=0)
        silent, violating, left = volume[Label.SILENT], volume[Label.VIOLATING], volume[Label.OPEN]
        lines.append(
            f"   {gate.property_id:<30}{share_text(silent, 2):>9}{share_text(violating, 2):>12}{share_text(left, 2):>9}"
        )
    return lines


def table(verdict: Verdict) -> list[str]:
    """The figures of the whole demo."""
    moves = [row.distance for row in verdict.corrections] or [0.0]
    added, direct = 1e3 * verdict.added_p50_seconds, 1e3 * verdict.direct_p50_seconds
    rows = (
        (
            "answers checked",
            f"{verdict.answers:,}",
            f"in {verdict.requests:,} requests; {verdict.in_domain:,} in a domain",
        ),
        ("violations by the model", f"{len(verdict.corrections):,}", ""),
        ("violations after the sidecar", f"{verdict.violations_after:,}", "judged in exact rational arithmetic"),
        ("identical to the byte", f"{verdict.identical:,}", f"of {verdict.fine:,} requests without a violation"),
        ("largest change made", f"{max(moves):.3g}", f"to the scores; median {statistics.median(moves):.2g}"),
        ("added latency, p50", f"{added:.2f} ms", f"one row; {direct:.2f} ms without the sidecar"),
    )
    return [f"   {name:<30}{value:>9}   {note}".rstrip() for name, value, note in rows]


def most_telling(corrections: Sequence[Correction], bundle: Bundle) -> Correction:
    """The row on which the model was most wrong; critical properties and cars that are not oncoming come first."""
    critical = {
        record.trace.property_id for record in bundle.manifest.properties if record.trace.severity is Severity.CRITICAL
    }

    def rank(row: Correction) -> tuple[bool, bool, float]:
        _, own, closing = row.inputs * LARGEST
        return any(gate.property_id in critical for gate in row.gates), bool(closing <= own), row.distance

    return max(corrections, key=rank)


def story(row: Correction, bundle: Bundle) -> list[str]:
    """One correction in full."""
    gap, own, closing = row.inputs * LARGEST
    titles = {record.trace.property_id: record.trace.title for record in bundle.manifest.properties}
    ahead = f"{own - closing:.1f} m/s" if closing <= own else f"{closing - own:.1f} m/s towards us"
    return [
        f"   {gap:.1f} m behind a car at {ahead}, own speed {own:.1f} m/s.",
        f"   {'':<22}{'':<12}" + "".join(f"{name:>12}" for name in ADVICE),
        f"   {'the model advised':<22}{_scores(row.before)}",
        f"   {'the sidecar answered':<22}{_scores(row.after)}",
        *(f"   Why: {gate.property_id}: {titles[gate.property_id]}." for gate in row.gates),
        f"   The scores were moved by {row.distance:.3g} (Euclidean). Decision {row.decision}.",
    ]


def next_steps(folder: Path | None, row: Correction | None) -> list[str]:
    """Commands to run by hand, on the files in ``folder``; None where nothing was kept."""
    model, bundle = MODEL_PATH.name, "safe_distance.gates"
    steps = []
    if shutil.which("sidecar") is None:
        steps.append(f'export PATH="{Path(sys.executable).parent}:$PATH"')
    steps.append("sidecar demo --keep demo && cd demo" if folder is None else f"cd {shlex.quote(str(folder))}")
    if row is not None:
        values = ", ".join(str(np.float32(value)) for value in row.inputs)
        steps += [
            f"sidecar try {bundle} --model {model} \\",
            f"    --input '{{\"{INPUT}\": [{values}]}}'",
        ]
    steps += [
        f"sidecar inspect {bundle}",
        f"sidecar compile --model {model} --property {PROPERTIES_PATH.name} --output my.gates",
        f"sidecar model-server --model {model} --listen 127.0.0.1:9000 &",
        f"sidecar serve --bundle {bundle} --upstream 127.0.0.1:9000",
    ]
    return [f"   {step}" for step in steps]


def _scores(scores: Rows) -> str:
    return f"{ADVICE[int(np.argmax(scores))]:<12}" + "".join(f"{value:>12.3f}" for value in scores)
