"""What the sections of a bundle owe one another: gates fit the model, trees fit the gates, vectors fit both.

Each section by itself was checked when it was read. All failures are :class:`BundleError` with the reason
of the section at fault.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from sidecar.bundle.coverage import CoverageTree
from sidecar.bundle.coverage_rules import check_tree
from sidecar.bundle.limits import MAX_REGIONS
from sidecar.bundle.values import Manifest, SelfTestVectors
from sidecar.errors import BundleError, Reason
from sidecar.gates.cost import projection_cost
from sidecar.gates.limits import MAX_DISJUNCTS
from sidecar.gates.movable import held_tensors
from sidecar.gates.values import Action, Gate, Literal, Terms
from sidecar.numerics import round_to_datatype
from sidecar.tensors import Datatype, ModelSignature, Rows, TensorSpec, encode_raw


def check_gates(gates: Sequence[Gate], manifest: Manifest) -> None:
    """One gate per property, in the same order, about values that the model has. Raises BUNDLE_GATES."""
    got = [gate.property_id for gate in gates]
    expected = [record.trace.property_id for record in manifest.properties]
    if got != expected:
        raise _refusal(Reason.BUNDLE_GATES, f"gates for {got}, expected the manifest's properties {expected}")
    for gate in gates:
        _check_gate(gate, manifest.signature)
    regions = sum(len(gate.domain) for gate in gates)
    if regions > MAX_REGIONS:
        raise _refusal(Reason.BUNDLE_GATES, f"the gates have {regions} regions, expected at most {MAX_REGIONS}")
    if projection_cost(gates) > MAX_DISJUNCTS:
        raise BundleError(
            Reason.BUNDLE_GATES,
            f"overlapping gates have a joint requirement of more than {MAX_DISJUNCTS} disjuncts, which is the limit; "
            "write properties with fewer alternatives, or give them domains that do not overlap",
        )


def _check_gate(gate: Gate, signature: ModelSignature) -> None:
    for region in gate.domain:
        if len(region.box.lower) != signature.input_size:
            raise _wrong_gate(gate, f"a box over {len(region.box.lower)} values", f"{signature.input_size} inputs")
        for cut in region.cuts:
            _check_literal(gate, cut, signature)
    for clause in gate.requirement.clauses:
        for literal in clause:
            _check_literal(gate, literal, signature)
    if gate.action is Action.PROJECT and (held := held_tensors(gate, signature)):
        raise _wrong_gate(gate, f"action project on {', '.join(held)}", "fallback or refuse for integer outputs")
    if gate.fallback is not None:
        _check_fallback(gate, gate.fallback, signature)


def _check_literal(gate: Gate, literal: Literal, signature: ModelSignature) -> None:
    _check_indices(gate, literal.outputs, signature.output_size, "output")
    _check_indices(gate, literal.inputs, signature.input_size, "input")


def _check_indices(gate: Gate, form: Terms, size: int, side: str) -> None:
    if form and form[-1][0] >= size:
        raise _wrong_gate(gate, f"a literal on {side} {form[-1][0]}", f"{side}s 0 to {size - 1}")


def _check_fallback(gate: Gate, fallback: tuple[Fraction, ...], signature: ModelSignature) -> None:
    if len(fallback) != signature.output_size:
        raise _wrong_gate(gate, f"a fallback of {len(fallback)} values", f"{signature.output_size} outputs")
    for value, datatype in zip(fallback, signature.output_datatypes(), strict=True):
        if not _is_wire_value(value, datatype):
            raise _wrong_gate(gate, f"the fallback value {value}", f"a value of {datatype}")


def _is_wire_value(value: Fraction, datatype: Datatype) -> bool:
    try:
        return round_to_datatype(value, datatype) == value
    except OverflowError:
        return False


def check_coverage(coverage: Sequence[Sequence[CoverageTree]], gates: Sequence[Gate]) -> None:
    """Every tree divides its region's box. Raises BUNDLE_COVERAGE."""
    for gate, trees in zip(gates, coverage, strict=True):
        for index, (region, tree) in enumerate(zip(gate.domain, trees, strict=True)):
            try:
                check_tree(tree, region.box)
            except ValueError as error:
                where = f"the tree of gate {gate.property_id!r}, region {index}"
                raise _refusal(Reason.BUNDLE_COVERAGE, f"{where}: {error}") from None


def check_vectors(vectors: SelfTestVectors, signature: ModelSignature) -> None:
    """Wire values, and verdicts that do not contradict one another. Raises BUNDLE_VECTORS."""
    if not len(vectors.inputs):
        raise _wrong_vectors("no vectors", "at least one, since a self-test of nothing shows nothing")
    refused = np.isnan(vectors.corrected).all(axis=1)
    _check_values("inputs", vectors.inputs, signature.inputs)
    _check_values("outputs", vectors.outputs, signature.outputs)
    _check_values("corrected", vectors.corrected[~refused], signature.outputs)
    if (vectors.fired & ~vectors.contained).any():
        raise _wrong_vectors("a gate that fired outside its domain", "fired only where contained")
    untouched = ~vectors.fired.any(axis=1)
    if vectors.outputs[untouched].tobytes() != vectors.corrected[untouched].tobytes():
        raise _wrong_vectors("a correction where no gate fired", "the output itself, bit by bit")


def _check_values(name: str, rows: Rows, specs: Sequence[TensorSpec]) -> None:
    if not np.isfinite(rows).all():
        raise _wrong_vectors(f"{name} that are not finite", "finite values (corrected: or NaN in the whole row)")
    start = 0
    for spec in specs:
        try:
            encode_raw(rows[:, start : start + spec.row_size].ravel(), spec.datatype)
        except ValueError:
            got = f"{name} that tensor {spec.name!r} cannot hold"
            raise _wrong_vectors(got, f"values of {spec.datatype}") from None
        start += spec.row_size


def _refusal(reason: Reason, what: str) -> BundleError:
    return BundleError(reason, f"{what}; compile the bundle again")


def _wrong_gate(gate: Gate, got: str, expected: str) -> BundleError:
    return _refusal(Reason.BUNDLE_GATES, f"gate {gate.property_id!r}: got {got}, expected {expected}")


def _wrong_vectors(got: str, expected: str) -> BundleError:
    return _refusal(Reason.BUNDLE_VECTORS, f"self-test vectors: got {got}, expected {expected}")
