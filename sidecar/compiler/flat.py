"""What the compiled kernels read and write, as flat arrays: a prepared network, a requirement, a batch of boxes.

Compiled code is specialised by the types of its arguments, so everything that varies from network to network is a value
here: stages are padded to the widest one, clauses are index lists. Nothing here computes a bound.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.compiler.bounds import Phases, Prepared
from sidecar.compiler.rounding import Stage

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

LANES: Final = 8
"""Rows of arrays are padded to a multiple of it, so that no loop over one has a remainder."""


class FlatProblem(NamedTuple):
    """A network's stages and a requirement's literals; see ``Stage`` and ``LiteralRows`` for what each means.

    ``widest`` is the largest number of values in a layer plus one, rounded up. Literals stand twice, as they are and
    negated, where an axis is called *signed*.

    Args:
        sizes: int64 (stage + 1,); values before the first stage, after the first, ...
        weight: (stage, out, in), padded with zeros; the last column is the bias, the one before it zero.
        transposed: (kind, stage, in, out); weights, their magnitudes, slopes of ``E``; padded with zeros.
        bias, error_offset: (stage, out).
        growth, shift, limit: (stage,).
        literal_weight: (signed, in) of the last stage; literal_bias: (signed,).
        literal_magnitude: (signed, output); the sizes of the output coefficients.
        literal_inputs: (signed, input). literal_offset: (signed,).
        strict: bool (literal,).
        clause_start: int64 (clause + 1,); clause ``c`` has the literals ``clause_literal[start[c]:start[c + 1]]``.
        slack: (1,); see ``Staged``.
        splittable: bool (input,); dimensions that may be cut.
        width: (input,); of the whole box.
    """

    sizes: Integers
    weight: Floats
    transposed: Floats
    bias: Floats
    error_offset: Floats
    growth: Floats
    shift: Floats
    limit: Floats
    literal_weight: Floats
    literal_bias: Floats
    literal_magnitude: Floats
    literal_inputs: Floats
    literal_offset: Floats
    strict: Flags
    clause_start: Integers
    clause_literal: Integers
    slack: Floats
    splittable: Flags
    width: Floats


class FlatStep(NamedTuple):
    """A batch of boxes, and what a step finds out about each.

    Args:
        lower, upper: float64 (box, input); what is left after carving is written back.
        phases: int8 (box, hidden neuron); see ``bounds.Phases``; inherited, then found.
        large: bool (box,); may be carved and halved.
        label: uint8 (box,); ``Label`` where settled, else 0.
        bound_lower, bound_upper: float64 (box, literal).
        slope: float64 (box, literal, input). constant: float64 (box, literal).
        cut: float64 (box, 2 * input); thresholds in the order in which slabs are carved off: of each feature above,
            then below; NaN where none is.
        feature: int64 (box,); the dimension to halve, -1 for none. threshold: float64 (box,); where.
        point: float64 (box, input); where suspect: bool (box,), a point that seems to violate.
    """

    lower: Floats
    upper: Floats
    phases: Phases
    large: Flags
    label: npt.NDArray[np.uint8]
    bound_lower: Floats
    bound_upper: Floats
    slope: Floats
    constant: Floats
    cut: Floats
    feature: Integers
    threshold: Floats
    point: Floats
    suspect: Flags


def flat_problem(prepared: Prepared, splittable: Flags, width: Floats) -> FlatProblem:
    """The arrays of a prepared network and requirement, for a box of ``width`` (input,)."""
    stages, rows, signed = prepared.staged.stages, prepared.rows, prepared.signed
    sizes = [stages[0].weight.shape[1], *(len(stage.bias) for stage in stages)]
    kinds = [
        [stage.weight for stage in stages],
        [stage.magnitude for stage in stages],
        [stage.error_slope for stage in stages],
    ]
    widest = (prepared.widest // LANES + 2) * LANES
    last = stages[-1]
    return FlatProblem(
        sizes=np.array(sizes),
        weight=np.stack([_with_bias(stage, widest) for stage in stages]),
        transposed=np.stack([[_padded(matrix.T, widest, widest) for matrix in of_kind] for of_kind in kinds]),
        bias=np.stack([_padded(stage.bias[None], 1, widest)[0] for stage in stages]),
        error_offset=np.stack([_padded(stage.error_offset[None], 1, widest)[0] for stage in stages]),
        growth=np.array([stage.growth for stage in stages]),
        shift=np.array([stage.shift for stage in stages]),
        limit=np.array([stage.limit for stage in stages]),
        literal_weight=_padded(signed @ last.weight, len(signed), widest),
        literal_bias=signed @ last.bias,
        literal_magnitude=np.abs(signed),
        literal_inputs=np.concatenate([rows.inputs, -rows.inputs]),
        literal_offset=np.concatenate([rows.offset, -rows.offset]),
        strict=rows.strict,
        clause_start=np.cumsum([0, *map(len, rows.clauses)]).astype(np.int64),
        clause_literal=np.array([literal for clause in rows.clauses for literal in clause], dtype=np.int64),
        slack=np.array([prepared.staged.slack]),
        splittable=splittable,
        width=width,
    )


def _with_bias(stage: Stage, widest: int) -> Floats:
    matrix = _padded(stage.weight, widest, widest)
    matrix[: len(stage.bias), -1] = stage.bias
    return matrix


def _padded(matrix: Floats, rows: int, columns: int) -> Floats:
    padded = np.zeros((rows, columns))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded


def flat_step(problem: FlatProblem, lower: Floats, upper: Floats, phases: Phases, large: Flags) -> FlatStep:
    """Room for a step over boxes; ``lower``, ``upper`` and ``phases`` are copied."""
    boxes, inputs = lower.shape
    literals = len(problem.strict)
    return FlatStep(
        lower=lower.copy(),
        upper=upper.copy(),
        phases=phases.copy(),
        large=large,
        label=np.zeros(boxes, dtype=np.uint8),
        bound_lower=np.empty((boxes, literals)),
        bound_upper=np.empty((boxes, literals)),
        slope=np.empty((boxes, literals, inputs)),
        constant=np.empty((boxes, literals)),
        cut=np.full((boxes, 2 * inputs), np.nan),
        feature=np.full(boxes, -1, dtype=np.int64),
        threshold=np.zeros(boxes),
        point=np.empty((boxes, inputs)),
        suspect=np.zeros(boxes, dtype=np.bool_),
    )
