"""Cases about requested outputs: every choice of them, in more than one order, whatever becomes of the answer."""

import dataclasses
import itertools
from collections.abc import Sequence

from sidecar.errors import Reason
from tests.conformance.building import OUTSIDE, case, failed
from tests.conformance.expectations import VeryBytes
from tests.conformance.guarded_model import request, response, typed_response

Rows = tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class CutDown:
    """The client gets these values in the named outputs, and not the outputs that it had not asked for."""

    without: tuple[str, ...]
    corrected: dict[str, Rows]


ALL = ("y", "note", "z")
CHOICES = [names for size in (1, 2, 3) for names in itertools.permutations(ALL, size)]


def asking(names: Sequence[str], x):
    message = request(x)
    for name in names:
        message.outputs.add(name=name).parameters["binary_data_output"].bool_param = True
    return message


def _missing(names: Sequence[str]) -> tuple[str, ...]:
    """Gated, and asked for on the gates' behalf."""
    return tuple(name for name in ("y", "z") if name not in names)


def _shown(names: Sequence[str], **corrected) -> CutDown:
    return CutDown(_missing(names), {name: rows for name, rows in corrected.items() if name in names})


FALLBACK = {"y": ((1, 0, 0),), "z": ((0,),)}
OUTPUT_CASES = [
    made
    for names in CHOICES
    for said in [" then ".join(names)]
    for made in (
        case(
            f"{said} asked for of a satisfied row",
            asking(names, [0.75, 0]),
            response([[0.5, 0, 0]]),
            VeryBytes("untouched", without=_missing(names)),
        ),
        case(
            f"{said} asked for of a projected row",
            asking(names, [0.75, 0]),
            response([[3, 2, 1]], [4]),
            _shown(names, y=((1, 2, 1),)),
        ),
        case(
            f"{said} asked for of a row with a fallback in a typed answer",
            asking(names, [2.5, 0]),
            typed_response([[0, 1, 0]], [7]),
            _shown(names, **FALLBACK),
        ),
    )
]
OUTPUT_CASES += [
    case(f"{name} asked for outside", asking([name], [1.5, 0]), response([[9, 9, 9]]), OUTSIDE) for name in ALL
]
OUTPUT_CASES += [
    case(
        f"{name} asked for of a refused row",
        asking([name], [4.5, 0]),
        response([[0, 0, 0]]),
        failed(Reason.GATE_REFUSED),
    )
    for name in ALL
]
OUTPUT_CASES += [
    case(
        "an output that the model does not have asked for",
        asking(["nothing"], [0.75, 0]),
        response([[0.5, 0, 0]]),
        VeryBytes("untouched", without=("y", "z")),
    ),
    case(
        "an ungated output asked for twice",
        asking(["note", "note"], [0.75, 0]),
        response([[0.5, 0, 0]]),
        VeryBytes("untouched", without=("y", "z")),
    ),
    case(
        "an output without a name asked for",
        asking([""], [0.75, 0]),
        response([[0.5, 0, 0]]),
        VeryBytes("untouched", without=("y", "z")),
    ),
]
