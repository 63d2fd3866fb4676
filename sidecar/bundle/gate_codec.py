"""The gates section: compact JSON, every number an exact rational written as text."""

import json
from collections.abc import Iterable
from fractions import Fraction

from sidecar.bundle.limits import MAX_GATES, MAX_GATES_BYTES, MAX_ROW_VALUES
from sidecar.bundle.strict_json import Node, parse, rational_text
from sidecar.errors import Reason
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, Terms


def encode_gates(gates: Iterable[Gate]) -> bytes:
    """The section's payload. Raises BUNDLE_GATES for a number with too many digits."""
    return json.dumps([gate_document(gate) for gate in gates], separators=(",", ":")).encode("ascii")


def gate_document(gate: Gate) -> dict[str, object]:
    """One gate as JSON values. Raises BUNDLE_GATES for a number with too many digits."""
    where = f"gate {gate.property_id!r}"
    return {
        "property_id": gate.property_id,
        "domain": [
            {
                "lower": _numbers(region.box.lower, where),
                "upper": _numbers(region.box.upper, where),
                "cuts": [_literal(cut, where) for cut in region.cuts],
            }
            for region in gate.domain
        ],
        "requirement": [[_literal(literal, where) for literal in clause] for clause in gate.requirement.clauses],
        "action": gate.action,
        "margin": _number(gate.margin, where),
        "norm": gate.norm,
        "fallback": None if gate.fallback is None else _numbers(gate.fallback, where),
    }


def _literal(literal: Literal, where: str) -> dict[str, object]:
    return {
        "outputs": _terms(literal.outputs, where),
        "inputs": _terms(literal.inputs, where),
        "offset": _number(literal.offset, where),
        "strict": literal.strict,
    }


def _terms(form: Terms, where: str) -> list[list[object]]:
    return [[index, _number(coefficient, where)] for index, coefficient in form]


def _numbers(numbers: Iterable[Fraction], where: str) -> list[str]:
    return [_number(number, where) for number in numbers]


def _number(number: Fraction, where: str) -> str:
    return rational_text(number, where, Reason.BUNDLE_GATES)


def decode_gates(payload: bytes) -> tuple[Gate, ...]:
    """The gates, each valid by itself; whether they fit the model is acceptance's. Raises BUNDLE_GATES."""
    document = parse(payload, "gates", Reason.BUNDLE_GATES, MAX_GATES_BYTES)
    return tuple(_read_gate(gate) for gate in document.elements(MAX_GATES))


def _read_gate(node: Node) -> Gate:
    property_id, domain, requirement, action, margin, norm, fallback = node.fields(
        "property_id", "domain", "requirement", "action", "margin", "norm", "fallback"
    )
    row = fallback.optional()
    try:
        return Gate(
            property_id=property_id.name(),
            domain=tuple(_read_region(region) for region in domain.elements()),
            requirement=Requirement(tuple(_read_literals(clause) for clause in requirement.elements())),
            action=action.choice(Action),
            margin=margin.rational(),
            norm=norm.choice(Norm),
            fallback=None if row is None else _read_numbers(row),
        )
    except ValueError as error:
        node.refuse(f"a gate ({error})")


def _read_region(node: Node) -> Region:
    lower, upper, cuts = node.fields("lower", "upper", "cuts")
    return Region(Box(_read_numbers(lower), _read_numbers(upper)), _read_literals(cuts))


def _read_literals(node: Node) -> tuple[Literal, ...]:
    return tuple(_read_literal(literal) for literal in node.elements())


def _read_literal(node: Node) -> Literal:
    outputs, inputs, offset, strict = node.fields("outputs", "inputs", "offset", "strict")
    return Literal(_read_terms(outputs), _read_terms(inputs), offset.rational(), strict.boolean())


def _read_terms(node: Node) -> Terms:
    return tuple(_read_term(term) for term in node.elements(MAX_ROW_VALUES))


def _read_term(node: Node) -> tuple[int, Fraction]:
    parts = node.elements(2)
    if len(parts) != 2:
        node.refuse("an index and a coefficient")
    index, coefficient = parts
    return index.integer(0, MAX_ROW_VALUES - 1), coefficient.rational()


def _read_numbers(node: Node) -> tuple[Fraction, ...]:
    return tuple(number.rational() for number in node.elements(MAX_ROW_VALUES))
