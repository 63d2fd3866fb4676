"""Sound bounds of a requirement's literals over one box at a time, compiled: the mathematics of
:mod:`sidecar.compiler.bounds` and :mod:`sidecar.compiler.relaxation`, whose NumPy form is the reference.

Three things differ from the reference, none of them in what is computed. Dead neurons are left out: each stage's live
ones are a compact list, its weights between live neurons a compact matrix (*link*). Rows are carried backward a few
at a time, in whatever order of summation. What is not finite ends a box at once, as unknown.

Rounding. The argument in :mod:`~sidecar.compiler.bounds` counts roundings along each monomial and holds for any order
of summation; a fused product and sum has one rounding less. Both are used where monomials, or terms of one sign, are
added up (:mod:`~sidecar.compiler.lanes`, ``lowest``) and nowhere else: relaxations and decisions are compiled as they
stand.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.bounds import Phases
from sidecar.compiler.flat import LANES, FlatProblem
from sidecar.compiler.jit import in_any_order, strict
from sidecar.compiler.lanes import add_rows, gather, pass_relus, product
from sidecar.compiler.rounding import INFLATE, TINY

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

_ROWS: Final = 32
"""Rows that are carried backward together: with their successors they fit in the first cache."""


class Work(NamedTuple):
    """Room for one box at a time.

    Args:
        alive: int64 (stage, neuron); the live neurons of each hidden stage, ``live`` (stage,) of them.
        inner: (3, live neuron); middle, radius and magnitude of the stage's inputs.
        rise, chord, lift, error: (stage, live neuron); the lower and the upper relaxation's slope, the upper one's
            shift, ``E``.
        tight: (stage, live neuron); lower slopes that make the relaxations exact at one point.
        link: (stage, live neuron, live neuron before); the stage's bias stands after the last column.
        form, passed: (row, neuron); rows on their way back. constant: (row,).
        layer: (3, neuron); middle, radius without ``E``, and ``E`` of the stage at hand.
        z_lower, z_upper: (neuron,); its bounds.
        box_magnitude: (input,).
        unstable, inputs: int64 (neuron,); the neurons to be tightened; all inputs, ended as ``alive`` is.
        reach: (stage, neuron, input); how strongly an unstable neuron's value varies along each input.
        gap: (2, stage, live neuron); the most by which a relaxation misses the ReLU, for rising coefficients and for
            falling ones.
    """

    alive: Integers
    live: Integers
    inner: Floats
    rise: Floats
    chord: Floats
    lift: Floats
    error: Floats
    tight: Floats
    link: Floats
    form: Floats
    passed: Floats
    constant: Floats
    z_lower: Floats
    z_upper: Floats
    layer: Floats
    box_magnitude: Floats
    unstable: Integers
    inputs: Integers
    reach: Floats
    gap: Floats


def new_work(problem: FlatProblem) -> Work:
    """Room for one box."""
    stages, widest = problem.weight.shape[:2]
    inputs, rows = int(problem.sizes[0]), max(_ROWS, -(-len(problem.literal_bias) // 4) * 4)
    every_input = np.full(widest, widest - 2)
    every_input[: inputs + 1] = [*range(inputs), widest - 1]
    return Work(
        alive=np.zeros((stages, widest), dtype=np.int64),
        live=np.zeros(stages, dtype=np.int64),
        inner=np.zeros((3, widest)),
        rise=np.zeros((stages, widest)),
        chord=np.zeros((stages, widest)),
        lift=np.zeros((stages, widest)),
        error=np.zeros((stages, widest)),
        tight=np.zeros((stages, widest)),
        link=np.zeros((stages, widest, widest)),
        form=np.zeros((rows, widest)),
        passed=np.zeros((rows, widest)),
        constant=np.zeros(rows),
        z_lower=np.zeros(widest),
        z_upper=np.zeros(widest),
        layer=np.zeros((3, widest)),
        box_magnitude=np.zeros(inputs),
        unstable=np.zeros(widest, dtype=np.int64),
        inputs=every_input,
        reach=np.zeros((stages, widest, inputs)),
        gap=np.zeros((2, stages, widest)),
    )


@strict
def _end(alive: Integers, count: int) -> None:
    """After a list of live neurons stand the place of the bias and, up to whole lanes, that of a zero."""
    alive[count] = len(alive) - 1
    for index in range(count + 1, (count // LANES + 1) * LANES):
        alive[index] = len(alive) - 2


@strict
def backward(problem: FlatProblem, work: Work, stage: int, rows: int, slopes: Floats) -> Floats:
    """Lower forms in the results of the ReLUs before ``stage`` become lower forms in the inputs.

    Takes ``work.form`` (row, live neuron), padded with zeros, ``work.constant`` (row,), which is updated, and the lower
    relaxations' slopes: ``work.rise``, or any others in [0, 1] that are 1 where a neuron is active. Returns the forms
    (row, input).
    """
    form, passed = work.form, work.passed
    for before in range(stage - 1, -1, -1):
        count = work.live[before]
        columns = work.live[before - 1] if before > 0 else problem.sizes[0]
        rise, chord, lift, error = slopes[before], work.chord[before], work.lift[before], work.error[before]
        for row in range(rows):
            work.constant[row] -= pass_relus(form, row, rise, chord, lift, error, count)
        product(form, rows, work.link[before], count, columns + 1, passed)
        for row in range(rows):
            work.constant[row] += passed[row, columns]
            passed[row, columns] = 0.0
        form, passed = passed, form
    return form


@in_any_order
def lowest(form: Floats, constant: float, lower: Floats, upper: Floats, magnitude: Floats, slack: float) -> float:
    """A lower bound of ``form . x + constant`` over a box, its own rounding charged."""
    least, charge = 0.0, 0.0
    for index in range(len(lower)):
        coefficient = form[index]
        least += coefficient * (lower[index] if coefficient >= 0.0 else upper[index])
        charge += abs(coefficient) * magnitude[index]
    return least + constant - charge * (slack * INFLATE) - TINY


@strict
def _interval(problem: FlatProblem, work: Work, stage: int, alive: Integers, count: int) -> bool:
    """Bounds of a stage's results for live inputs in ``inner``, into ``z_lower``, ``z_upper`` and ``charge``.

    False where something may overflow.
    """
    outputs, largest = problem.sizes[stage + 1], 0.0
    for index in range(count):
        largest = max(largest, work.inner[2, index])
    if not problem.growth[stage] * (1.0 + largest) + problem.shift[stage] <= problem.limit[stage]:
        return False
    centre, spread, charge = work.layer[0], work.layer[1], work.layer[2]
    for neuron in range(outputs):
        centre[neuron] = problem.bias[stage, neuron]
        spread[neuron] = 0.0
        charge[neuron] = problem.error_offset[stage, neuron]
    add_rows(work.layer, work.inner, alive, count, problem.transposed, stage, outputs)
    for neuron in range(outputs):
        middle, radius = centre[neuron], spread[neuron] + charge[neuron]
        work.z_lower[neuron], work.z_upper[neuron] = middle - radius, middle + radius
    return True


@strict
def _tighten(problem: FlatProblem, work: Work, stage: int, box_lower: Floats, box_upper: Floats) -> bool:
    """Improve the bounds of neurons that are not stable yet by a backward pass for each; False on overflow."""
    waiting = 0
    for neuron in range(problem.sizes[stage + 1]):
        if work.z_lower[neuron] < 0.0 and work.z_upper[neuron] > 0.0:
            work.unstable[waiting] = neuron
            waiting += 1
    before, slack = work.live[stage - 1], problem.slack[0]
    for start in range(0, waiting, _ROWS // 2):
        pairs = min(_ROWS // 2, waiting - start)
        for pair in range(pairs):
            neuron = work.unstable[start + pair]
            bias, charge = problem.bias[stage, neuron], work.layer[2, neuron]
            row, negated = work.form[2 * pair], work.form[2 * pair + 1]
            gather(row, problem.weight[stage, neuron], work.alive[stage - 1], before + 1)
            row[before] = 0.0
            for index in range((before // LANES + 1) * LANES):
                negated[index] = -row[index]
            work.constant[2 * pair], work.constant[2 * pair + 1] = bias - charge, -bias - charge
        form = backward(problem, work, stage, 2 * pairs, work.rise)
        for pair in range(pairs):
            neuron = work.unstable[start + pair]
            low = lowest(form[2 * pair], work.constant[2 * pair], box_lower, box_upper, work.box_magnitude, slack)
            high = -lowest(
                form[2 * pair + 1], work.constant[2 * pair + 1], box_lower, box_upper, work.box_magnitude, slack
            )
            if not (np.isfinite(low) and np.isfinite(high)):
                return False
            work.z_lower[neuron] = max(work.z_lower[neuron], low)
            work.z_upper[neuron] = min(work.z_upper[neuron], high)
            for index in range(problem.sizes[0]):
                work.reach[stage, neuron, index] = abs(form[2 * pair, index]) + abs(form[2 * pair + 1, index])
    return True


@strict
def _relax(work: Work, stage: int, neuron: int, at: int, phase: int) -> None:
    """The relaxation of a live neuron, as the stage's ``at``-th; the reasons stand in ``relaxation``."""
    low, high = work.z_lower[neuron], work.z_upper[neuron]
    work.alive[stage, at] = neuron
    _spread(work, at, max(low, 0.0), max(high, 0.0))
    work.error[stage, at] = work.layer[2, neuron]
    work.rise[stage, at], work.chord[stage, at], work.lift[stage, at] = 1.0, 1.0, 0.0
    work.gap[0, stage, at], work.gap[1, stage, at] = 0.0, 0.0
    if phase == 0:
        work.gap[0, stage, at], work.gap[1, stage, at] = min(high, -low), -low * high / (high - low)
        chord = high / (high - low)
        work.rise[stage, at] = 1.0 if high > -low else 0.0
        work.chord[stage, at] = chord
        work.lift[stage, at] = max(-chord * low, (1.0 - chord) * high) * INFLATE + TINY


