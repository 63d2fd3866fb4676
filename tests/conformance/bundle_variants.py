"""Bundles for the conformance model that correct differently, so that an answer tells which of them judged it."""

import dataclasses

import numpy as np

from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.gates.values import Action, Mode
from tests.conformance.guarded_model import MODEL, bundle, gate, leaf, literal, request, response


def variant(level: int, revision: int = 3, name: str = MODEL, depth: int = 1) -> bytes:
    """`ceiling: y0 <= level` where x0 is in 0..1; `order: y0 >= y1`, fallback (level, 0, 0; 0), where it is in 2..3.

    ``depth`` makes it large: the coverage of `ceiling` has two to this power leaves.
    """
    gates = (
        (gate("ceiling", ("0", "1"), [[literal({0: -1}, level)]]), Mode.ENFORCE, _halved(depth)),
        (
            gate("order", ("2", "3"), [[literal({0: 1, 1: -1}, 0)]], Action.FALLBACK, (level, 0, 0, 0)),
            Mode.ENFORCE,
            leaf(Label.OPEN),
        ),
    )
    made = bundle(name=name, gates=gates)
    return encode(dataclasses.replace(made, manifest=dataclasses.replace(made.manifest, revision=revision)))


def _halved(depth: int) -> CoverageTree:
    """0..1 halved again and again along x0; the leaves are silent and open in turn."""
    splits, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    index = np.arange(nodes, dtype=np.int32)
    level = np.floor(np.log2(index + 1.0)).astype(np.int32)
    split = index < splits
    share = np.ldexp(1.0, -level)
    return CoverageTree(
        feature=np.where(split, 0, LEAF).astype(np.int32),
        threshold=np.where(split, (index + 1 - 2**level + 0.5) * share, 0.0),
        label=np.where(split, 0, np.where(index % 2, Label.SILENT, Label.OPEN)).astype(np.uint8),
        volume=np.array([0.0, 0.5, 0.0, 0.5]),
    )


BOTH_GATES = request([[0.75, 0], [2.5, 0]]).SerializeToString()
"""Two rows: one for each gate."""

BOTH_VIOLATED = response([[9, 2, 1], [8, 9, 1]]).SerializeToString()
"""An answer to them that each gate corrects: to y0 = level in both rows."""
