"""What becomes of each row of an answer: untouched, corrected or refused, by which gates, and why.

A corrected row leaves here only after :func:`recheck`, which looks at the values as they will stand on the wire, in
exact arithmetic, and does not care how they were made.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from sidecar.errors import Reason
from sidecar.gates.membership import contains
from sidecar.gates.prepare import PreparedGates
from sidecar.gates.projection import project_by_search, project_in_closed_form
from sidecar.gates.satisfaction import lacks_required_values, satisfied, satisfies
from sidecar.gates.steps import Steps, finish
from sidecar.gates.values import Action, Mode
from sidecar.tensors import Rows, all_finite, decode_raw, encode_raw

_FEW_VALUES: Final = 64
"""Up to that many are compared one by one, in less time than array operations take."""

_FIRING: Final = (Mode.ENFORCE, Mode.SHADOW)
_STRONGEST_FIRST: Final = (Action.REFUSE, Action.FALLBACK, Action.PROJECT)


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
        contained: bool (row, gate); whatever the gate's mode, as far as was known.
        violated: bool (row, gate); contained, not off, and not satisfied.
        rows: the rows on which some gate that is not off fired, ascending.
    """

    contained: npt.NDArray[np.bool_]
    violated: npt.NDArray[np.bool_]
    rows: tuple[RowDecision, ...]


def decide(prepared: PreparedGates, modes: Sequence[Mode], inputs: Rows, outputs: Rows) -> Decisions:
    """Judge every row of an answer, and correct what must be corrected.

    Args:
        prepared: the model's gates.
        modes: one per gate.
        inputs: float64 (row, input); finite values of the wire datatypes.
        outputs: float64 (row, output); values of the wire datatypes, any.
    """
    return finish(decide_in_steps(prepared, modes, contains(prepared, inputs), inputs, outputs))


def decide_in_steps(
    prepared: PreparedGates, modes: Sequence[Mode], contained: npt.NDArray[np.bool_], inputs: Rows, outputs: Rows
) -> Steps[Decisions]:
    """As :func:`decide`, with a stop before each row on which an enforced gate fires. A row alone is answered without
    one where that takes no search: it is short then, too.

    ``contained`` is bool (row, gate): what :func:`contains` says, and anything of gates that are off.
    """
    watched = contained & [mode is not Mode.OFF for mode in modes] if Mode.OFF in modes else contained
    violated = watched & ~satisfied(prepared, inputs, outputs, watched)
    if not np.count_nonzero(violated):  # of one row, in a tenth of the time of any()
        return Decisions(contained, violated, ())
    if len(inputs) == 1:
        fired = _fired(modes, violated[0])
        row = yield from _decide_row(prepared, modes, 0, inputs[0], outputs[0], contained[0], fired, alone=True)
        return Decisions(contained, violated, (row,))
    left = int(violated[:, [mode is Mode.ENFORCE for mode in modes]].any(axis=1).sum())
    rows = []
    for number in np.flatnonzero(violated.any(axis=1)).tolist():
        fired = _fired(modes, violated[number])
        if fired[Mode.ENFORCE]:
            yield left
            left -= 1
        given = number, inputs[number], outputs[number], contained[number]
        rows.append((yield from _decide_row(prepared, modes, *given, fired, alone=False)))
    return Decisions(contained, violated, tuple(rows))


def _fired(modes: Sequence[Mode], violated: npt.NDArray[np.bool_]) -> dict[Mode, tuple[int, ...]]:
    """The gates that fired on a row, ascending, by their mode."""
    fired = [gate for gate, is_violated in enumerate(violated.tolist()) if is_violated]
    return {mode: tuple([gate for gate in fired if modes[gate] is mode]) for mode in _FIRING}


def recheck(
    prepared: PreparedGates, gates: Sequence[int], inputs: npt.NDArray[np.float64], output: npt.NDArray[np.float64]
) -> bool:
    """Whether an answer, encoded to the wire's bytes and decoded again, satisfies some gates exactly."""
    try:
        wire = _over_the_wire(prepared, output)
    except ValueError:
        return False
    return satisfies(prepared, gates, inputs, wire)


