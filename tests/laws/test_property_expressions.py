"""Laws of the expression language: what is printed parses back, and every expression means in normal form
what it means when evaluated directly, by rational arithmetic, ties and boundaries included."""

from collections.abc import Callable
from fractions import Fraction

import hypothesis.strategies as st
from hypothesis import assume, given, settings

from sidecar.errors import InputError
from sidecar.gates.values import Literal, Region
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
from sidecar.properties.expressions import parse
from sidecar.properties.meaning import Purpose, meaning
from sidecar.properties.normal_form import conjuncts, requirement
from sidecar.properties.regions import regions
from sidecar.properties.source import Excerpt, Source
from sidecar.properties.vocabulary import Best, Feature, Range, Ranking, Score, Vocabulary, WireMap

FEATURES = ("gap", "speed")
CLASSES = ("A", "B", "C")

# -- printing ------------------------------------------------------------------------------------------------


def printed(tree: Amount | Condition) -> str:
    match tree:
        case Number(value):
            return str(value.numerator) if value.denominator == 1 else f"{value.numerator / value.denominator:.2f}"
        case Name(name):
            return name
        case ScoreOf(name):
            return f"score({name})"
        case Negative(operand):
            return f"(-{printed(operand)})"
        case Sum(parts):
            return f"({' + '.join(map(printed, parts))})"
        case Product(factors, divisors):
            return f"({' * '.join(map(printed, factors))}{''.join(' / ' + printed(d) for d in divisors)})"
        case Comparison(operands, comparators):
            tail = (f" {sign} {printed(operand)}" for sign, operand in zip(comparators, operands[1:], strict=True))
            return printed(operands[0]) + "".join(tail)
        case BestIn(classes):
            return "best in {" + ", ".join(reference.name for reference in classes) + "}"
        case Not(operand):
            return f"not ({printed(operand)})"
        case AllOf(parts):
            return " and ".join(f"({printed(part)})" for part in parts)
        case AnyOf(parts):
            return " or ".join(f"({printed(part)})" for part in parts)


# -- direct meaning ------------------------------------------------------------------------------------------

COMPARED: dict[Comparator, Callable[[Fraction, Fraction], bool]] = {
    Comparator.LE: lambda a, b: a <= b,
    Comparator.LT: lambda a, b: a < b,
    Comparator.GE: lambda a, b: a >= b,
    Comparator.GT: lambda a, b: a > b,
}
COMPLEMENT = {"<=": Comparator.GT, "<": Comparator.GE, ">=": Comparator.LT, ">": Comparator.LE}


def amount(tree: Amount, physical: dict[str, Fraction]) -> Fraction:
    match tree:
        case Number(value):
            return value
        case Name(name) | ScoreOf(name):
            return physical[name]
        case Negative(operand):
            return -amount(operand, physical)
        case Sum(parts):
            return sum((amount(part, physical) for part in parts), Fraction(0))
        case Product(factors, divisors):
            result = Fraction(1)
            for factor in factors:
                result *= amount(factor, physical)
            for divisor in divisors:
                result /= amount(divisor, physical)
            return result


def true(tree: Condition, physical: dict[str, Fraction], best: Best, closed: bool, holds: bool = True) -> bool:
    """Direct evaluation. ``closed`` reads strict comparisons as closed ones, as domains do."""
    match tree:
        case Not(operand):
            return true(operand, physical, best, closed, not holds)
        case AllOf(parts):
            return (all if holds else any)(true(part, physical, best, closed, holds) for part in parts)
        case AnyOf(parts):
            return (any if holds else all)(true(part, physical, best, closed, holds) for part in parts)
        case BestIn(classes):
            sign = 1 if best is Best.LARGEST else -1
            inside = [sign * physical[reference.name] for reference in classes]
            outside = [sign * physical[name] for name in CLASSES if ScoreOf(name) not in classes]
            return max(inside) > max(outside) if holds else max(outside) > max(inside)
        case Comparison(operands, comparators):
            values = [amount(operand, physical) for operand in operands]
            signs = comparators if holds else [COMPLEMENT[sign] for sign in comparators]
            if closed:
                signs = [{"<": Comparator.LE, ">": Comparator.GE}.get(sign, sign) for sign in signs]
            pairs = zip(values, signs, values[1:], strict=False)
            return (all if holds else any)(COMPARED[sign](left, right) for left, sign, right in pairs)


# -- the values under test -----------------------------------------------------------------------------------


def literal_holds(literal: Literal, outputs: list[Fraction], inputs: list[Fraction]) -> bool:
    value = sum(c * outputs[i] for i, c in literal.outputs) + sum(c * inputs[i] for i, c in literal.inputs)
    value += literal.offset
    return value > 0 or (value == 0 and not literal.strict)


def inside(region: Region, inputs: list[Fraction]) -> bool:
    sides = zip(region.box.lower, inputs, region.box.upper, strict=True)
    return all(low <= x <= high for low, x, high in sides) and all(literal_holds(c, [], inputs) for c in region.cuts)


def excerpt(text: str) -> Excerpt:
    return Excerpt(Source("p.yaml", text), text, tuple(range(len(text) + 1)))


# -- strategies ----------------------------------------------------------------------------------------------

small = st.integers(-3, 3).map(Fraction)
numbers = st.integers(0, 400).map(lambda n: Number(Fraction(n, 100)))
signs = st.sampled_from([Comparator.LE, Comparator.LT, Comparator.GE, Comparator.GT])


def amounts(leaves: st.SearchStrategy[Amount]) -> st.SearchStrategy[Amount]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Negative, inner),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: Sum(tuple(parts))),
            st.builds(lambda a, b: Product((a, b), ()), inner, inner),
            st.builds(lambda a, b: Product((a,), (b,)), inner, inner),
        ),
        max_leaves=5,
    )


