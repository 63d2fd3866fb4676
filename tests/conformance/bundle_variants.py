"""Bundles for the conformance model that correct differently, so that an answer tells which of them judged it."""

import dataclasses

from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import Label
from sidecar.gates.values import Action, Mode
from tests.conformance.guarded_model import MODEL, bundle, gate, half_silent, leaf, literal, request, response


def variant(level: int, revision: int = 3, name: str = MODEL) -> bytes:
    """`ceiling: y0 <= level` where x0 is in 0..1; `order: y0 >= y1`, fallback (level, 0, 0; 0), where it is in 2..3."""
    gates = (
        (gate("ceiling", ("0", "1"), [[literal({0: -1}, level)]]), Mode.ENFORCE, half_silent()),
        (
            gate("order", ("2", "3"), [[literal({0: 1, 1: -1}, 0)]], Action.FALLBACK, (level, 0, 0, 0)),
            Mode.ENFORCE,
            leaf(Label.OPEN),
        ),
    )
    made = bundle(name=name, gates=gates)
    return encode(dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, revision=revision)))


BOTH_GATES = request([[0.75, 0], [2.5, 0]]).SerializeToString()
"""Two rows: one for each gate."""

BOTH_VIOLATED = response([[9, 2, 1], [8, 9, 1]]).SerializeToString()
"""An answer to them that each gate corrects: to y0 = level in both rows."""
