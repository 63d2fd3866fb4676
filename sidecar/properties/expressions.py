"""The parser of ``when:`` and ``require:``: from an expression's words to its tree.

::

    condition  := conjunct ("or" conjunct)*
    conjunct   := negation ("and" negation)*
    negation   := "not" negation | comparison
    comparison := "best" ("==" | "!=") CLASS | "best" ["not"] "in" "{" CLASS ("," CLASS)* "}"
                | sum (("<=" | "<" | ">=" | ">" | "==" | "!=") sum)*
    sum        := product (("+" | "-") product)*
    product    := signed (("*" | "/") signed)*
    signed     := ("-" | "+") signed | NUMBER | FEATURE | "score" "(" CLASS ")" | "(" condition ")"

Whether names exist, and what they mean, is for :mod:`sidecar.properties.meaning`.
"""

import contextlib
from collections.abc import Iterator
from typing import Final, TypeAlias

from sidecar.errors import InputError
from sidecar.properties.expression_tree import (
    AllOf,
    Amount,
    AnyOf,
    BestIn,
    Comparator,
    Comparison,
    Condition,
    Name,
    Negative,
    Not,
    Number,
    Product,
    ScoreOf,
    Sum,
)
from sidecar.properties.lexer import Token, tokens
from sidecar.properties.rationals import decimal
from sidecar.properties.source import Excerpt, shown

MAX_DEPTH: Final = 40
"""Brackets, ``not`` and signs inside one another; keeps recursion shallow."""

Parsed: TypeAlias = Amount | Condition

_IMPLICATION: Final = frozenset({"if", "then", "implies"})
"""Words of an implication, which the language has no sign for."""

_COMPARATORS: Final = tuple(comparator.value for comparator in Comparator)


def parse(excerpt: Excerpt) -> Condition:
    """The tree of one expression.

    Raises:
        InputError: not an expression of the grammar above; points at the word that does not fit.
    """
    return _Parser(excerpt).parse()


