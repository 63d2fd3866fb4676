"""One step of the search over each box of a batch, compiled: bound it, settle it, or carve it and say where to halve.

A clause is violated only where each of its literals is at most zero, so only where each literal's lower form is, and
each combination of them with nonnegative factors. Combinations of two are tried here, since two forms that are each
negative somewhere in a box often have no common place where they are: for each clause the strongest literal's form
with every other one's. Where such a form is proved positive no answer violates the clause: that settles a box, or
carves a silent slab off one of its sides. Where a cut should lie is a guess without rounding control; the slab is
carved off only after every clause has been proved all over it.

Bounds are those of :mod:`sidecar.compiler.kernels`. What a step finds out of a box depends on that box alone, so a
batch may be shared out among threads in any way.
"""

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.coverage import Label
from sidecar.compiler.flat import LANES, FlatProblem, FlatStep
from sidecar.compiler.jit import in_any_order, strict
from sidecar.compiler.kernels import Work, add_nonlinearity, literal_forms, lowest, pass_hidden_stages
from sidecar.compiler.lanes import borrowed
from sidecar.compiler.rounding import INFLATE

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

_SILENT, _VIOLATING, _OPEN = int(Label.SILENT), int(Label.VIOLATING), int(Label.OPEN)

_LEAST_CUT: Final = 0.1
"""Part of a box's width that a slab must have to be worth a node of the tree."""

_SAFETY: Final = 1e-6
"""Part of a box's width by which a cut keeps away from the computed boundary, so that rounding cannot spoil it."""

_LEAST_SENSITIVITY: Final = 0.05
"""Floor of a dimension's sensitivity when the one to split is chosen, as part of the largest. Without it some searches
never split dimensions that matter only deeper down."""

_NONLINEARITY: Final = 3.0
"""How much the loss to relaxations counts when the dimension to split is chosen, against the linear forms' variation.
Boxes on N4,2 property 2: 95,000 without it, 66,000 with 0.3, 58,000 with 1, 56,000 with 3, 55,000 with it alone."""

_BISECTIONS: Final = 12
"""Steps towards the best factor of a combination."""


class Forms(NamedTuple):
    """Room for the clauses' forms over one box.

    Args:
        slope: (form, input). constant: (form,). First the literals' own, then their second ones, then for each clause
            its combinations.
        best: int64 (literal,); the better one of each literal's two forms.
        clause_form, start: int64; clause ``c`` has the forms ``clause_form[start[c]:start[c + 1]]``.
        proved: bool (clause,).
        hidden, passed: (neuron,); an evaluation of the network at a point.
        point: (input,); a point to try.
        score, variation: (input,); what halving each dimension promises, how strongly the literals vary along it.
    """

    slope: Floats
    constant: Floats
    best: Integers
    clause_form: Integers
    start: Integers
    proved: npt.NDArray[np.bool_]
    hidden: Floats
    passed: Floats
    point: Floats
    score: Floats
    variation: Floats


def new_forms(problem: FlatProblem) -> Forms:
    """Room for the forms over one box."""
    inputs, widest = int(problem.sizes[0]), problem.weight.shape[1]
    clauses = np.split(problem.clause_literal, problem.clause_start[1:-1])
    members: list[int] = []
    start, count = [0], 2 * len(problem.strict)
    for clause in clauses if len(problem.clause_start) > 1 else []:
        members += [*clause, *(clause + len(problem.strict)), *range(count, count + len(clause) - 1)]
        count += len(clause) - 1
        start.append(len(members))
    return Forms(
        slope=np.zeros((count, inputs)),
        constant=np.zeros(count),
        best=np.arange(len(problem.strict)),
        clause_form=np.array(members, dtype=np.int64),
        start=np.array(start),
        proved=np.zeros(len(start) - 1, dtype=np.bool_),
        hidden=np.zeros(widest),
        passed=np.zeros(widest),
        point=np.zeros(inputs),
        score=np.zeros(inputs),
        variation=np.zeros(inputs),
    )