@strict
def _link(problem: FlatProblem, work: Work, stage: int) -> None:
    """Copy the weights between the live neurons of a stage and those before it, the bias and zeros after them."""
    columns = work.live[stage - 1] if stage > 0 else problem.sizes[0]
    alive, before, link = work.alive[stage], work.alive[stage - 1] if stage > 0 else work.inputs, work.link[stage]
    for index in range(work.live[stage]):
        gather(link[index], problem.weight[stage, alive[index]], before, columns + 1)


@strict
def pass_hidden_stages(problem: FlatProblem, work: Work, box_lower: Floats, box_upper: Floats, phases: Phases) -> bool:
    """Bounds and relaxations of all hidden neurons; ``phases`` (neuron,) is inherited, then what is found.

    False where something may overflow; then nothing is known, and ``phases`` is cleared.
    """
    hidden, first = problem.weight.shape[0] - 1, 0
    for index in range(problem.sizes[0]):
        work.box_magnitude[index] = max(abs(box_lower[index]), abs(box_upper[index]))
    for stage in range(hidden):
        outputs = problem.sizes[stage + 1]
        known = _enter(problem, work, stage, box_lower, box_upper)
        if known:
            for neuron in range(outputs):
                phase = phases[first + neuron]
                if phase > 0:
                    work.z_lower[neuron] = max(work.z_lower[neuron], 0.0)
                elif phase < 0:
                    work.z_upper[neuron] = min(work.z_upper[neuron], 0.0)
            known = stage == 0 or _tighten(problem, work, stage, box_lower, box_upper)
        if not known:
            phases[:] = 0
            return False
        count = 0
        for neuron in range(outputs):
            low, high = work.z_lower[neuron], work.z_upper[neuron]
            if not (np.isfinite(low) and np.isfinite(high)):
                phases[:] = 0
                return False
            phase = 1 if low >= 0.0 else -1 if high <= 0.0 else 0
            phases[first + neuron] = phase
            if phase >= 0:
                _relax(work, stage, neuron, count, phase)
                count += 1
        work.live[stage] = count
        _end(work.alive[stage], count)
        for index in range(count, (count // LANES + 1) * LANES):
            work.rise[stage, index], work.chord[stage, index] = 0.0, 0.0
            work.lift[stage, index], work.error[stage, index] = 0.0, 0.0
        _link(problem, work, stage)
        first += outputs
    return True


@strict
def _enter(problem: FlatProblem, work: Work, stage: int, box_lower: Floats, box_upper: Floats) -> bool:
    """Interval bounds of a stage from what is known of the stage before."""
    if stage == 0:
        for index in range(problem.sizes[0]):
            _spread(work, index, box_lower[index], box_upper[index])
        return _interval(problem, work, 0, work.inputs, problem.sizes[0])
    return _interval(problem, work, stage, work.alive[stage - 1], work.live[stage - 1])


@strict
def _spread(work: Work, at: int, low: float, high: float) -> None:
    work.inner[0, at], work.inner[1, at] = (low + high) * 0.5, (high - low) * 0.5
    work.inner[2, at] = max(abs(low), abs(high))


@strict
def literal_forms(
    problem: FlatProblem, work: Work, box_lower: Floats, box_upper: Floats, first: int, rows: int, slopes: Floats
) -> tuple[bool, Floats]:
    """Lower forms in the inputs of some signed literals, from ``first`` on; their constants in ``work.constant``.

    After ``pass_hidden_stages``. What ``lowest`` then charges is all that is missing. False on overflow.
    """
    last = problem.weight.shape[0] - 1
    before = work.live[last - 1] if last > 0 else problem.sizes[0]
    if not _enter(problem, work, last, box_lower, box_upper):
        return False, work.form
    for output in range(problem.sizes[-1]):
        if not np.isfinite(work.layer[2, output]):
            return False, work.form
    for row in range(rows):
        signed = first + row
        gather(
            work.form[row],
            problem.literal_weight[signed],
            work.alive[last - 1] if last > 0 else work.inputs,
            before + 1,
        )
        loss = 0.0
        for output in range(problem.sizes[-1]):
            loss += problem.literal_magnitude[signed, output] * work.layer[2, output]
        work.constant[row] = problem.literal_bias[signed] - loss
    form = backward(problem, work, last, rows, slopes)
    for row in range(rows):
        signed, own = first + row, abs(problem.literal_offset[first + row])
        for index in range(problem.sizes[0]):
            coefficient = problem.literal_inputs[signed, index]
            own += abs(coefficient) * work.box_magnitude[index]
            form[row, index] += coefficient
        work.constant[row] += problem.literal_offset[signed] - own * (problem.slack[0] * INFLATE)
    return True, form


@strict
def add_nonlinearity(
    problem: FlatProblem, work: Work, rows: int, box_lower: Floats, box_upper: Floats, score: Floats
) -> None:
    """How much of what rows in the last hidden results lose to relaxations is due to each input's width.

    Takes ``work.form`` as ``backward`` does, a multiple of four rows. The loss at a neuron is shared out by how
    strongly its value varies along each input. A guide to splitting, no bound.
    """
    form, passed, inputs = work.form, work.passed, problem.sizes[0]
    for stage in range(problem.weight.shape[0] - 2, -1, -1):
        count = work.live[stage]
        columns = work.live[stage - 1] if stage > 0 else inputs
        for at in range(count):
            if work.lift[stage, at] > 0.0:
                loss = 0.0
                for row in range(rows):
                    coefficient = form[row, at]
                    loss += abs(coefficient) * work.gap[0 if coefficient >= 0.0 else 1, stage, at]
                neuron = work.alive[stage, at]
                reach = problem.weight[0, neuron] if stage == 0 else work.reach[stage, neuron]
                _share_out(loss, reach, box_lower, box_upper, score)
        for row in range(rows):
            pass_relus(form, row, work.rise[stage], work.chord[stage], work.lift[stage], work.error[stage], count)
        product(form, rows, work.link[stage], count, columns + 1, passed)
        for row in range(rows):
            passed[row, columns] = 0.0
        form, passed = passed, form


@strict
def _share_out(loss: float, reach: Floats, box_lower: Floats, box_upper: Floats, score: Floats) -> None:
    total = 0.0
    for index in range(len(score)):
        total += abs(reach[index]) * (box_upper[index] - box_lower[index])
    if loss > 0.0 and total > 0.0:
        for index in range(len(score)):
            score[index] += loss * abs(reach[index]) * (box_upper[index] - box_lower[index]) / total
