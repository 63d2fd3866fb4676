"""Gates laid out as flat arrays, once, so that judging rows is plain array arithmetic.

The arrays are the contract with every evaluator: :mod:`sidecar.gates.membership` and
:mod:`sidecar.gates.satisfaction` read only them, or for a row alone what ``plain_boxes`` and
``plain_requirements`` make of them;
the exact gates beside them decide what the float64 filter (:mod:`sidecar.gates.filter`) cannot. Columns of an
*extended row* are: 0 the constant one, then the inputs, then the outputs. No segment of any offset array is empty:
evaluators need no special case.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sidecar.gates.closed_form import ClosedForms
from sidecar.gates.effective import wire_bounds
from sidecar.gates.filter import LiteralTable, literal_table
from sidecar.gates.limits import PLAIN_VALUES
from sidecar.gates.one_row import PlainBox, PlainRequirements, columns_of, plain_literals
from sidecar.gates.values import Gate, Literal, Requirement
from sidecar.numerics import round_to_datatype
from sidecar.tensors import ModelSignature, TensorSpec

_Value = TypeVar("_Value")

_ALWAYS = Requirement(((Literal(outputs=(), inputs=(), offset=Fraction(1), strict=False),),))
"""Stands for a requirement without clauses: ``1 >= 0``."""


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedGates:
    """Gates of one model as arrays.

    Offsets are int64 and one longer than what they count; segment i is ``[offsets[i], offsets[i + 1])``.

    Args:
        gates, signature: what was prepared; exact.
        lower, upper: float64 (region, input); the smallest and largest wire values of each region's box.
        gate_regions: offsets of each gate's regions.
        cut_regions: int64; the regions that have cuts, ascending.
        region_cuts: offsets of the cuts of each of ``cut_regions``.
        cuts: the literals of all cuts.
        gate_clauses: offsets of each gate's clauses.
        clause_literals: offsets of each clause's literals.
        literals: the literals of all clauses.
        required: bool (gate, extended column); where a non-finite value violates the gate: the inputs that its
            requirement mentions, and the output tensors of which it mentions some value, whole.
        fallbacks: float64 (gate, output); NaN rows where a gate has none.
    """

    gates: tuple[Gate, ...]
    signature: ModelSignature
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    gate_regions: npt.NDArray[np.int64]
    cut_regions: npt.NDArray[np.int64]
    region_cuts: npt.NDArray[np.int64]
    cuts: LiteralTable
    gate_clauses: npt.NDArray[np.int64]
    clause_literals: npt.NDArray[np.int64]
    literals: LiteralTable
    required: npt.NDArray[np.bool_]
    fallbacks: npt.NDArray[np.float64]

    @functools.cached_property
    def output_places(self) -> tuple[range, ...]:
        """Which indices of an output row each tensor takes."""
        return tuple(tensor_places(self.signature.outputs))

    @functools.cached_property
    def closed_forms(self) -> ClosedForms:
        """What `project` makes corrections of first."""
        return ClosedForms(self.gates, self.signature)

    @functools.cached_property
    def plain_boxes(self) -> tuple[tuple[PlainBox, ...], ...] | None:
        """The boxes of each gate's regions, for rows that come alone; None where arrays are the faster way, or domains
        have cuts.
        """
        if len(self.cut_regions) or 2 * self.lower.size > PLAIN_VALUES:
            return None
        bounds = zip(self.lower.tolist(), self.upper.tolist(), strict=True)
        boxes = [tuple(zip(lower, upper, strict=True)) for lower, upper in bounds]
        return tuple(_segments(boxes, self.gate_regions))

    @functools.cached_property
    def plain_requirements(self) -> PlainRequirements | None:
        """The requirements, for rows that come alone; None where arrays are the faster way."""
        if len(self.literals.columns) > PLAIN_VALUES:
            return None
        first_output = 1 + self.signature.input_size
        mentioned = set(self.literals.columns.tolist()) - {0}
        inputs, input_places = columns_of(
            (column - 1 for column in mentioned if column < first_output), self.signature.input_size
        )
        outputs, output_places = columns_of(
            (column - first_output for column in mentioned if column >= first_output), self.signature.output_size
        )
        places = {0: 0} | {1 + column: 1 + place for column, place in input_places.items()}
        places |= {first_output + column: 1 + len(input_places) + place for column, place in output_places.items()}
        clauses = _segments(plain_literals(self.literals, places), self.clause_literals)
        return PlainRequirements(inputs, outputs, tuple(_segments(clauses, self.gate_clauses)))


def _segments(values: Sequence[_Value], offsets: npt.NDArray[np.int64]) -> list[tuple[_Value, ...]]:
    return [tuple(values[start:end]) for start, end in itertools.pairwise(offsets.tolist())]


def prepare(gates: Sequence[Gate], signature: ModelSignature) -> PreparedGates:
    """Lay gates out for evaluation.

    Args:
        gates: at least one; domains already effective.
        signature: the model's.

    Raises:
        ValueError: no gates, or a gate does not fit the signature (an index, a box's or a fallback's length, a
            fallback value that the wire datatype cannot represent).
    """
    if not gates:
        raise ValueError("no gates to prepare; a bundle guards at least one property")
    for gate in gates:
        _check_fits(gate, signature)
    regions = [region for gate in gates for region in gate.domain]
    bounds = [wire_bounds(region.box, signature.input_datatypes()) for region in regions]
    cut_regions = [number for number, region in enumerate(regions) if region.cuts]
    clauses = [clause for gate in gates for clause in _clauses(gate)]
    return PreparedGates(
        gates=tuple(gates),
        signature=signature,
        lower=np.array([lower for lower, _ in bounds]),
        upper=np.array([upper for _, upper in bounds]),
        gate_regions=_offsets(len(gate.domain) for gate in gates),
        cut_regions=np.array(cut_regions, dtype=np.int64),
        region_cuts=_offsets(len(regions[number].cuts) for number in cut_regions),
        cuts=literal_table([cut for region in regions for cut in region.cuts], signature),
        gate_clauses=_offsets(len(_clauses(gate)) for gate in gates),
        clause_literals=_offsets(len(clause) for clause in clauses),
        literals=literal_table([literal for clause in clauses for literal in clause], signature),
        required=np.array([_required(gate, signature) for gate in gates]),
        fallbacks=np.array([_fallback(gate, signature) for gate in gates]),
    )


def _clauses(gate: Gate) -> tuple[tuple[Literal, ...], ...]:
    return (gate.requirement if gate.requirement.clauses else _ALWAYS).clauses


def _offsets(lengths: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _literals(gate: Gate) -> list[Literal]:
    cuts = [cut for region in gate.domain for cut in region.cuts]
    return cuts + [literal for clause in gate.requirement.clauses for literal in clause]


def _check_fits(gate: Gate, signature: ModelSignature) -> None:
    where = f"gate {gate.property_id!r}"
    for region in gate.domain:
        if len(region.box.lower) != signature.input_size:
            raise ValueError(f"{where}: a box of {len(region.box.lower)} inputs; the model has {signature.input_size}")
    for literal in _literals(gate):
        for side, form, size in (
            ("input", literal.inputs, signature.input_size),
            ("output", literal.outputs, signature.output_size),
        ):
            if form and form[-1][0] >= size:
                raise ValueError(f"{where}: a literal speaks of {side} {form[-1][0]}; the model has {size}")


def _required(gate: Gate, signature: ModelSignature) -> npt.NDArray[np.bool_]:
    """One gate's row of ``required``, see :class:`PreparedGates`."""
    literals = [literal for clause in gate.requirement.clauses for literal in clause]
    mentioned = {index for literal in literals for index, _ in literal.outputs}
    outputs = [bool(mentioned.intersection(places)) for places in tensor_places(signature.outputs) for _ in places]
    inputs = np.zeros(signature.input_size, dtype=np.bool_)
    inputs[[index for literal in literals for index, _ in literal.inputs]] = True
    return np.concatenate([[False], inputs, outputs])


