"""What becomes of each row of an answer: untouched, corrected or refused, by which gates, and why.

A corrected row leaves here only after :func:`recheck`, which looks at the values as they will stand on the wire, in
exact arithmetic, and does not care how they were made.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sidecar.errors import Reason
from sidecar.gates.exact import requirement_holds
from sidecar.gates.membership import contains
from sidecar.gates.prepare import PreparedGates, tensor_places
from sidecar.gates.projection import project
from sidecar.gates.satisfaction import lacks_required_values, satisfied
from sidecar.gates.values import Action, Mode
from sidecar.tensors import Rows, decode_raw, encode_raw


class Outcome(enum.StrEnum):
    """What was done with a row."""

    UNTOUCHED = "untouched"
    CORRECTED = "corrected"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True, eq=False)
class RowDecision:
    """The decision on one row on which some gate fired.

    Args:
        row: its index in the batch.
        outcome: untouched where only shadow gates fired.
        fired: enforced gates that fired, ascending.
        shadow_fired: shadow gates that fired, ascending.
        action: the strongest action among the fired enforced gates; None where there is none.
        reason: set when refused.
        output: float64 (output,); what is sent instead; set when corrected.
        largest_change: the largest absolute change of an output; infinite where a non-finite value was replaced,
            0.0 where nothing was corrected.
    """

    row: int
    outcome: Outcome
    fired: tuple[int, ...]
    shadow_fired: tuple[int, ...]
    action: Action | None
    reason: Reason | None
    output: npt.NDArray[np.float64] | None
    largest_change: float


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions on all rows of an answer.

    Args:
        contained: bool (row, gate); whatever the gate's mode.
        violated: bool (row, gate); contained, not off, and not satisfied.
        rows: the rows on which some gate that is not off fired, ascending.
    """

    contained: npt.NDArray[np.bool_]
    violated: npt.NDArray[np.bool_]
    rows: tuple[RowDecision, ...]


def decide(prepared: PreparedGates, modes: Sequence[Mode], inputs: Rows, outputs: Rows) -> Decisions:
    """Judge every row of an answer, and correct what must be corrected.

    Args:
        modes: one per gate.
        inputs: float64 (row, input); finite values of the wire datatypes.
        outputs: float64 (row, output); values of the wire datatypes, any.
    """
    contained = contains(prepared, inputs)
    watched = contained & [mode is not Mode.OFF for mode in modes]
    violated = watched & ~satisfied(prepared, inputs, outputs, watched)
    rows = tuple(
        _decide_row(prepared, modes, int(row), inputs[row], outputs[row], contained[row], violated[row])
        for row in violated.any(axis=1).nonzero()[0]
    )
    return Decisions(contained, violated, rows)


def recheck(
    prepared: PreparedGates, gates: Sequence[int], inputs: npt.NDArray[np.float64], output: npt.NDArray[np.float64]
) -> bool:
    """Whether an answer, encoded to the wire's bytes and decoded again, satisfies some gates exactly."""
    try:
        wire = _over_the_wire(prepared, output)
    except ValueError:
        return False
    if lacks_required_values(prepared, inputs[np.newaxis], wire[np.newaxis])[0, list(gates)].any():
        return False
    x, y = inputs.tolist(), wire.tolist()
    return all(requirement_holds(prepared.gates[gate].requirement, x, y) for gate in gates)
