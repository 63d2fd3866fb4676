"""The conditions of VNN-LIB files, of either version: and, or, comparisons of linear terms.

What a name means, and which comparisons there are, is the version's affair.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final, TypeAlias

from sidecar.errors import InputError
from sidecar.properties import formulas
from sidecar.properties.formulas import Formula, Linear
from sidecar.properties.rationals import decimal
from sidecar.properties.sexpressions import Atom, Group, Node
from sidecar.properties.source import Source, shown

Compare: TypeAlias = Callable[[Linear, Linear], Formula]

ORDERS: Final[Mapping[str, Compare]] = MappingProxyType(
    {
        "<=": lambda left, right: formulas.at_least(right, left, strict=False),
        "<": lambda left, right: formulas.at_least(right, left, strict=True),
        ">=": lambda left, right: formulas.at_least(left, right, strict=False),
        ">": lambda left, right: formulas.at_least(left, right, strict=True),
    }
)


class Conditions:
    """Translates conditions into formulas.

    Args:
        source: the file, for errors.
        variable: the value that a word names; None where it is no name. It raises InputError for a name that means
            nothing.
        names: how values are called, for errors.
        comparisons: operators of two terms.
    """

    def __init__(
        self,
        source: Source,
        variable: Callable[[str, int], Linear | None],
        names: str,
        comparisons: Mapping[str, Compare],
    ) -> None:
        self._source, self._variable, self._names, self._comparisons = source, variable, names, comparisons

    def condition(self, node: Node) -> Formula:
        """What an asserted expression says."""
        match node:
            case Group((Atom("and"), first, *rest)):
                return formulas.conjunction(self.condition(part) for part in (first, *rest))
            case Group((Atom("or"), first, *rest)):
                return formulas.disjunction(self.condition(part) for part in (first, *rest))
            case Group((Atom(operator), left, right)) if operator in self._comparisons:
                with self._source.at(node.place):
                    return self._comparisons[operator](self._term(left), self._term(right))
            case _:
                operators = " ".join(self._comparisons)
                raise self.unexpected(node, f"(and ...), (or ...) or one of {operators} with two terms")

    def _term(self, node: Node) -> Linear:
        match node:
            case Atom(text, index):
                return self._atom(text, index)
            case Group((Atom("+"), first, *rest)):
                return formulas.total(self._term(part) for part in (first, *rest))
            case Group((Atom("-"), only)):
                return self._term(only).scaled(Fraction(-1))
            case Group((Atom("-"), first, *rest)):
                subtracted = (self._term(part).scaled(Fraction(-1)) for part in rest)
                return formulas.total((self._term(first), *subtracted))
            case Group((Atom("*"), first, *rest)):
                return formulas.product([self._term(part) for part in (first, *rest)])
            case _:
                raise self.unexpected(node, f"a number, {self._names}, or one of + - * with terms")

    def _atom(self, text: str, index: int) -> Linear:
        named = self._variable(text, index)
        if named is not None:
            return named
        with self._source.at(index):
            return formulas.constant(decimal(text))

    def unexpected(self, node: Node, expected: str) -> InputError:
        """The error about an expression that is of another kind."""
        match node:
            case Atom(text) | Group((Atom(text), *_)):
                got = shown(text)
            case _:
                got = "brackets without an operator"
        return self._source.error(node.place, f"expected {expected}, got {got}")


def input_value(position: int) -> Linear:
    """A value of the input row as a form."""
    return Linear({}, {position: Fraction(1)}, Fraction(0))


def output_value(position: int) -> Linear:
    """A value of the output row as a form."""
    return Linear({position: Fraction(1)}, {}, Fraction(0))