def tensor_places(specs: Sequence[TensorSpec]) -> list[range]:
    """Which indices of a row each tensor takes."""
    ends = np.cumsum([spec.row_size for spec in specs]).tolist()
    return [range(end - spec.row_size, end) for spec, end in zip(specs, ends, strict=True)]


def _fallback(gate: Gate, signature: ModelSignature) -> npt.NDArray[np.float64]:
    if gate.fallback is None:
        return np.full(signature.output_size, np.nan)
    if len(gate.fallback) != signature.output_size:
        size = len(gate.fallback)
        raise ValueError(
            f"gate {gate.property_id!r}: a fallback of {size} values; the model has {signature.output_size} outputs"
        )
    datatypes = signature.output_datatypes()
    try:
        row = [round_to_datatype(value, kind) for value, kind in zip(gate.fallback, datatypes, strict=True)]
    except OverflowError as error:
        raise ValueError(f"gate {gate.property_id!r}: fallback not representable on the wire: {error}") from error
    for index, (value, rounded) in enumerate(zip(gate.fallback, row, strict=True)):
        if value != rounded:
            raise ValueError(
                f"gate {gate.property_id!r}: fallback value {value} of output {index} is no {datatypes[index]}; "
                f"the nearest is {rounded!r}"
            )
    return np.array(row)