def comparisons(operands: st.SearchStrategy[Amount]) -> st.SearchStrategy[Condition]:
    @st.composite
    def draw(draw: st.DrawFn) -> Condition:
        count = draw(st.integers(1, 2))
        return Comparison(tuple(draw(operands) for _ in range(count + 1)), tuple(draw(signs) for _ in range(count)))

    return draw()


def conditions(leaves: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: AllOf(tuple(parts))),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
        ),
        max_leaves=5,
    )


def linear(variables: st.SearchStrategy[Amount]) -> st.SearchStrategy[Amount]:
    """Forms that are linear for sure: few terms, small integers, so that ties and boundaries are hit often."""
    term = st.one_of(
        variables,
        st.builds(Negative, variables),
        st.builds(lambda n, v: Product((n, v), ()), st.integers(1, 3).map(lambda n: Number(Fraction(n))), variables),
        st.builds(lambda v: Product((v,), (Number(Fraction(2)),)), variables),
    )
    constant = st.integers(0, 3).map(lambda n: Number(Fraction(n)))
    return st.one_of(
        term, constant, st.lists(st.one_of(term, constant), min_size=2, max_size=3).map(lambda p: Sum(tuple(p)))
    )


features = st.sampled_from(FEATURES).map(Name)
scores = st.sampled_from(CLASSES).map(ScoreOf)
best_in = st.lists(scores, min_size=1, max_size=2, unique=True).map(lambda names: BestIn(tuple(names)))
domains = conditions(comparisons(linear(features)))
requirements = conditions(st.one_of(best_in, comparisons(linear(st.one_of(scores, scores, features)))))
any_tree = conditions(st.one_of(best_in, comparisons(amounts(st.one_of(numbers, features, scores)))))

scales = st.sampled_from([Fraction(1), Fraction(-1), Fraction(1, 3), Fraction(-5, 2)])
wires = st.builds(WireMap, scales, small)


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    wide = Range(Fraction(-1000), Fraction(1000))
    return Vocabulary(
        tuple(Feature(name, index, draw(wires), "", wide) for index, name in enumerate(FEATURES)),
        {name: Score(name, index, draw(wires)) for index, name in enumerate(CLASSES)},
        Ranking(draw(st.sampled_from(Best)), CLASSES),
    )


points = st.lists(small, min_size=5, max_size=5).map(lambda v: dict(zip((*FEATURES, *CLASSES), v, strict=True)))


def on_the_wire(vocabulary: Vocabulary, physical: dict[str, Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    outputs = [vocabulary.scores[name].wire.to_wire(physical[name]) for name in CLASSES]
    return outputs, [feature.wire.to_wire(physical[feature.name]) for feature in vocabulary.features]


# -- laws ----------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(any_tree)
def test_printed_expression_parses_to_the_same_tree(tree: Condition) -> None:
    assert parse(excerpt(printed(tree))) == tree


@settings(max_examples=120, deadline=None)
@given(requirements, vocabularies(), st.lists(points, min_size=8, max_size=8))
def test_requirement_holds_exactly_where_the_expression_does(
    tree: Condition, vocabulary: Vocabulary, physical: list[dict[str, Fraction]]
) -> None:
    text = excerpt(printed(tree))
    try:
        stated = requirement(meaning(parse(text), text, vocabulary, Purpose.REQUIRE))
    except InputError as error:
        assume("no variable left" not in str(error))
        raise
    for point in physical:
        outputs, inputs = on_the_wire(vocabulary, point)
        got = all(any(literal_holds(literal, outputs, inputs) for literal in clause) for clause in stated.clauses)
        assert got == true(tree, point, vocabulary.ranking.best, closed=False)  # type: ignore[union-attr]


@settings(max_examples=120, deadline=None)
@given(domains, vocabularies(), st.lists(points, min_size=8, max_size=8))
def test_domain_is_exactly_the_closed_reading_of_the_expression(
    tree: Condition, vocabulary: Vocabulary, physical: list[dict[str, Fraction]]
) -> None:
    text = excerpt(printed(tree))
    try:
        formula = meaning(parse(text), text, vocabulary, Purpose.WHEN)
    except InputError as error:
        assume("no variable left" not in str(error))
        raise
    domain = regions(conjuncts(formula), vocabulary.features)
    for point in physical:
        _, inputs = on_the_wire(vocabulary, point)
        got = any(inside(region, inputs) for region in domain)
        assert got == true(tree, point, Best.LARGEST, closed=True)


@settings(max_examples=100, deadline=None)
@given(requirements, vocabularies(), points)
def test_no_point_satisfies_a_condition_and_its_negation(
    tree: Condition, vocabulary: Vocabulary, point: dict[str, Fraction]
) -> None:
    """Exactly one of them without `best`; with it, possibly neither (ties), never both."""
    best = vocabulary.ranking.best  # type: ignore[union-attr]
    both = [true(tree, point, best, closed=False), true(Not(tree), point, best, closed=False)]
    assert both.count(True) == 1 if "best" not in printed(tree) else both.count(True) <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(small, min_size=3, max_size=3), st.lists(small, min_size=3, max_size=3), st.booleans())
def test_negated_literal_is_the_complement(coefficients: list[Fraction], values: list[Fraction], strict: bool) -> None:
    literal = Literal(tuple((i, c) for i, c in enumerate(coefficients) if c), (), Fraction(1), strict)
    assert literal_holds(literal, values, []) != literal_holds(literal.negated(), values, [])
