"""The self-test: this machine's code decides the bundle's vectors as the compiler's did, and rightly.

Two things are shown, and neither rests on the other. The code that will judge traffic gives, bit by bit,
what the vectors say; and what the vectors say is right by exact rational evaluation, which shares nothing
with the float64 filter, the projection or the compiler.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sidecar.bundle.values import Bundle, SelfTestVectors
from sidecar.errors import BundleError, Reason
from sidecar.gates.decide import decide
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.prepare import PreparedGates, prepare
from sidecar.gates.values import Gate, Mode
from sidecar.tensors import ModelSignature, Rows

_Flags: TypeAlias = npt.NDArray[np.bool_]


def expected_decisions(
    gates: Sequence[Gate], signature: ModelSignature, inputs: Rows, outputs: Rows, lower: Rows, upper: Rows
) -> SelfTestVectors:
    """Vectors from rows and the verified model's answers to them; the decisions are made here.

    Args:
        gates: of the bundle.
        signature: of its model.
        inputs: finite wire values, shape (vector, input).
        outputs: finite wire values, shape (vector, output).
        lower: see :class:`SelfTestVectors`, and so for
        upper: the decisions do not depend on them.
    """
    return SelfTestVectors(inputs, outputs, lower, upper, *_decided(prepare(gates, signature), inputs, outputs))


def _decided(prepared: PreparedGates, inputs: Rows, outputs: Rows) -> tuple[Rows, _Flags, _Flags]:
    """The vectors' corrected rows, and which gates contain them and fire on them."""
    decisions = decide(prepared, [Mode.ENFORCE] * len(prepared.gates), inputs, outputs)
    corrected = outputs.copy()
    for decision in decisions.rows:
        corrected[decision.row] = np.nan if decision.output is None else decision.output
    return corrected, decisions.contained, decisions.violated


def self_test(bundle: Bundle, prepared: PreparedGates) -> None:
    """Try the prepared gates on the bundle's vectors.

    Args:
        bundle: accepted.
        prepared: its gates, as they will judge traffic.

    Raises:
        BundleError: BUNDLE_SELF_TEST; the message names the first row that is decided otherwise.
    """
    vectors = bundle.vectors
    corrected, contained, fired = _decided(prepared, vectors.inputs, vectors.outputs)
    _require_same("contained", contained, vectors.contained)
    _require_same("fired", fired, vectors.fired)
    _require_same("corrected", _bits(corrected), _bits(vectors.corrected))
    for row in range(len(vectors.inputs)):
        _check_exactly(bundle.gates, vectors, row)


def _bits(rows: Rows) -> npt.NDArray[np.uint64]:
    """Bit patterns, so that zeros of different sign differ; every NaN has the same."""
    bits: npt.NDArray[np.uint64] = np.where(np.isnan(rows), np.nan, rows).view(np.uint64)
    return bits


def _require_same(what: str, got: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> None:
    differs = (got != expected).any(axis=1)
    if differs.any():
        raise _failure(int(differs.argmax()), f"{what} differs from what the compiler's code decided")


def _check_exactly(gates: Sequence[Gate], vectors: SelfTestVectors, row: int) -> None:
    inputs, outputs = vectors.inputs[row].tolist(), vectors.outputs[row].tolist()
    corrected = vectors.corrected[row].tolist()
    refused = all(map(math.isnan, corrected))
    for index, gate in enumerate(gates):
        contained = any(region_contains(region, inputs) for region in gate.domain)
        if contained != vectors.contained[row, index]:
            raise _failure(row, f"gate {gate.property_id!r}: contained is {contained} by rational arithmetic")
        fired = contained and not requirement_holds(gate.requirement, inputs, outputs)
        if fired != vectors.fired[row, index]:
            raise _failure(row, f"gate {gate.property_id!r}: fired is {fired} by rational arithmetic")
        if contained and not refused and not requirement_holds(gate.requirement, inputs, corrected):
            raise _failure(row, f"gate {gate.property_id!r}: the corrected output violates it by rational arithmetic")


def _failure(row: int, what: str) -> BundleError:
    return BundleError(
        Reason.BUNDLE_SELF_TEST,
        f"self-test vector {row}: {what}; compile the bundle with the release that is to serve it",
    )
