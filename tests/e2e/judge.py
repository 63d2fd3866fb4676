"""What a VNN-LIB file means, read a second time: nothing here comes from the product.

The product's verdicts are compared with these. A file's assertions describe the unsafe set, joined by *and*.
Assertions on inputs alone bound the domain; each bound is widened to the FP32 value nearest to it. The
others say which answers are unsafe. The same expression is evaluated exactly, in rational numbers, and as a
degree: how deep inside the unsafe set a float64 point lies.
"""

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

Expression = str | list["Expression"]


def parse(text: str) -> list[Expression]:
    """The assertions of a file, as nested lists."""
    stack: list[list[Expression]] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text)):
        if word == "(":
            stack.append([])
        elif word == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    return [statement[1] for statement in stack[0] if statement[0] == "assert"]


def mentions(expression: Expression, letter: str) -> bool:
    """Whether a variable of this letter stands in the expression."""
    if isinstance(expression, str):
        return expression.startswith(f"{letter}_")
    return any(mentions(part, letter) for part in expression)


def holds(expression: Expression, outputs: Sequence[Fraction]) -> bool:
    """Exact truth of an expression over outputs."""
    operator, *parts = expression
    match operator:
        case "and":
            return all(holds(part, outputs) for part in parts)
        case "or":
            return any(holds(part, outputs) for part in parts)
        case "<=":
            return _exact(parts[0], outputs) <= _exact(parts[1], outputs)
        case ">=":
            return _exact(parts[0], outputs) >= _exact(parts[1], outputs)
        case "<":
            return _exact(parts[0], outputs) < _exact(parts[1], outputs)
        case ">":
            return _exact(parts[0], outputs) > _exact(parts[1], outputs)
    raise ValueError(f"not expected in these files: {operator}")


def _exact(term: Expression, outputs: Sequence[Fraction]) -> Fraction:
    return outputs[int(term[2:])] if term.startswith("Y_") else Fraction(term)


def depth(expression: Expression, outputs: np.ndarray) -> np.ndarray:
    """How deep each row lies inside the set (negative outside); float64, for steering a search only."""
    operator, *parts = expression
    match operator:
        case "and":
            return np.min([depth(part, outputs) for part in parts], axis=0)
        case "or":
            return np.max([depth(part, outputs) for part in parts], axis=0)
        case "<=":
            return _rows(parts[1], outputs) - _rows(parts[0], outputs)
        case ">=":
            return _rows(parts[0], outputs) - _rows(parts[1], outputs)
    raise ValueError(f"not expected in these files: {operator}")


def _rows(term: Expression, outputs: np.ndarray) -> np.ndarray:
    return outputs[:, int(term[2:])] if term.startswith("Y_") else np.full(len(outputs), float(term))


def nearest_fp32(bound: Fraction) -> np.float32:
    """The FP32 value nearest to an exact bound."""
    guess = np.float32(float(bound))
    around = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    return min(around, key=lambda value: abs(Fraction(float(value)) - bound))


@dataclasses.dataclass(frozen=True)
class Judge:
    """One property: its effective box, exact, and the set of unsafe answers."""

    name: str
    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    unsafe: Expression

    def contains(self, row: np.ndarray) -> bool:
        """Whether an FP32 input row lies in the effective domain."""
        values = [Fraction(float(value)) for value in row]
        return all(low <= value <= high for low, value, high in zip(self.lower, values, self.upper, strict=True))

    def violated(self, row: np.ndarray, answer: np.ndarray) -> bool:
        """Whether this answer to this row breaks the property; exact."""
        if not self.contains(row):
            return False
        return not np.isfinite(answer).all() or holds(self.unsafe, [Fraction(float(value)) for value in answer])

    def wire_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and largest FP32 values inside the box."""
        return (
            np.array([_fp32_inside(low, np.float32(np.inf)) for low in self.lower]),
            np.array([_fp32_inside(high, np.float32(-np.inf)) for high in self.upper]),
        )


def _fp32_inside(bound: Fraction, inwards: np.float32) -> np.float32:
    value = nearest_fp32(bound)
    outside = Fraction(float(value)) < bound if inwards > 0 else Fraction(float(value)) > bound
    return np.nextafter(value, inwards) if outside else value


def read_judge(path: Path, size: int = 5) -> Judge:
    """Reads a file whose domain is one box."""
    assertions = parse(path.read_text())
    lower: dict[int, Fraction] = {}
    upper: dict[int, Fraction] = {}
    for assertion in assertions:
        if mentions(assertion, "X"):
            operator, variable, number = assertion
            (lower if operator == ">=" else upper)[int(variable[2:])] = Fraction(number)
    return Judge(
        name=path.stem,
        lower=tuple(min(lower[index], Fraction(float(nearest_fp32(lower[index])))) for index in range(size)),
        upper=tuple(max(upper[index], Fraction(float(nearest_fp32(upper[index])))) for index in range(size)),
        unsafe=["and", *(assertion for assertion in assertions if not mentions(assertion, "X"))],
    )