def _decide_row(
    prepared: PreparedGates,
    modes: Sequence[Mode],
    row: int,
    inputs: npt.NDArray[np.float64],
    outputs: npt.NDArray[np.float64],
    contained: npt.NDArray[np.bool_],
    by_mode: dict[Mode, tuple[int, ...]],
    *,
    alone: bool,
) -> Steps[RowDecision]:
    """The decision on a row; of one that is alone with a stop before a search."""
    fired, shadow_fired = by_mode[Mode.ENFORCE], by_mode[Mode.SHADOW]
    if not fired:
        return RowDecision(row, Outcome.UNTOUCHED, fired, shadow_fired, None, None, None, 0.0)
    inside = contained.tolist()
    joint = [gate for gate, mode in enumerate(modes) if mode is Mode.ENFORCE and inside[gate]]
    action = _strongest(prepared.gates[gate].action for gate in fired)
    answer = yield from _answer(prepared, action, fired, joint, inputs, outputs, alone=alone)
    if isinstance(answer, Reason):
        return RowDecision(row, Outcome.REFUSED, fired, shadow_fired, action, answer, None, 0.0)
    change = _largest_change(outputs, answer)
    return RowDecision(row, Outcome.CORRECTED, fired, shadow_fired, action, None, answer, change)


def _strongest(actions: Iterable[Action]) -> Action:
    return min(actions, key=_STRONGEST_FIRST.index)


def _answer(
    prepared: PreparedGates,
    action: Action,
    fired: Sequence[int],
    joint: Sequence[int],
    inputs: npt.NDArray[np.float64],
    outputs: npt.NDArray[np.float64],
    *,
    alone: bool,
) -> Steps[npt.NDArray[np.float64] | Reason]:
    """An answer that has passed the final check of all enforced gates that contain the row, or why there is none."""
    match action:
        case Action.REFUSE:
            return Reason.GATE_REFUSED
        case Action.FALLBACK:
            candidates = [prepared.fallbacks[gate] for gate in fired if prepared.gates[gate].action is Action.FALLBACK]
        case Action.PROJECT:
            if _lacks_values(prepared, joint, inputs, outputs):
                return Reason.OUTPUT_NOT_FINITE
            projected = project_in_closed_form(prepared, joint, inputs, outputs)
            if projected is None:
                if alone:
                    yield 1
                projected = project_by_search(prepared, joint, inputs, outputs)
            candidates = [] if projected.output is None else [projected.output]
        case _:
            assert_never(action)
    passing = (candidate for candidate in candidates if recheck(prepared, joint, inputs, candidate))
    return next(passing, Reason.CORRECTION_FAILED)


def _lacks_values(
    prepared: PreparedGates,
    gates: Sequence[int],
    inputs: npt.NDArray[np.float64],
    outputs: npt.NDArray[np.float64],
) -> bool:
    if all_finite(outputs) and all_finite(inputs):
        return False
    lacking = lacks_required_values(prepared, inputs[np.newaxis], outputs[np.newaxis])
    return bool(lacking[0, list(gates)].any())


def _over_the_wire(prepared: PreparedGates, output: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a client decodes from the bytes of an answer. Raises ValueError where a value has no encoding."""
    specs = prepared.signature.outputs
    tensors = [
        decode_raw(encode_raw(output[places.start : places.stop], spec.datatype), spec.datatype)
        for spec, places in zip(specs, prepared.output_places, strict=True)
    ]
    return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)


def _largest_change(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> float:
    if len(before) <= _FEW_VALUES:
        pairs = zip(before.tolist(), after.tolist(), strict=True)
        return max([0.0 if one == other else _change(one, other) for one, other in pairs])
    changed = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    changes = np.abs(after[changed] - before[changed])
    return math.inf if np.isnan(changes).any() else float(np.max(changes, initial=0.0))


def _change(before: float, after: float) -> float:
    if math.isnan(before) and math.isnan(after):
        return 0.0
    change = abs(after - before)
    return math.inf if math.isnan(change) else change
