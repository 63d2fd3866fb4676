"""How much of a domain the model truly violates, by sampling: what the coverage map leaves open is not all wrong.

Points are drawn uniformly from the boxes of a gate's regions, equally many from each, and taken to the wire. Nothing is
proved by it, so nothing of it stands in a bundle: it is told beside what is proved.

The interval is that of Clopper and Pearson (Biometrika 26, 1934): it holds the true share with at least the stated
confidence. That the points come from several boxes makes it only more cautious (Hoeffding, Annals of Mathematical
Statistics 27, 1956: a sum of unlike trials varies no more than one of like trials).
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sidecar.bundle.readable import share_text
from sidecar.bundle.values import Bundle
from sidecar.compiler.opaque import read_opaque_model
from sidecar.compiler.replay import answers
from sidecar.errors import InputError
from sidecar.gates.membership import contains
from sidecar.gates.prepare import PreparedGates, prepare, tensor_places
from sidecar.gates.satisfaction import satisfied
from sidecar.gates.values import Gate
from sidecar.network.onnx_reader import read_model
from sidecar.network.values import AnyModel, OpaqueModel, forward
from sidecar.tensors import INTEGER_RANGES, Datatype, Rows, TensorSpec

SECONDS: Final = 10.0
"""For all properties together. The clock knows nothing of what was found, so stopping early favours no result."""

SEED: Final = 0
CONFIDENCE: Final = 0.95

_BATCH: Final = 2048
_BISECTIONS: Final = 60


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Points drawn for one gate, and at how many of them the model violates it."""

    drawn: int
    violating: int

    @property
    def share(self) -> float:
        """Of the points; of the volume of a region's box on average over the regions."""
        return self.violating / self.drawn

    @property
    def interval(self) -> tuple[float, float]:
        """Between these lies the true share, with :data:`CONFIDENCE`."""
        return _least_share(self.violating, self.drawn), 1.0 - _least_share(self.drawn - self.violating, self.drawn)


def sample(model: AnyModel, gates: Sequence[Gate], samples: int, seconds: float = SECONDS) -> tuple[Sampled, ...]:
    """Draw points for each gate, judged on the network's float64 outputs; on onnxruntime's where it is not read.

    Args:
        model: the verified one.
        gates: of its bundle.
        samples: points for each gate, rounded up so that each of its regions gets as many; for 0 nothing is drawn.
        seconds: for all gates; each gets its part of what is left, and one round of points at least.
    """
    end, found = time.monotonic() + seconds, []
    for number, gate in enumerate(gates if samples else ()):
        now = time.monotonic()
        found.append(_sampled(model, gate, number, samples, now + (end - now) / (len(gates) - number)))
    return tuple(found)


def sample_model(bundle: Bundle, path: Path, samples: int) -> tuple[Sampled, ...]:
    """:func:`sample` for a bundle and its model's file. Raises InputError where the model is another one."""
    model = read_model(path) if bundle.manifest.is_proved else read_opaque_model(path)
    if model.digest != bundle.manifest.model_digest:
        raise InputError(
            f"{path}: sha256 {model.digest}, the bundle is about the model of sha256 {bundle.manifest.model_digest}; "
            "give the file that it was compiled from"
        )
    return sample(model, bundle.gates, samples)


def _sampled(model: AnyModel, gate: Gate, number: int, samples: int, end: float) -> Sampled:
    regions = [prepare((dataclasses.replace(gate, domain=(region,)),), model.signature) for region in gate.domain]
    generator = np.random.default_rng([SEED, number])
    wanted = -(-samples // len(regions))
    drawn = violating = 0
    while drawn < wanted and (drawn == 0 or time.monotonic() < end):
        count = min(_BATCH, wanted - drawn)
        drawn += count
        violating += sum(_violating(model, region, _points(region, generator, count)) for region in regions)
    return Sampled(drawn * len(regions), violating)


def _violating(model: AnyModel, region: PreparedGates, inputs: Rows) -> int:
    outputs = answers(model, inputs) if isinstance(model, OpaqueModel) else forward(model.network, inputs)
    contained = contains(region, inputs)
    return int((contained & ~satisfied(region, inputs, outputs, contained)).sum())


def _points(region: PreparedGates, generator: np.random.Generator, count: int) -> Rows:
    """Wire values in the region's box, (count, input)."""
    lower, upper = region.lower[0], region.upper[0]
    shares = generator.random((count, len(lower)))
    points = lower * (1.0 - shares) + upper * shares
    for spec, places in zip(region.signature.inputs, tensor_places(region.signature.inputs), strict=True):
        values = points[:, places.start : places.stop]
        values[:] = _on_the_wire(values, spec)
    return np.asarray(points.clip(lower, upper))


def _on_the_wire(values: Rows, spec: TensorSpec) -> Rows:
    """Values of the tensor's datatype nearby."""
    if spec.datatype in INTEGER_RANGES:
        return np.asarray(np.rint(values))
    with np.errstate(over="ignore"):  # the box's own bound is nearest
        match spec.datatype:
            case Datatype.FP16:
                return values.astype(np.float16).astype(np.float64)
            case Datatype.BF16:
                bits = np.ascontiguousarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
                return bits.view(np.float32).astype(np.float64)
            case Datatype.FP32:
                return values.astype(np.float32).astype(np.float64)
            case _:
                return values


def _least_share(violating: int, drawn: int) -> float:
    """The share of violating points with which so many or more are drawn in half of the cases left by CONFIDENCE."""
    fewer = np.arange(violating)
    choices = np.cumsum(np.log(np.where(fewer > 0, (drawn - fewer + 1) / np.maximum(fewer, 1), 1.0)))
    low, high = 0.0, violating / drawn
    for _ in range(_BISECTIONS):
        share = (low + high) / 2.0
        if not 0.0 < share < 1.0:
            break
        terms: npt.NDArray[np.float64] = choices + fewer * np.log(share) + (drawn - fewer) * np.log1p(-share)
        if 1.0 - np.exp(terms).sum() < (1.0 - CONFIDENCE) / 2.0:
            low = share
        else:
            high = share
    return low


def lines(property_ids: Sequence[str], found: Sequence[Sampled]) -> Iterator[str]:
    """A heading, and a line for each property; nothing where nothing was drawn."""
    if not found:
        return
    width = max(map(len, property_ids))
    yield f"violating at random points (seed {SEED}), with an interval of {CONFIDENCE:.0%} confidence"
    for property_id, each in zip(property_ids, found, strict=True):
        yield f"{property_id:<{width}}  {text(each)}"


def text(found: Sampled) -> str:
    """Share, interval and count in words."""
    low, high = found.interval
    points = f"{found.violating:,} of {found.drawn:,}"
    return f"{share_text(found.share):>9}  {share_text(low)} to {share_text(high)}  ({points})"


def documents(property_ids: Sequence[str], found: Sequence[Sampled]) -> list[dict[str, object]]:
    """As JSON values; empty where nothing was drawn."""
    return [
        {
            "property": property_id,
            "points": each.drawn,
            "violating": each.violating,
            "seed": SEED,
            "confidence": CONFIDENCE,
            "interval": list(each.interval),
        }
        for property_id, each in zip(property_ids, found, strict=bool(found))
    ]
