"""Gates in the notation that people write: ``scores[2] - scores[0] > 0``, ``0 <= distance[0] <= 60``.

For reading only; the exact numbers stand in the gates themselves. A number that is shown rounded says so
with a leading ``~``.
"""

import decimal
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

from sidecar.gates.values import Literal, Region, Requirement
from sidecar.tensors import ModelSignature, TensorSpec

_SHOWN_DIGITS: Final = 12
_SHOWN: Final = decimal.Context(prec=_SHOWN_DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def number_text(value: Fraction) -> str:
    """A decimal number, with ``~`` before it when it is not exactly the value."""
    shown = _SHOWN.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    exact = Fraction(shown) == value
    digits = shown.normalize(_SHOWN)
    notation = "f" if -_SHOWN_DIGITS <= digits.adjusted() < _SHOWN_DIGITS else "g"
    return ("" if exact else "~") + format(digits, notation)


def value_names(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """A name for each value of a row: the tensor's name with the value's index, if it has any."""
    return tuple(name for spec in specs for name in _names(spec))


def _names(spec: TensorSpec) -> Iterator[str]:
    for index in itertools.product(*map(range, spec.row_shape)):
        yield f"{spec.name}[{','.join(map(str, index))}]" if index else spec.name


def literal_text(literal: Literal, signature: ModelSignature) -> str:
    """The inequality with its linear form on the left and the number on the right."""
    outputs, inputs = value_names(signature.outputs), value_names(signature.inputs)
    named = [(coefficient, outputs[index]) for index, coefficient in literal.outputs]
    named += [(coefficient, inputs[index]) for index, coefficient in literal.inputs]
    bound, comparison = -literal.offset, ">" if literal.strict else ">="
    if named and all(coefficient < 0 for coefficient, _ in named):
        named = [(-coefficient, name) for coefficient, name in named]
        bound, comparison = -bound, "<" if literal.strict else "<="
    return f"{_form_text(named)} {comparison} {number_text(bound)}"


def _form_text(named: Sequence[tuple[Fraction, str]]) -> str:
    """Terms with positive coefficients first, so that a difference reads like one."""
    parts = []
    for coefficient, name in sorted(named, key=lambda term: term[0] < 0):
        sign = "- " if coefficient < 0 else "+ "
        factor = "" if abs(coefficient) == 1 else f"{number_text(abs(coefficient))}*"
        parts.append(f"{sign}{factor}{name}")
    return " ".join(parts).removeprefix("+ ") or "0"


def requirement_lines(requirement: Requirement, signature: ModelSignature) -> list[str]:
    """One line per literal; ``or`` binds a clause together more closely than ``and`` binds the clauses."""
    lines: list[str] = []
    for clause in requirement.clauses:
        first, *more = (literal_text(literal, signature) for literal in clause)
        lines.append(f"and {first}" if lines else first)
        lines += [f"  or {literal}" for literal in more]
    return lines or ["nothing"]


def region_lines(region: Region, signature: ModelSignature) -> list[str]:
    """One line per feature with the names one below the other, then one per cut."""
    names = value_names(signature.inputs)
    bounds = [
        (number_text(low), name, number_text(high))
        for low, name, high in zip(region.box.lower, names, region.box.upper, strict=True)
    ]
    low_width = max(len(low) for low, _, _ in bounds)
    name_width = max(len(name) for _, name, _ in bounds)
    lines = [f"{low:>{low_width}} <= {name:<{name_width}} <= {high}" for low, name, high in bounds]
    return lines + [literal_text(cut, signature) for cut in region.cuts]
