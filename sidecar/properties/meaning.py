"""What an expression means: its names looked up, its units turned into wire units, ``not`` pushed inwards.

**Numbers.** Every comparison is one linear inequality over wire values, exactly. ``not (a <= b)`` is ``a > b``.
``==`` between numbers is read in ``when`` only, as a feature of fixed value; a required equality could never
survive rounding to the wire datatype.

**Best.** Wherever classes can tie, the reading that is *harder to satisfy* counts, so that a doubtful answer is
a violation:

- ``best in {A, B}``: some class of the set beats every class outside the set. ``best == A`` is ``best in {A}``:
  A beats every other class, so a tie for the first place is not "A is best".
- ``best not in {A, B}`` is ``best in`` all the other classes: one of them beats both A and B. ``best != A`` is
  ``best not in {A}``: a class tied with A for the first place is a violation, since A may then be picked.
- ``not (best ...)`` swaps ``in`` and ``not in``. Therefore both ``best == A`` and ``not (best == A)`` fail
  where A ties for the first place: each is required, not merely not contradicted. In an implication,
  ``not (best == A) or c``, a tie counts as "A is best", and ``c`` must hold.
"""

import dataclasses
import enum
from fractions import Fraction
from typing import Final, assert_never

from sidecar.properties import formulas
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
from sidecar.properties.formulas import Formula, Linear
from sidecar.properties.source import Excerpt, shown, suggestion
from sidecar.properties.vocabulary import Best, Ranking, Score, Vocabulary

MAX_PAIRS: Final = 100_000
"""Pairs of classes compared by all the ``best`` of one expression; one ``best == A`` of 1000 classes takes 1000."""


class Purpose(enum.StrEnum):
    """Which of a property's two expressions is read."""

    WHEN = "when"
    REQUIRE = "require"


_COMPLEMENT = {
    Comparator.LE: Comparator.GT,
    Comparator.LT: Comparator.GE,
    Comparator.GE: Comparator.LT,
    Comparator.GT: Comparator.LE,
    Comparator.EQ: Comparator.NE,
    Comparator.NE: Comparator.EQ,
}


def meaning(tree: Condition, excerpt: Excerpt, vocabulary: Vocabulary, purpose: Purpose) -> Formula:
    """The formula over wire values that an expression stands for.

    Args:
        tree: the parsed expression.
        excerpt: its text, for errors.
        vocabulary: the names it may use.
        purpose: ``when`` may speak about inputs only.

    Raises:
        InputError: an unknown name, a product of variables, a comparison that says nothing, and so on.
    """
    ranked = 0 if vocabulary.ranking is None else len(vocabulary.ranking.names)
    if _pairs(tree, ranked) > MAX_PAIRS:
        raise excerpt.error(tree.index, f"best compares more than {MAX_PAIRS} pairs of classes; split the property")
    return _Reading(excerpt, vocabulary, purpose).condition(tree, holds=True)


def _pairs(tree: Condition, ranked: int) -> int:
    """How many pairs of classes ``best`` compares, at most; each becomes a literal."""
    match tree:
        case Not(operand):
            return _pairs(operand, ranked)
        case AllOf(parts) | AnyOf(parts):
            return sum(_pairs(part, ranked) for part in parts)
        case Comparison():
            return 0
        case BestIn(classes):
            return len(classes) * ranked
        case _:
            assert_never(tree)


