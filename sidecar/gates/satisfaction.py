"""Which rows satisfy which gates' requirements: the float64 filter, and exact rationals where it cannot decide.

A non-finite value satisfies nothing: it violates every gate that requires it (``PreparedGates.required``). A gate
requires the output tensors that its requirement mentions, as a whole: a client that reads a score reads its neighbours
too. A tensor that the requirement does not mention may hold anything.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sidecar.gates.blocks import in_blocks
from sidecar.gates.exact import requirement_holds
from sidecar.gates.filter import filter_literals
from sidecar.gates.one_row import known_of_clauses
from sidecar.gates.prepare import PreparedGates
from sidecar.tensors import Rows


def satisfied(
    prepared: PreparedGates, inputs: Rows, outputs: Rows, considered: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Exact satisfaction of each considered gate on each row.

    Args:
        prepared: the gates.
        inputs: float64 (row, input).
        outputs: float64 (row, output); any values.
        considered: bool (row, gate); what is asked for.

    Returns:
        bool (row, gate); True where not considered.
    """
    if len(considered) == 1 and (holds := _alone(prepared, inputs[0], outputs[0])) is not None:
        asked = considered[0].tolist()
        return np.array([[not is_asked or holds(gate) for gate, is_asked in enumerate(asked)]])
    result = np.ones(considered.shape, dtype=np.bool_)
    chosen = np.flatnonzero(considered.any(axis=1))
    if len(chosen):
        of_chosen, inputs, outputs = considered[chosen], inputs[chosen], outputs[chosen]
        width = 2 * len(prepared.literals.columns)
        result[chosen] = in_blocks(
            len(chosen), width, lambda rows: _satisfied(prepared, inputs[rows], outputs[rows], of_chosen[rows])
        )
    return result


def satisfies(
    prepared: PreparedGates, gates: Sequence[int], inputs: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]
) -> bool:
    """Exact satisfaction of some gates on one row, jointly."""
    if (holds := _alone(prepared, inputs, outputs)) is not None:
        return all(map(holds, gates))
    considered = np.zeros((1, len(prepared.gates)), dtype=np.bool_)
    considered[0, list(gates)] = True
    return bool(_satisfied(prepared, inputs[np.newaxis], outputs[np.newaxis], considered).all())


def lacks_required_values(prepared: PreparedGates, inputs: Rows, outputs: Rows) -> npt.NDArray[np.bool_]:
    """Whether a value that the gate requires is not finite, bool (row, gate)."""
    return _lacking(prepared, _extended(inputs, outputs))


def _alone(
    prepared: PreparedGates, inputs: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64]
) -> Callable[[int], bool] | None:
    """What tells of each gate whether a row satisfies it, without array operations; None where that is not for them: a
    value that may be required is not finite, or there is much to look at.
    """
    plain = prepared.plain_requirements
    values = None if plain is None else plain.looked_at(inputs, outputs)
    if plain is None or values is None:
        return None
    by_gate = plain.clauses

    def holds(gate: int) -> bool:
        known = known_of_clauses(by_gate[gate], values)
        return requirement_holds(prepared.gates[gate].requirement, inputs, outputs) if known is None else known

    return holds


def _satisfied(
    prepared: PreparedGates, inputs: Rows, outputs: Rows, considered: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    extended = _extended(inputs, outputs)
    lacking = _lacking(prepared, extended)
    known = filter_literals(prepared.literals, extended)
    clauses = np.logical_or.reduceat(known, prepared.clause_literals[:-1], axis=2)
    certain: npt.NDArray[np.bool_]
    certain, possible = np.logical_and.reduceat(clauses, prepared.gate_clauses[:-1], axis=2)
    certain &= ~lacking
    undecided = possible & ~certain & ~lacking & considered
    for row, gate in np.argwhere(undecided):
        requirement = prepared.gates[gate].requirement
        certain[row, gate] = requirement_holds(requirement, inputs[row], outputs[row])
    return certain | ~considered


def _extended(inputs: Rows, outputs: Rows) -> Rows:
    return np.concatenate([np.ones((len(inputs), 1)), inputs, outputs], axis=1)


def _lacking(prepared: PreparedGates, extended: Rows) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(extended)
    if finite.all():
        return np.zeros((len(extended), len(prepared.gates)), dtype=np.bool_)
    return ~finite @ prepared.required.T