class _Parser:
    """Recursive descent, one method for each rule of the grammar."""

    def __init__(self, excerpt: Excerpt) -> None:
        self._excerpt = excerpt
        self._tokens = list(tokens(excerpt))
        self._position = 0
        self._depth = 0

    def parse(self) -> Condition:
        parsed = self._condition()
        if self._next.kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return self._as_condition(parsed)

    # -- words ---------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._next
        self._position += 1
        return token

    def _accept(self, *kinds: str) -> Token | None:
        return self._take() if self._next.kind in kinds else None

    def _expect(self, kind: str, wanted: str) -> Token:
        if self._next.kind != kind:
            raise self._unexpected(wanted)
        return self._take()

    def _unexpected(self, wanted: str) -> InputError:
        token = self._next
        got = token.text if token.kind == "end" else shown(token.text)
        return self._excerpt.error(token.place, f"expected {wanted}, got {got}{self._hint(token)}")

    def _hint(self, token: Token) -> str:
        """What to write instead of some things that people try."""
        before = self._tokens[max(self._position - 1, 0)]
        if token.kind == "name" and before.kind == "number":
            return "; write numbers without units, they are the feature's"
        if token.kind == "(" and before.kind == "name":
            return f"; {shown(before.text)} is no function, there is score(...) only"
        if any(each.text in _IMPLICATION for each in self._tokens):
            return "; for 'if A then B' write not (A) or (B), or put A into when:"
        return ""

    # -- conditions ----------------------------------------------------------------------------------------

    def _condition(self) -> Parsed:
        first = self._conjunct()
        if self._next.kind != "or":
            return first
        parts = [self._as_condition(first)]
        while self._accept("or"):
            parts.append(self._as_condition(self._conjunct()))
        return AnyOf(tuple(parts), index=first.index)

    def _conjunct(self) -> Parsed:
        first = self._negation()
        if self._next.kind != "and":
            return first
        parts = [self._as_condition(first)]
        while self._accept("and"):
            parts.append(self._as_condition(self._negation()))
        return AllOf(tuple(parts), index=first.index)

    def _negation(self) -> Parsed:
        token = self._accept("not")
        if token is None:
            return self._comparison()
        with self._nested(token):
            return Not(self._as_condition(self._negation()), index=token.place)

    def _comparison(self) -> Parsed:
        token = self._accept("best")
        if token is not None:
            return self._best(token)
        first = self._sum()
        if self._next.kind == "in":
            raise self._excerpt.error(
                self._next.place, "'in' goes with best, as in best in {A, B}; compare with <= here"
            )
        if self._next.kind not in _COMPARATORS:
            return first
        operands = [self._as_amount(first)]
        comparators: list[Comparator] = []
        while (sign := self._accept(*_COMPARATORS)) is not None:
            comparators.append(Comparator(sign.kind))
            operands.append(self._as_amount(self._sum()))
        return Comparison(tuple(operands), tuple(comparators), index=first.index)

    def _best(self, best: Token) -> Condition:
        sign = self._accept("==", "!=", "in", "not")
        if sign is None:
            raise self._unexpected("==, !=, in or not in after best")
        if sign.kind == "not":
            self._expect("in", "in after best not")
        classes = (self._class(),) if sign.kind in ("==", "!=") else self._classes()
        condition = BestIn(classes, index=best.place)
        return condition if sign.kind in ("==", "in") else Not(condition, index=best.place)

    def _classes(self) -> tuple[ScoreOf, ...]:
        self._expect("{", "classes in braces, as in {A, B}")
        classes = [self._class()]
        while self._accept(","):
            classes.append(self._class())
        self._expect("}", "',' or '}'")
        return tuple(classes)

    def _class(self) -> ScoreOf:
        token = self._expect("name", "the name of a class")
        return ScoreOf(token.text, index=token.place)

    # -- amounts -------------------------------------------------------------------------------------------

    def _sum(self) -> Parsed:
        first = self._product()
        if self._next.kind not in ("+", "-"):
            return first
        parts = [self._as_amount(first)]
        while (sign := self._accept("+", "-")) is not None:
            part = self._as_amount(self._product())
            parts.append(part if sign.kind == "+" else Negative(part, index=sign.place))
        return Sum(tuple(parts), index=first.index)

    def _product(self) -> Parsed:
        first = self._signed()
        if self._next.kind not in ("*", "/"):
            return first
        factors = [self._as_amount(first)]
        divisors: list[Amount] = []
        while (sign := self._accept("*", "/")) is not None:
            (factors if sign.kind == "*" else divisors).append(self._as_amount(self._signed()))
        return Product(tuple(factors), tuple(divisors), index=first.index)

    def _signed(self) -> Parsed:
        sign = self._accept("-", "+")
        if sign is None:
            return self._primary()
        with self._nested(sign):
            operand = self._as_amount(self._signed())
        return Negative(operand, index=sign.place) if sign.kind == "-" else operand

    def _primary(self) -> Parsed:
        token = self._next
        match token.kind:
            case "number":
                self._take()
                with self._excerpt.at(token.place):
                    return Number(decimal(token.text), index=token.place)
            case "name":
                self._take()
                return Name(token.text, index=token.place)
            case "score":
                self._take()
                self._expect("(", "'(' after score, as in score(A)")
                name = self._class().name
                self._expect(")", "')' after the class's name")
                return ScoreOf(name, index=token.place)
            case "(":
                with self._nested(self._take()):
                    inside = self._condition()
                self._expect(")", "')', an operator or a comparison")
                return inside
            case "best":
                raise self._excerpt.error(token.place, "best stands first, as in best == A or best in {A, B}")
            case _:
                raise self._unexpected("a number, a feature, score(...), best or '('")

    # -- kinds and depth -----------------------------------------------------------------------------------

    def _as_amount(self, parsed: Parsed) -> Amount:
        if isinstance(parsed, Condition):
            raise self._excerpt.error(parsed.index, "expected a number, got a condition; join conditions with and/or")
        return parsed

    def _as_condition(self, parsed: Parsed) -> Condition:
        if isinstance(parsed, Amount):
            raise self._excerpt.error(
                parsed.index, "expected a condition, got a number; compare it, as in 0 <= gap <= 20"
            )
        return parsed

    @contextlib.contextmanager
    def _nested(self, token: Token) -> Iterator[None]:
        """Count what stands inside ``token`` as one level deeper."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._excerpt.error(token.place, f"nested deeper than {MAX_DEPTH} levels; flatten the expression")
        yield
        self._depth -= 1
