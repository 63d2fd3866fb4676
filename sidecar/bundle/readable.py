"""Gates in the notation that people write: ``scores[2] - scores[0] > 0``, ``0 <= gap <= 60 m``.

For reading only; the exact numbers, in wire units, stand in the gates themselves. A number that is shown rounded
says so with a leading ``~``.
"""

import decimal
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from sidecar.bundle.naming import Named, Naming, physical_interval
from sidecar.gates.values import Literal, Region, Requirement

_SHOWN_DIGITS: Final = 12

BOUND_DIGITS: Final = 7
"""Of a bound, which has been widened to a value of the wire datatype; FP32 has no more to say."""

_SHARE_DECIMALS: Final = 4
_WHOLE: Final = 1 - 1e-12
"""Shares are sums of many; from here on one is all there is."""


def number_text(value: Fraction, digits: int = _SHOWN_DIGITS) -> str:
    """A decimal number, with ``~`` before it when it is not exactly the value."""
    context = decimal.Context(prec=digits, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
    shown = context.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    exact = Fraction(shown) == value
    normal = shown.normalize(context)
    notation = "f" if -_SHOWN_DIGITS <= normal.adjusted() < _SHOWN_DIGITS else "g"
    return ("" if exact else "~") + format(normal, notation)


def share_text(share: float, decimals: int = _SHARE_DECIMALS) -> str:
    """A share in percent. Nothing that exists is rounded to 0 %, and nothing that lacks something to 100 %."""
    least = 10.0**-decimals
    if 0 < share < least / 200:
        return f"<{least:.{decimals}f}%"
    if 1 - least / 200 < share < _WHOLE:
        return f">{100 - least:.{decimals}f}%"
    return f"{share:.{decimals}%}"


def literal_text(literal: Literal, naming: Naming) -> str:
    """The inequality with its linear form on the left and the number on the right."""
    parts = [(coefficient, naming.outputs[index]) for index, coefficient in literal.outputs]
    parts += [(coefficient, naming.inputs[index]) for index, coefficient in literal.inputs]
    named = [(coefficient * value.wire.scale, value.name) for coefficient, value in parts]
    bound = -literal.offset - sum((coefficient * value.wire.offset for coefficient, value in parts), Fraction(0))
    comparison = ">" if literal.strict else ">="
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


def requirement_lines(requirement: Requirement, naming: Naming) -> list[str]:
    """One line per literal; ``or`` binds a clause together more closely than ``and`` binds the clauses."""
    lines: list[str] = []
    for clause in requirement.clauses:
        first, *more = (literal_text(literal, naming) for literal in clause)
        lines.append(f"and {first}" if lines else first)
        lines += [f"  or {literal}" for literal in more]
    return lines or ["nothing"]


def region_lines(region: Region, naming: Naming) -> list[str]:
    """One line per feature with the names one below the other, then one per cut."""
    bounds = [
        (*_ends(named, low, high), named)
        for low, named, high in zip(region.box.lower, naming.inputs, region.box.upper, strict=True)
    ]
    low_width = max(len(low) for low, _, _ in bounds)
    name_width = max(len(named.name) for _, _, named in bounds)
    lines = [
        f"{low:>{low_width}} <= {named.name:<{name_width}} <= {high} {named.unit}".rstrip()
        for low, high, named in bounds
    ]
    return lines + [literal_text(cut, naming) for cut in region.cuts]


def _ends(named: Named, low: Fraction, high: Fraction) -> tuple[str, str]:
    first, last = physical_interval(named, low, high)
    return number_text(first, BOUND_DIGITS), number_text(last, BOUND_DIGITS)


def interval_text(named: Named, low: Fraction, high: Fraction) -> str:
    """A closed interval of wire values in the units of its name, on one line."""
    first, last = _ends(named, low, high)
    return f"{named.name} in [{first}, {last}] {named.unit}".rstrip()


def value_text(named: Named, wire: Fraction) -> str:
    """One wire value in the units of its name."""
    return f"{number_text(named.wire.to_physical(wire), BOUND_DIGITS)} {named.unit}".rstrip()
