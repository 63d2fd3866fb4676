"""Further models with the tensors of ``guarded``, for what it cannot show.

watching   its gates, all in shadow
asleep     its gates, all off
single     its gates, and no batch axis: a message is one row
pile       several gates meet, of all actions; x1 is in -10..10 where nothing else is said
    x0 in   0..1     low:    y0 <= 1, project
    x0 in   0..0.75  still:  y1 <= 1, fallback (0, 0, 0; 0)
    x0 in   0..0.5   never:  y2 <= 1, refuse
    x0 in   0..1     seen:   y0 <= 0.5, in shadow
    x0 in   2..3     wedge:  y0 <= 1 where x0 + x1 >= 2, project
    x0 in   4..5 and 6..7    twin: y0 <= 1, project
    x0 in   8..9     tied:   y0 >= x1 + z, project
"""

import dataclasses
from fractions import Fraction

from sidecar.bundle.coverage import Label
from sidecar.gates.values import Action, Gate, Literal, Mode
from tests.conformance.guarded_model import GATES, SIGNATURE, bundle_bytes, gate, leaf, literal

WATCHING, ASLEEP, SINGLE, PILE = "watching", "asleep", "single", "pile"
NAMES = (WATCHING, ASLEEP, SINGLE, PILE)


def _at_most_one(output: int):
    return [[literal({output: -1}, 1)]]


def _wedge() -> Gate:
    made = gate("wedge", ("2", "3"), _at_most_one(0))
    cut = Literal(outputs=(), inputs=((0, Fraction(1)), (1, Fraction(1))), offset=Fraction(-2), strict=False)
    return dataclasses.replace(made, domain=(dataclasses.replace(made.domain[0], cuts=(cut,)),))


def _twin() -> Gate:
    first, second = gate("twin", ("4", "5"), _at_most_one(0)), gate("twin", ("6", "7"), _at_most_one(0))
    return dataclasses.replace(first, domain=(*first.domain, *second.domain))


def _tied() -> Gate:
    return gate(
        "tied",
        ("8", "9"),
        [[Literal(((0, Fraction(1)), (3, Fraction(-1))), ((1, Fraction(-1)),), Fraction(0), strict=False)]],
    )


_PILE = (
    (gate("low", ("0", "1"), _at_most_one(0)), Mode.ENFORCE),
    (gate("still", ("0", "3/4"), _at_most_one(1), Action.FALLBACK, (0, 0, 0, 0)), Mode.ENFORCE),
    (gate("never", ("0", "1/2"), _at_most_one(2), Action.REFUSE), Mode.ENFORCE),
    (gate("seen", ("0", "1"), [[literal({0: -2}, 1)]]), Mode.SHADOW),
    (_wedge(), Mode.ENFORCE),
    (_twin(), Mode.ENFORCE),
    (_tied(), Mode.ENFORCE),
)


def more_bundles() -> list[bytes]:
    """A bundle for each of the models."""
    return [
        bundle_bytes(name=WATCHING, gates=tuple((each, Mode.SHADOW, tree) for each, _, tree in GATES)),
        bundle_bytes(name=ASLEEP, gates=tuple((each, Mode.OFF, tree) for each, _, tree in GATES)),
        bundle_bytes(name=SINGLE, signature=SIGNATURE.with_batch_axis(None)),
        bundle_bytes(name=PILE, gates=tuple((each, mode, leaf(Label.OPEN)) for each, mode in _PILE)),
    ]
