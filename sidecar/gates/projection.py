"""`project`: the nearest answer that satisfies all properties that hold for a row, as values of the wire.

The nearest point is found exactly, in rational arithmetic (in whole numbers first: :mod:`sidecar.gates.closed_form`),
and rounded to the outputs' wire datatypes. Rounding can
undo a requirement, a strict one nearly always; then the clauses that it undid are tightened, by doubling steps from
about one spacing of the datatype, and the search starts again. What is returned has passed the stated requirement
exactly, on the rounded values.
"""

import dataclasses
import enum
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sidecar.gates.disjuncts import search
from sidecar.gates.exact import Row, clause_holds, sum_of_products
from sidecar.gates.halfspaces import Change, Halfspace, JointClause, joint_clauses
from sidecar.gates.limits import PROJECTION_WORK, TooCostly, Work
from sidecar.gates.movable import held_outputs
from sidecar.gates.prepare import PreparedGates
from sidecar.gates.values import Norm
from sidecar.numerics import FIRST_GROWTH, MAX_GROWTH_ROUNDS, round_to_datatype, spacing
from sidecar.tensors import Datatype


class Obstacle(enum.StrEnum):
    """Why there is no projection."""

    CONTRADICTION = "contradiction"
    OUT_OF_RANGE = "out_of_range"
    NO_WIRE_VALUES = "no_wire_values"
    TOO_COSTLY = "too_costly"


@dataclasses.dataclass(frozen=True, eq=False)
class ProjectionResult:
    """Either an answer or what stood in the way.

    Args:
        output: float64 (output,); values of the wire datatypes, bit-identical where nothing had to move. None with an
            obstacle.
        obstacle: None with an output.
    """

    output: npt.NDArray[np.float64] | None
    obstacle: Obstacle | None


def project(
    prepared: PreparedGates, gates: Sequence[int], inputs: Row, outputs: npt.NDArray[np.float64]
) -> ProjectionResult:
    """The nearest answer that satisfies some gates jointly, among those with the same integer outputs.

    The distance is the gates' norm; L2 where they differ. It exceeds the distance to the exact nearest point by no more
    than the slack of ``numerics.ROUNDING_SLACK_ULPS``.

    Args:
        prepared: the model's gates.
        gates: which gates must hold; all enforced ones that contain the row.
        inputs: one finite row.
        outputs: float64 (output,); values of the wire datatypes, finite where the gates' literals mention them.
    """
    found = project_in_closed_form(prepared, gates, inputs, outputs)
    return project_by_search(prepared, gates, inputs, outputs) if found is None else found


def project_in_closed_form(
    prepared: PreparedGates, gates: Sequence[int], inputs: Row, outputs: npt.NDArray[np.float64]
) -> ProjectionResult | None:
    """As :func:`project`, where that has a closed form, which is surely short; None where it takes a search."""
    form = prepared.closed_forms.of(gates)
    if form is None:
        return None
    try:
        moved = form.nearest(inputs, outputs)
    except OverflowError:
        return ProjectionResult(None, Obstacle.OUT_OF_RANGE)
    if moved is None:
        return None
    output = outputs.copy()
    for index, value in moved.items():
        output[index] = value
    return ProjectionResult(output, None)


def project_by_search(
    prepared: PreparedGates, gates: Sequence[int], inputs: Row, outputs: npt.NDArray[np.float64]
) -> ProjectionResult:
    """As :func:`project`, in rational numbers throughout: what the closed forms are held to."""
    joint = [prepared.gates[number] for number in gates]
    norms = {gate.norm for gate in joint}
    try:
        return _grow_until_it_holds(
            clauses=joint_clauses(joint, inputs, outputs.tolist(), held_outputs(prepared.signature)),
            inputs=inputs,
            outputs=outputs,
            norm=norms.pop() if len(norms) == 1 else Norm.L2,
            datatypes=prepared.signature.output_datatypes(),
        )
    except OverflowError:
        return ProjectionResult(None, Obstacle.OUT_OF_RANGE)
    except TooCostly:
        return ProjectionResult(None, Obstacle.TOO_COSTLY)


def _grow_until_it_holds(
    clauses: Sequence[JointClause],
    inputs: Row,
    outputs: npt.NDArray[np.float64],
    norm: Norm,
    datatypes: Sequence[Datatype],
) -> ProjectionResult:
    tightened = [clause.halfspaces for clause in clauses]
    work = Work(PROJECTION_WORK)
    for attempt in range(MAX_GROWTH_ROUNDS):
        change = search(tightened, norm, work)
        if change is None:
            return ProjectionResult(None, Obstacle.NO_WIRE_VALUES if attempt else Obstacle.CONTRADICTION)
        output = _on_the_wire(change, outputs, datatypes)
        values = output.tolist()
        failing = [number for number, clause in enumerate(clauses) if not clause_holds(clause.literals, inputs, values)]
        if not failing:
            return ProjectionResult(output, None)
        for number in failing:
            pairs = zip(clauses[number].halfspaces, tightened[number], strict=True)
            tightened[number] = tuple(_grown(stated, current, values, datatypes) for stated, current in pairs)
    return ProjectionResult(None, Obstacle.NO_WIRE_VALUES)


def _on_the_wire(
    change: Change, outputs: npt.NDArray[np.float64], datatypes: Sequence[Datatype]
) -> npt.NDArray[np.float64]:
    """The answer after a change, rounded. What need not move keeps its bits, the sign of a zero included."""
    output = outputs.copy()
    for index, value in change.items():
        output[index] = round_to_datatype(Fraction(float(outputs[index])) + value, datatypes[index])
    return output


def _grown(stated: Halfspace, current: Halfspace, values: Row, datatypes: Sequence[Datatype]) -> Halfspace:
    """A halfspace tightened twice as far as it is, and by no less than what rounding around an answer can undo."""
    first = FIRST_GROWTH * _rounding_change(stated, values, datatypes)
    return stated.tightened(max(2 * (current.shortfall - stated.shortfall), first))


def _rounding_change(halfspace: Halfspace, values: Row, datatypes: Sequence[Datatype]) -> Fraction:
    """The most that rounding can change the literal's value by: half a spacing for each output."""
    pairs = ((abs(value), spacing(Fraction(values[index]), datatypes[index])) for index, value in halfspace.normal)
    return sum_of_products(pairs) / 2