def step(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, start: int, stop: int, falsify: bool) -> None:
    """The boxes from ``start`` to ``stop``; ``falsify`` tries a second point of each."""
    problem, work, forms, batch = borrowed(problem), borrowed(work), borrowed(forms), borrowed(batch)
    for box in range(start, stop):
        _step(problem, work, forms, batch, box, falsify)


@strict
def _step(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int, falsify: bool) -> None:
    lower, upper = batch.lower[box], batch.upper[box]
    known = pass_hidden_stages(problem, work, lower, upper, batch.phases[box])
    known = _bound(problem, work, forms, batch, box, known)
    if _all_proved(problem, batch.bound_lower[box]):
        batch.label[box] = _SILENT
        return
    if known:
        if _centre_violates(problem, work, forms, batch, box) and _violates(problem, work, batch, box):
            batch.label[box] = _VIOLATING
            return
        _improve(problem, work, forms, batch, box, falsify)
    _clause_forms(problem, work, forms, batch, box)
    if _prove(forms, lower, upper, work.box_magnitude, problem.slack[0]) or _all_proved(
        problem, batch.bound_lower[box]
    ):
        batch.label[box] = _SILENT
    elif not batch.large[box]:
        batch.label[box] = _OPEN
    else:
        _carve(problem, work, forms, batch, box)
        _halve(problem, work, forms, batch, box)


@strict
def _bound(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int, known: bool) -> bool:
    """The literals' lower bounds and forms; the upper bounds are left for ``_violates``."""
    literals = len(problem.strict)
    batch.bound_lower[box], batch.bound_upper[box] = -np.inf, np.inf
    batch.slope[box], batch.constant[box] = 0.0, -np.inf
    for literal in range(literals):
        forms.best[literal] = literal
    forms.slope[: 2 * literals], forms.constant[: 2 * literals] = 0.0, -np.inf
    return known and _bound_again(problem, work, forms, batch, box, 0, work.rise)


@strict
def _bound_again(
    problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int, into: int, slopes: Floats
) -> bool:
    """The literals' forms with some lower slopes, from ``forms`` ``into`` on; the better bound of each is kept."""
    literals, lower, upper = len(problem.strict), batch.lower[box], batch.upper[box]
    known, found = literal_forms(problem, work, lower, upper, 0, literals, slopes)
    if not known:
        return False
    for literal in range(literals):
        form, constant = found[literal], work.constant[literal]
        least = lowest(form, constant, lower, upper, work.box_magnitude, problem.slack[0])
        if np.isfinite(least):
            forms.constant[into + literal] = constant
            for index in range(problem.sizes[0]):
                forms.slope[into + literal, index] = form[index]
            if least > batch.bound_lower[box, literal]:
                batch.bound_lower[box, literal], batch.constant[box, literal] = least, constant
                forms.best[literal] = into + literal
                for index in range(problem.sizes[0]):
                    batch.slope[box, literal, index] = form[index]
    return True


@strict
def _all_proved(problem: FlatProblem, least: Floats) -> bool:
    """Has every clause a literal that is proved to hold?"""
    for clause in range(len(problem.clause_start) - 1):
        proved = False
        for member in range(problem.clause_start[clause], problem.clause_start[clause + 1]):
            literal = problem.clause_literal[member]
            proved |= least[literal] > 0.0 or (least[literal] == 0.0 and not problem.strict[literal])
        if not proved:
            return False
    return True


@strict
def _centre_violates(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int) -> bool:
    lower, upper, point = batch.lower[box], batch.upper[box], batch.point[box]
    for index in range(len(lower)):
        point[index] = (lower[index] + upper[index]) * 0.5
    batch.suspect[box] = _violated_at(problem, work, forms, point)
    return bool(batch.suspect[box])


