"""Which rows lie in which gates' effective domains.

Boxes are decided by comparing wire values with wire bounds, which is exact; cuts go through the float64
filter, and to exact rationals where it cannot decide. A row with a non-finite value lies in no domain here: refusing
it is the request path's business, before anything is forwarded.
"""

import numpy as np
import numpy.typing as npt

from sidecar.gates.blocks import in_blocks
from sidecar.gates.exact import literal_holds
from sidecar.gates.filter import filter_literals
from sidecar.gates.one_row import in_some_box
from sidecar.gates.prepare import PreparedGates
from sidecar.tensors import Rows


def contains(prepared: PreparedGates, inputs: Rows) -> npt.NDArray[np.bool_]:
    """Exact membership.

    Args:
        prepared: the gates.
        inputs: float64 (row, input); values of the inputs' wire datatypes.

    Returns:
        bool (row, gate).
    """
    if len(inputs) == 1 and prepared.plain_boxes is not None:
        row = inputs[0].tolist()
        return np.array([[in_some_box(boxes, row) for boxes in prepared.plain_boxes]])
    width = prepared.lower.size + 2 * len(prepared.cuts.columns)
    return in_blocks(len(inputs), width, lambda rows: _contains(prepared, inputs[rows]))


def _contains(prepared: PreparedGates, inputs: Rows) -> npt.NDArray[np.bool_]:
    values = inputs[:, np.newaxis, :]
    within = (values >= prepared.lower) & (values <= prepared.upper)
    inside: npt.NDArray[np.bool_] = np.logical_and.reduce(within, axis=2)
    if len(prepared.cut_regions):
        in_box = inside[:, prepared.cut_regions]
        inside[:, prepared.cut_regions] = in_box & _satisfies_cuts(prepared, inputs, in_box)
    contained: npt.NDArray[np.bool_] = np.logical_or.reduceat(inside, prepared.gate_regions[:-1], axis=1)
    return contained


def _satisfies_cuts(prepared: PreparedGates, inputs: Rows, considered: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows satisfy all cuts, bool (row, cut region); exact where ``considered``, of the same shape."""
    extended = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
    known = filter_literals(prepared.cuts, extended)
    certain: npt.NDArray[np.bool_]
    certain, possible = np.logical_and.reduceat(known, prepared.region_cuts[:-1], axis=2)
    regions = [region for gate in prepared.gates for region in gate.domain]
    for row, place in np.argwhere(possible & ~certain & considered):
        cuts = regions[prepared.cut_regions[place]].cuts
        certain[row, place] = all(literal_holds(cut, inputs[row], ()) for cut in cuts)
    return certain
