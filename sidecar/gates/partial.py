"""Which gates are certainly violated where only some of the outputs can be read.

Soundness: a violation that is reported is one, whatever the unreadable values are; and every violation of a gate that
requires readable values only is reported. Of other gates, those are that show in a clause that mentions readable
values only, or in a readable value that is not finite.
"""

import numpy as np
import numpy.typing as npt

from sidecar.gates.exact import requirement_holds
from sidecar.gates.prepare import PreparedGates
from sidecar.gates.satisfaction import satisfied
from sidecar.gates.values import Requirement
from sidecar.tensors import Rows


def surely_violated(
    prepared: PreparedGates,
    inputs: Rows,
    outputs: Rows,
    readable: npt.NDArray[np.bool_],
    considered: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which considered gates are violated for certain.

    Args:
        prepared: the gates.
        inputs: float64 (row, input), finite.
        outputs: float64 (row, output); anything where not readable.
        readable: bool (output,); the same for all values of a tensor.
        considered: bool (row, gate); what is asked for.

    Returns:
        bool (row, gate); False where not considered.
    """
    required = prepared.required[:, 1 + inputs.shape[1] :]
    whole = considered & ~(required & ~readable).any(axis=1)
    violated = whole & ~satisfied(prepared, inputs, outputs, whole)
    for row, gate in np.argwhere(considered & ~whole):
        known = _readable_part(prepared.gates[gate].requirement, readable)
        finite = np.isfinite(outputs[row][required[gate] & readable]).all()
        violated[row, gate] = not finite or not requirement_holds(known, inputs[row], outputs[row])
    return violated


def _readable_part(requirement: Requirement, readable: npt.NDArray[np.bool_]) -> Requirement:
    """The clauses that mention readable outputs only."""
    return Requirement(
        tuple(
            clause
            for clause in requirement.clauses
            if all(readable[index] for literal in clause for index, _ in literal.outputs)
        )
    )
