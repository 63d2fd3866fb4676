"""contains and satisfied say what exact rational arithmetic says, on ordinary rows and on those chosen to hurt."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sidecar.gates.effective import effective_region
from sidecar.gates.exact import literal_holds, region_contains, requirement_holds, sum_of_products
from sidecar.gates.filter import filter_literals, literal_table
from sidecar.gates.membership import contains
from sidecar.gates.one_row import known_of_literal, plain_literals
from sidecar.gates.prepare import prepare
from sidecar.gates.satisfaction import satisfied, satisfies
from sidecar.gates.values import Action, Box, Gate, Literal, Norm, Region, Requirement, terms
from sidecar.numerics import largest_finite, next_down, next_up, round_to_datatype
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, TensorSpec

COEFFICIENTS = st.one_of(
    st.integers(-2, 2).map(Fraction),
    st.sampled_from(["0.1", "-0.3", "1/3", "16777217", "1e-30", "-1e25", "1e-320", "1e400"]).map(Fraction),
)
OFFSETS = st.one_of(st.just(Fraction(0)), COEFFICIENTS, st.sampled_from(["0.7", "1500", "-1e300"]).map(Fraction))


@st.composite
def signatures(draw) -> ModelSignature:
    def specs(side: str) -> tuple[TensorSpec, ...]:
        kinds = draw(st.lists(st.sampled_from(FLOATING_DATATYPES), min_size=1, max_size=2))
        return tuple(TensorSpec(f"{side}{n}", kind, (draw(st.integers(1, 2)),)) for n, kind in enumerate(kinds))

    return ModelSignature(specs("x"), specs("y"), 0)


def forms(size: int):
    return st.dictionaries(st.integers(0, size - 1), COEFFICIENTS, max_size=3).map(terms)


def literals(inputs: int, outputs: int):
    no_outputs = st.just(())
    return st.builds(Literal, forms(outputs) if outputs else no_outputs, forms(inputs), OFFSETS, st.booleans())


@st.composite
def wire_values(draw, datatype: Datatype) -> float:
    """Values of a datatype: few small ones, so that ties are common; their neighbours; and the ends of the range."""
    largest = largest_finite(datatype)
    value = draw(
        st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1500.0]),
            st.floats(-4, 4),
            st.sampled_from([largest, -largest, largest / 2]),
        )
    )
    rounded = round_to_datatype(Fraction(value), datatype)
    match draw(st.sampled_from(["itself", "itself", "above", "below"])):
        case "above" if rounded < largest:
            return next_up(rounded, datatype)
        case "below" if rounded > -largest:
            return next_down(rounded, datatype)
    return rounded


def rows(datatypes, special: bool):
    values = [
        st.one_of(wire_values(kind), st.sampled_from([math.nan, math.inf, -math.inf])) if special else wire_values(kind)
        for kind in datatypes
    ]
    return st.lists(st.tuples(*values), min_size=1, max_size=4).map(np.array)


@st.composite
def regions(draw, signature: ModelSignature) -> Region:
    lower = [draw(st.fractions(-2, 1, max_denominator=10)) for _ in range(signature.input_size)]
    upper = [low + draw(st.fractions(0, 3, max_denominator=10)) for low in lower]
    cuts = draw(st.lists(literals(signature.input_size, 0), max_size=2))
    return effective_region(Region(Box(tuple(lower), tuple(upper)), tuple(cuts)), signature.input_datatypes())


@st.composite
def gates(draw, signature: ModelSignature) -> Gate:
    clause = st.lists(literals(signature.input_size, signature.output_size), min_size=1, max_size=3).map(tuple)
    return Gate(
        property_id="p",
        domain=tuple(draw(st.lists(regions(signature), min_size=1, max_size=2))),
        requirement=Requirement(tuple(draw(st.lists(clause, max_size=3)))),
        action=Action.PROJECT,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=None,
    )


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_contains_is_exact_membership(data):
    signature = data.draw(signatures())
    prepared = prepare(data.draw(st.lists(gates(signature), min_size=1, max_size=3)), signature)
    inputs = data.draw(rows(signature.input_datatypes(), special=True))
    expected = [
        [
            bool(np.isfinite(row).all()) and any(region_contains(region, row) for region in gate.domain)
            for gate in prepared.gates
        ]
        for row in inputs
    ]
    assert contains(prepared, inputs).tolist() == expected
    assert [contains(prepared, row[np.newaxis])[0].tolist() for row in inputs] == expected


def violated_by_missing_values(gate: Gate, signature: ModelSignature, x, y) -> bool:
    """The definition, read off the literals again."""
    forms_read = [literal for clause in gate.requirement.clauses for literal in clause]
    if any(not math.isfinite(x[index]) for literal in forms_read for index, _ in literal.inputs):
        return True
    start = 0
    for spec in signature.outputs:
        places = range(start, start + spec.row_size)
        start += spec.row_size
        mentioned = any(index in places for literal in forms_read for index, _ in literal.outputs)
        if mentioned and not all(math.isfinite(y[place]) for place in places):
            return True
    return False


@settings(max_examples=120, deadline=None)
@given(st.data(), st.booleans())
def test_satisfied_is_exact_satisfaction(data, special):
    signature = data.draw(signatures())
    prepared = prepare(data.draw(st.lists(gates(signature), min_size=1, max_size=3)), signature)
    inputs = data.draw(rows(signature.input_datatypes(), special=False))[:1]
    outputs = data.draw(rows(signature.output_datatypes(), special=special))
    inputs = np.repeat(inputs, len(outputs), axis=0)
    shape = (len(outputs), len(prepared.gates))
    considered = np.array(data.draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape))))
    considered = considered.reshape(shape)
    result = satisfied(prepared, inputs, outputs, considered)
    for row, x, y in zip(range(len(outputs)), inputs, outputs, strict=True):
        for number, gate in enumerate(prepared.gates):
            expected = not considered[row, number] or (
                not violated_by_missing_values(gate, signature, x, y) and requirement_holds(gate.requirement, x, y)
            )
            assert result[row, number] == expected
        alone = satisfied(prepared, x[np.newaxis], y[np.newaxis], considered[row : row + 1])
        assert alone.tolist() == [result[row].tolist()]


LONG = 70
"""Values of a row of which only some are taken out to be looked at."""


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_of_a_long_row_alone_the_right_values_are_looked_at(data):
    halves = (TensorSpec("y0", Datatype.FP32, (LONG,)), TensorSpec("y1", Datatype.FP64, (LONG,)))
    signature = ModelSignature((TensorSpec("x", Datatype.FP32, (LONG,)),), halves, 0)
    clause = st.lists(literals(LONG, 2 * LONG), min_size=1, max_size=3).map(tuple)
    requirements = data.draw(st.lists(st.lists(clause, max_size=3).map(tuple), min_size=1, max_size=3))
    box = Box((Fraction(-1),) * LONG, (Fraction(1),) * LONG)
    prepared = prepare(
        [
            Gate("p", (Region(box),), Requirement(each), Action.PROJECT, Fraction(0), Norm.L2, None)
            for each in requirements
        ],
        signature,
    )
    assert prepared.plain_requirements is not None
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, y = random.integers(-2, 3, LONG).astype(np.float64), random.integers(-2, 3, 2 * LONG).astype(np.float64)
    for place in data.draw(st.lists(st.integers(0, 2 * LONG - 1), max_size=2)):
        y[place] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    expected = [
        not violated_by_missing_values(gate, signature, x, y) and requirement_holds(gate.requirement, x, y)
        for gate in prepared.gates
    ]
    numbers = range(len(expected))
    assert satisfied(prepared, x[np.newaxis], y[np.newaxis], np.ones((1, len(expected)), np.bool_)).tolist() == [
        expected
    ]
    assert [satisfies(prepared, [number], x, y) for number in numbers] == expected
    assert satisfies(prepared, numbers, x, y) == all(expected)


NUMBERS = st.one_of(st.fractions(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), st.fractions())
def test_a_sum_of_products_is_that_of_fractions(pairs, start):
    expected = sum((Fraction(one) * Fraction(other) for one, other in pairs), start)
    assert sum_of_products(pairs, start) == expected


def _where_they_are(extended) -> dict[int, int]:
    return {column: column for column in range(extended.shape[1])}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_filter_is_never_wrong(data):
    signature = data.draw(signatures())
    batch = data.draw(st.lists(literals(signature.input_size, signature.output_size), min_size=1, max_size=5))
    inputs = data.draw(rows(signature.input_datatypes(), special=False))[:1]
    outputs = data.draw(rows(signature.output_datatypes(), special=False))[:1]
    extended = np.concatenate([[[1.0]], inputs, outputs], axis=1)
    table = literal_table(batch, signature)
    certain, possible = filter_literals(table, extended)
    for number, (literal, plain) in enumerate(
        zip(batch, plain_literals(table, _where_they_are(extended)), strict=True)
    ):
        holds = literal_holds(literal, inputs[0], outputs[0])
        assert not certain[0, number] or holds
        assert possible[0, number] or not holds
        assert known_of_literal(plain, extended[0].tolist()) in (None, holds)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([Datatype.FP16, Datatype.BF16, Datatype.FP32]),
    st.lists(st.floats(-1e4, 1e4), min_size=6, max_size=6),
    st.lists(st.integers(-9, 9), min_size=6, max_size=6),
    st.integers(-1, 1),
)
def test_the_filter_is_right_about_sums_that_nearly_cancel(datatype, values, coefficients, steps):
    """The offset makes the exact value zero, or one unit in the last place of the sum away from it."""
    assume(any(coefficients))
    signature = ModelSignature((TensorSpec("x", datatype, (1,)),), (TensorSpec("y", datatype, (6,)),), 0)
    y = [round_to_datatype(Fraction(value), datatype) for value in values]
    total = sum(Fraction(c) * Fraction(v) for c, v in zip(coefficients, y, strict=True))
    offset = -total + steps * abs(total) / 2**52
    for strict in (False, True):
        literal = Literal(terms(dict(enumerate(map(Fraction, coefficients)))), (), offset, strict)
        table = literal_table([literal], signature)
        extended = np.array([[1.0, 0.0, *y]])
        certain, possible = filter_literals(table, extended)
        holds = literal_holds(literal, [0.0], y)
        assert certain[0, 0] <= holds <= possible[0, 0]
        (plain,) = plain_literals(table, _where_they_are(extended))
        assert known_of_literal(plain, extended[0].tolist()) in (None, holds)


@settings(deadline=None)
@given(
    st.sampled_from([Datatype.FP16, Datatype.BF16, Datatype.FP32]),
    st.data(),
    st.sampled_from([Fraction(0), Fraction(1500), Fraction(-0.1)]),
    st.booleans(),
    st.booleans(),
)
def test_comparisons_and_thresholds_are_decided_without_rationals(datatype, data, threshold, strict, compare):
    """Ties included: quantised scores tie often, and must not be slow."""
    signature = ModelSignature((TensorSpec("x", datatype, (1,)),), (TensorSpec("y", datatype, (2,)),), 0)
    form = {0: Fraction(-1), 1: Fraction(1)} if compare else {1: Fraction(1)}
    literal = Literal(terms(form), (), Fraction(0) if compare else -threshold, strict)
    y = [data.draw(wire_values(datatype)) for _ in range(2)]
    certain, possible = filter_literals(literal_table([literal], signature), np.array([[1.0, 0.0, *y]]))
    assert certain[0, 0] == possible[0, 0] == literal_holds(literal, [0.0], y)


@settings(deadline=None)
@example(1.0, 1.0)
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_rows_are_judged_alike_alone_and_in_a_batch(first, second):
    signature = ModelSignature((TensorSpec("x", Datatype.FP64, (1,)),), (TensorSpec("y", Datatype.FP64, (2,)),), 0)
    order = Literal(terms({0: Fraction(-1), 1: Fraction(1, 3)}), (), Fraction(0), True)
    whole = Region(Box((Fraction(-1),), (Fraction(1),)))
    gate = Gate("p", (whole,), Requirement(((order,),)), Action.PROJECT, Fraction(0), Norm.L2, None)
    prepared = prepare([gate], signature)
    outputs = np.array([[first, second], [second, first], [first, first]])
    inputs = np.zeros((3, 1))
    considered = np.ones((3, 1), dtype=np.bool_)
    together = satisfied(prepared, inputs, outputs, considered)
    alone = [satisfied(prepared, inputs[i : i + 1], outputs[i : i + 1], considered[:1])[0, 0] for i in range(3)]
    assert together[:, 0].tolist() == alone