@strict
def _improve(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int, falsify: bool) -> None:
    """Bound again with relaxations that are exact at the corner to which the strongest literal's form points.

    There the bound is worst. The corner is also where a violation is likely: ``falsify`` lets it count as a suspect.
    """
    literals, lower, upper, corner = len(problem.strict), batch.lower[box], batch.upper[box], forms.point
    slope = batch.slope[box, batch.bound_lower[box].argmax()]
    for index in range(len(lower)):
        corner[index] = lower[index] if slope[index] > 0.0 else upper[index]
    if _violated_at(problem, work, forms, corner) and falsify and not batch.suspect[box]:
        batch.suspect[box], batch.point[box] = True, corner
    _bound_again(problem, work, forms, batch, box, literals, work.tight)


@in_any_order
def _violated_at(problem: FlatProblem, work: Work, forms: Forms, point: Floats) -> bool:
    """Does a clause seem to be violated at a point of the box at hand? Plain float64, no bound.

    Leaves in ``work.tight`` the lower slopes that are exact there.
    """
    inputs, hidden, passed = problem.sizes[0], forms.hidden, forms.passed
    before = inputs
    for index in range(inputs):
        hidden[index] = point[index]
    for stage in range(problem.weight.shape[0] - 1):
        for neuron in range(work.live[stage]):
            link = work.link[stage, neuron]
            value = link[before]
            for index in range(before):
                value += link[index] * hidden[index]
            passed[neuron] = max(value, 0.0)
            work.tight[stage, neuron] = 1.0 if value > 0.0 or work.lift[stage, neuron] == 0.0 else 0.0
        before = work.live[stage]
        for neuron in range(before):
            hidden[neuron] = passed[neuron]
        for neuron in range(before, (before // LANES + 1) * LANES):
            work.tight[stage, neuron] = 0.0
    last = problem.weight.shape[0] - 1
    for clause in range(len(problem.clause_start) - 1):
        violated = True
        for member in range(problem.clause_start[clause], problem.clause_start[clause + 1]):
            literal = problem.clause_literal[member]
            value = problem.literal_bias[literal] + problem.literal_offset[literal]
            for index in range(before):
                neuron = work.alive[last - 1, index] if last > 0 else index
                value += problem.literal_weight[literal, neuron] * hidden[index]
            for index in range(inputs):
                value += problem.literal_inputs[literal, index] * point[index]
            violated &= value <= 0.0
        if violated:
            return True
    return False


@strict
def _violates(problem: FlatProblem, work: Work, batch: FlatStep, box: int) -> bool:
    """Is there a clause none of whose literals can hold? Computes the literals' upper bounds."""
    literals, lower, upper = len(problem.strict), batch.lower[box], batch.upper[box]
    known, forms = literal_forms(problem, work, lower, upper, literals, literals, work.rise)
    if not known:
        return False
    for literal in range(literals):
        form, constant = forms[literal], work.constant[literal]
        most = -lowest(form, constant, lower, upper, work.box_magnitude, problem.slack[0])
        if np.isfinite(most):
            batch.bound_upper[box, literal] = most
    for clause in range(len(problem.clause_start) - 1):
        refuted = True
        for member in range(problem.clause_start[clause], problem.clause_start[clause + 1]):
            literal = problem.clause_literal[member]
            most = batch.bound_upper[box, literal]
            refuted &= most < 0.0 or (most == 0.0 and problem.strict[literal])
        if refuted:
            return True
    return False


@strict
def _clause_forms(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int) -> None:
    """For each clause its strongest literal's better form combined with each other literal's."""
    added, least = 2 * len(problem.strict), batch.bound_lower[box]
    for clause in range(len(problem.clause_start) - 1):
        first, end = problem.clause_start[clause], problem.clause_start[clause + 1]
        strongest = problem.clause_literal[first]
        for member in range(first + 1, end):
            if least[problem.clause_literal[member]] > least[strongest]:
                strongest = problem.clause_literal[member]
        for member in range(first, end):
            other = problem.clause_literal[member]
            if other != strongest:
                one, two = forms.best[strongest], forms.best[other]
                _combine(work, forms, one, two, added, batch.lower[box], batch.upper[box], problem.slack[0])
                added += 1


@strict
def _combine(
    work: Work, forms: Forms, one: int, other: int, into: int, lower: Floats, upper: Floats, slack: float
) -> None:
    first, second = forms.slope[one], forms.slope[other]
    first_constant, second_constant = forms.constant[one], forms.constant[other]
    factor = _best_factor(first, second, first_constant, second_constant, lower, upper)
    rest, first_size, second_size = 1.0 - factor, abs(first_constant), abs(second_constant)
    for index in range(len(lower)):
        forms.slope[into, index] = factor * first[index] + rest * second[index]
        first_size += abs(first[index]) * work.box_magnitude[index]
        second_size += abs(second[index]) * work.box_magnitude[index]
    charge = (factor * first_size + rest * second_size) * (slack * INFLATE)
    forms.constant[into] = factor * first_constant + rest * second_constant - charge


@strict
def _best_factor(
    first: Floats, second: Floats, first_constant: float, second_constant: float, lower: Floats, upper: Floats
) -> float:
    """The first form's factor in [0, 1] that makes the combination's minimum over the box largest, nearly.

    That minimum is concave in the factor, so the sign of its derivative says on which side to go on. Any factor is
    sound.
    """
    if not (np.isfinite(first_constant) and np.isfinite(second_constant)):
        return 1.0 if np.isfinite(first_constant) else 0.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        factor = (low + high) * 0.5
        rise = first_constant - second_constant
        for index in range(len(lower)):
            slope = factor * first[index] + (1.0 - factor) * second[index]
            rise += (first[index] - second[index]) * (lower[index] if slope >= 0.0 else upper[index])
        if rise > 0.0:
            low = factor
        else:
            high = factor
    return (low + high) * 0.5


@strict
def _prove(forms: Forms, lower: Floats, upper: Floats, magnitude: Floats, slack: float) -> bool:
    """Which clauses have a form that is proved positive over the box, and have all?"""
    every = True
    for clause in range(len(forms.proved)):
        forms.proved[clause] = _positive(forms, clause, lower, upper, magnitude, slack)
        every &= forms.proved[clause]
    return bool(every)


@strict
def _positive(forms: Forms, clause: int, lower: Floats, upper: Floats, magnitude: Floats, slack: float) -> bool:
    for place in range(forms.start[clause], forms.start[clause + 1]):
        form = forms.clause_form[place]
        least = lowest(forms.slope[form], forms.constant[form], lower, upper, magnitude, slack)
        if np.isfinite(least) and least > 0.0:
            return True
    return False


@strict
def _carve(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int) -> None:
    """Cut silent slabs off the box's sides, one side after the other."""
    lower, upper = batch.lower[box], batch.upper[box]
    for feature in range(len(lower)):
        if not problem.splittable[feature]:
            continue
        for side in range(2):
            above = side == 0
            low, high = lower[feature], upper[feature]
            threshold = _reach(forms, lower, upper, feature, above)
            if not low < threshold < high:
                continue
            kept = (threshold - low if above else high - threshold) / (high - low)
            if not 0.0 < kept < 1.0 - _LEAST_CUT:
                continue
            if above:
                lower[feature] = threshold
            else:
                upper[feature] = threshold
            carved = True
            for clause in range(len(forms.proved)):
                carved = carved and _positive(forms, clause, lower, upper, work.box_magnitude, problem.slack[0])
            lower[feature], upper[feature] = low, high
            if carved:
                batch.cut[box, 2 * feature + side] = threshold
                if above:
                    upper[feature] = threshold
                else:
                    lower[feature] = threshold


@strict
def _reach(forms: Forms, lower: Floats, upper: Floats, feature: int, above: bool) -> float:
    """How far up (or down) along a feature an unproved clause can be violated."""
    sign, furthest = 1.0 if above else -1.0, -math.inf
    for clause in range(len(forms.proved)):
        if forms.proved[clause]:
            continue
        reach = np.inf
        for place in range(forms.start[clause], forms.start[clause + 1]):
            form = forms.clause_form[place]
            slope = forms.slope[form]
            if sign * slope[feature] > 0.0:
                rest = forms.constant[form]
                for index in range(len(lower)):
                    if index != feature:
                        rest += slope[index] * (lower[index] if slope[index] >= 0.0 else upper[index])
                reach = min(reach, sign * (-rest / slope[feature]))
        furthest = max(furthest, reach)
    safe: float = sign * furthest + sign * _SAFETY * (upper[feature] - lower[feature])
    return safe


@strict
def _halve(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int) -> None:
    """Choose the most telling dimension that can be halved, and its middle; the box stays open where there is none."""
    lower, upper, score, best = batch.lower[box], batch.upper[box], forms.score, -1.0
    _score(problem, work, forms, batch, box)
    for index in range(len(lower)):
        middle = lower[index] + (upper[index] - lower[index]) * 0.5
        if problem.splittable[index] and lower[index] < middle < upper[index] and score[index] > best:
            best = score[index]
            batch.feature[box], batch.threshold[box] = index, middle
    if batch.feature[box] < 0:
        batch.label[box] = _OPEN


@strict
def _score(problem: FlatProblem, work: Work, forms: Forms, batch: FlatStep, box: int) -> None:
    """What halving each dimension promises, in the units of a literal's value.

    Two things keep a bound from zero: the linear forms vary over the box, and the relaxations are not exact.
    Where nothing is known the widest dimension is the one to halve, as part of the whole box's.
    """
    lower, upper, score = batch.lower[box], batch.upper[box], forms.score
    score[:] = 0.0
    rows = _open_literals(problem, work, forms, batch.bound_lower[box])
    add_nonlinearity(problem, work, rows, lower, upper, score)
    variation, largest = forms.variation, 0.0
    variation[:] = 0.0
    _add_sensitivities(problem, forms, batch.slope[box], variation)
    for index in range(len(lower)):
        largest = max(largest, variation[index])
    for index in range(len(lower)):
        width = upper[index] - lower[index]
        score[index] = _NONLINEARITY * score[index] + 0.5 * width * max(variation[index], _LEAST_SENSITIVITY * largest)
        if not (largest > 0.0 and np.isfinite(largest) and np.isfinite(score[index])):
            score[index] = width / problem.width[index] if problem.width[index] > 0.0 else width


@strict
def _open_literals(problem: FlatProblem, work: Work, forms: Forms, least: Floats) -> int:
    """The strongest literal of each unproved clause, as many as there is room for, as rows to be carried backward.

    The number of rows is a multiple of four; those to spare are zero.
    """
    last, rows = problem.weight.shape[0] - 1, 0
    count = work.live[last - 1] if last > 0 else 0
    for clause in range(len(forms.proved)):
        if forms.proved[clause] or rows == len(work.form):
            continue
        strongest = problem.clause_literal[problem.clause_start[clause]]
        for member in range(problem.clause_start[clause] + 1, problem.clause_start[clause + 1]):
            if least[problem.clause_literal[member]] > least[strongest]:
                strongest = problem.clause_literal[member]
        work.form[rows] = 0.0
        if least[strongest] > -np.inf:
            for index in range(count):
                work.form[rows, index] = problem.literal_weight[strongest, work.alive[last - 1, index]]
        rows += 1
    while rows % 4:
        work.form[rows] = 0.0
        rows += 1
    return rows


@strict
def _add_sensitivities(problem: FlatProblem, forms: Forms, slope: Floats, sensitivity: Floats) -> None:
    """How strongly the literals of unproved clauses vary along each dimension; each literal counts once."""
    for literal in range(len(problem.strict)):
        counts = False
        for clause in range(len(forms.proved)):
            for member in range(problem.clause_start[clause], problem.clause_start[clause + 1]):
                counts |= problem.clause_literal[member] == literal and not forms.proved[clause]
        if counts:
            for index in range(len(sensitivity)):
                sensitivity[index] += abs(slope[literal, index])
