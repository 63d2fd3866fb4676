"""What a VNN-LIB file says of a point, by direct evaluation: nothing here comes from the product.

A file is given as the nested lists of :func:`tests.e2e.judge.parse`; a term is a linear form, exact.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from tests.e2e.judge import Expression

Form = dict[str, Fraction]
"""Coefficients by variable; the constant under the empty name."""


def unsafe(expression: Expression, point: Mapping[str, Fraction], *, closed_inputs: bool) -> bool:
    """Whether an assertion holds at a point.

    ``closed_inputs`` reads strict comparisons that do not depend on an output as closed ones.
    """
    operator, *parts = expression
    match operator:
        case "and":
            return all(unsafe(part, point, closed_inputs=closed_inputs) for part in parts)
        case "or":
            return any(unsafe(part, point, closed_inputs=closed_inputs) for part in parts)
    left, right = map(form, parts)
    difference = _sum(left, _scaled(right, Fraction(-1)))
    total = sum(value * (point[name] if name else 1) for name, value in difference.items())
    speaks_of_outputs = any(name.startswith("Y") and value for name, value in difference.items())
    if operator in ("==", "!="):  # the latter is two strict comparisons: closed, they take in everything
        return (total == 0) == (operator == "==") or (operator == "!=" and closed_inputs and not speaks_of_outputs)
    strict = operator in ("<", ">") and (speaks_of_outputs or not closed_inputs)
    signed = total if operator in (">", ">=") else -total
    return signed > 0 or (signed == 0 and not strict)


def in_the_first_version(text: str) -> str:
    """A file of version 2.0 that the product accepts, about two inputs and two outputs, with X_i and Y_i instead.

    Comments and quoted names fall away, and so does the network: its assertions are what is looked at.
    """
    text = re.sub(r'"[^"\r\n]*"|;[^\r\n]*', "", text)
    for letter, kind in (("X", "input"), ("Y", "output")):
        declared = re.search(rf"\(\s*declare-{kind}\s+(\w+)", text)
        if declared is None:
            raise ValueError(f"no {kind} is declared")
        element = rf"(?<!\w){declared[1]}\s*\[\s*(?:0+\s*,\s*)?0*([0-9])\s*\]"
        text = re.sub(element, rf" \0{letter}_\1 ", text)
    return text.replace("\0", "")


def form(term: Expression) -> Form:
    """A term's value as a linear form."""
    if isinstance(term, str):
        return {term: Fraction(1)} if term[0] in "XY" else {"": Fraction(term)}
    operator, *parts = term
    forms = [form(part) for part in parts]
    total = forms[0]
    if operator == "-" and len(forms) == 1:
        return _scaled(total, Fraction(-1))
    for each in forms[1:]:
        match operator:
            case "+":
                total = _sum(total, each)
            case "-":
                total = _sum(total, _scaled(each, Fraction(-1)))
            case "*":
                constant, other = (total, each) if not _varies(total) else (each, total)
                total = _scaled(other, constant.get("", Fraction(0)))
            case _:
                raise ValueError(f"no operator of terms: {operator}")
    return total


def _varies(one: Form) -> bool:
    return any(value for name, value in one.items() if name)


def _sum(one: Form, other: Form) -> Form:
    return {name: one.get(name, Fraction(0)) + other.get(name, Fraction(0)) for name in {**one, **other}}


def _scaled(one: Form, factor: Fraction) -> Form:
    return {name: value * factor for name, value in one.items()}