@dataclasses.dataclass(frozen=True)
class _Reading:
    excerpt: Excerpt
    vocabulary: Vocabulary
    purpose: Purpose

    def condition(self, tree: Condition, holds: bool) -> Formula:
        """The formula for "the condition holds", or for "it does not hold"."""
        match tree:
            case Not(operand):
                return self.condition(operand, not holds)
            case AllOf(parts) | AnyOf(parts):
                inside = [self.condition(part, holds) for part in parts]
                join = formulas.conjunction if isinstance(tree, AllOf) is holds else formulas.disjunction
                return join(inside)
            case Comparison():
                return self.chain(tree, holds)
            case BestIn():
                return self.best(tree, holds)
            case _:
                assert_never(tree)

    # -- comparisons ---------------------------------------------------------------------------------------

    def chain(self, tree: Comparison, holds: bool) -> Formula:
        with self.excerpt.at(tree.index):
            forms = [self.amount(operand) for operand in tree.operands]
            pairs = [
                self.pair(left, comparator if holds else _COMPLEMENT[comparator], right, operand.index)
                for left, comparator, right, operand in zip(
                    forms[:-1], tree.comparators, forms[1:], tree.operands[:-1], strict=True
                )
            ]
        return formulas.conjunction(pairs) if holds else formulas.disjunction(pairs)

    def pair(self, left: Linear, comparator: Comparator, right: Linear, index: int) -> Formula:
        if formulas.difference(left, right).is_constant():
            raise self.excerpt.error(index, "this comparison has no variable left, so it says nothing; remove it")
        match comparator:
            case Comparator.LE | Comparator.LT:
                return formulas.at_least(right, left, comparator is Comparator.LT)
            case Comparator.GE | Comparator.GT:
                return formulas.at_least(left, right, comparator is Comparator.GT)
            case Comparator.EQ if self.purpose is Purpose.WHEN:
                ends = (formulas.at_least(left, right, strict=False), formulas.at_least(right, left, strict=False))
                return formulas.conjunction(ends)
            case Comparator.EQ | Comparator.NE:
                raise self.excerpt.error(index, _EQUALITY[self.purpose])
            case _:
                assert_never(comparator)

    # -- amounts -------------------------------------------------------------------------------------------

    def amount(self, tree: Amount) -> Linear:
        match tree:
            case Number(value):
                return formulas.constant(value)
            case Name(name):
                return self.feature(name, tree.index)
            case ScoreOf():
                return self.score(tree).form()
            case Negative(operand):
                return self.amount(operand).scaled(Fraction(-1))
            case Sum(parts):
                return formulas.total(self.amount(part) for part in parts)
            case Product():
                return self.product(tree)
            case _:
                assert_never(tree)

    def feature(self, name: str, index: int) -> Linear:
        feature = self.vocabulary.feature(name)
        if feature is not None:
            return feature.form()
        if name in self.vocabulary.scores:
            raise self.excerpt.error(index, f"{name} is an output; write score({name}), or best == {name}")
        known = [feature.name for feature in self.vocabulary.features]
        raise self.excerpt.error(index, f"no feature is called {shown(name)}; {suggestion(name, known)}")

    def score(self, tree: ScoreOf) -> Score:
        self.refuse_outputs(tree.index)
        score = self.vocabulary.scores.get(tree.name)
        if score is None:
            known = suggestion(tree.name, self.vocabulary.scores)
            raise self.excerpt.error(tree.index, f"no output is called {shown(tree.name)}; {known}")
        return score

    def product(self, tree: Product) -> Linear:
        with self.excerpt.at(tree.index):
            product = formulas.product([self.amount(factor) for factor in tree.factors])
        for divisor in tree.divisors:
            form = self.amount(divisor)
            if not form.is_constant() or form.constant == 0:
                raise self.excerpt.error(divisor.index, "expected a divisor that is a number other than zero")
            product = product.scaled(1 / form.constant)
        return product

    # -- best ----------------------------------------------------------------------------------------------

    def best(self, tree: BestIn, holds: bool) -> Formula:
        self.refuse_outputs(tree.index)
        ranking = self.vocabulary.ranking
        if ranking is None:
            raise self.excerpt.error(
                tree.index, "best needs to know which score wins; add best: largest or best: smallest to the output"
            )
        named = [self.ranked(reference, ranking) for reference in tree.classes]
        others = [name for name in ranking.names if name not in named]
        if len(set(named)) < len(named):
            raise self.excerpt.error(tree.index, "a class stands here twice; remove one")
        if not others:
            raise self.excerpt.error(tree.index, "all classes stand here, so best says nothing; name fewer")
        with self.excerpt.at(tree.index):
            winners, losers = (named, others) if holds else (others, named)
            return formulas.conjunction(
                formulas.disjunction(self.beats(winner, loser, ranking.best) for winner in winners) for loser in losers
            )

    def ranked(self, reference: ScoreOf, ranking: Ranking) -> str:
        name = self.score(reference).name
        if name not in ranking.names:
            raise self.excerpt.error(reference.index, f"{name} is not among the classes that best compares")
        return name

    def beats(self, winner: str, loser: str, best: Best) -> Formula:
        better, worse = (self.vocabulary.scores[name].form() for name in (winner, loser))
        if best is Best.SMALLEST:
            better, worse = worse, better
        return formulas.at_least(better, worse, strict=True)

    def refuse_outputs(self, index: int) -> None:
        if self.purpose is Purpose.WHEN:
            raise self.excerpt.error(index, "when: speaks about inputs only; conditions on the answer go to require:")


_EQUALITY = {
    Purpose.WHEN: "!= between numbers leaves all but a thin slice; state a domain with <= and >=",
    Purpose.REQUIRE: "== and != between numbers cannot be required of rounded values; require low <= value <= high",
}
