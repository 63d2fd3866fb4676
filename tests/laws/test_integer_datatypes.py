"""Laws of gated integers and booleans: what is read is what others read, or it is refused; nothing is rounded."""

import math
from fractions import Fraction

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import InferInput

from sidecar.errors import CallerError, Reason
from sidecar.gates.decide import Outcome, decide
from sidecar.gates.effective import effective_region, wire_bounds
from sidecar.gates.exact import region_contains, requirement_holds
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement, terms
from sidecar.numerics import largest_not_above, round_to_datatype, smallest_not_below
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.request import parse_request, read_request
from sidecar.protocols.open_inference.response import read_response, replace_outputs
from sidecar.tensors import (
    GATED_DATATYPES,
    INTEGER_RANGES,
    Datatype,
    ModelSignature,
    TensorSpec,
    decode_raw,
    encode_raw,
)
from tests.conformance.guarded_model import DTYPES, FIELDS

INTEGERS = st.sampled_from(list(INTEGER_RANGES))


def judged(datatype: Datatype):
    """Whole numbers that can be judged, often at the ends."""
    smallest, largest = INTEGER_RANGES[datatype]
    return st.one_of(st.integers(smallest, largest), st.sampled_from([smallest, 0, 1, largest]))


def anything(datatype: Datatype):
    """Whatever the wire's bytes can hold; of a boolean, any byte."""
    kind = np.dtype("u1") if datatype is Datatype.BOOL else DTYPES[datatype]
    smallest, largest = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    near = [value for value in (2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1) if smallest <= value <= largest]
    return st.one_of(st.integers(smallest, largest), st.sampled_from([smallest, largest, 0, 1, 2, *near]))


@settings(deadline=None)
@given(st.data(), INTEGERS)
def test_decoding_undoes_encoding(data, datatype):
    values = np.array(data.draw(st.lists(judged(datatype), max_size=5)), dtype=np.float64)
    np.testing.assert_array_equal(decode_raw(encode_raw(values, datatype), datatype), values)


@settings(deadline=None, max_examples=200)
@given(st.data(), INTEGERS)
def test_raw_contents_are_read_as_numpy_reads_them_or_refused(data, datatype):
    kind = np.dtype("u1") if datatype is Datatype.BOOL else DTYPES[datatype]
    values = data.draw(st.lists(anything(datatype), min_size=1, max_size=4))
    raw = np.array(values, kind).tobytes()
    smallest, largest = INTEGER_RANGES[datatype]
    if all(smallest <= value <= largest for value in values):
        assert decode_raw(raw, datatype).tolist() == np.frombuffer(raw, DTYPES[datatype]).astype(object).tolist()
    else:
        with pytest.raises(ValueError, match="cannot be judged"):
            decode_raw(raw, datatype)


@settings(deadline=None)
@given(st.data(), INTEGERS)
def test_what_tritonclient_sends_is_what_is_read(data, datatype):
    values = np.array(data.draw(st.lists(judged(datatype), min_size=2, max_size=2)), DTYPES[datatype])
    tensor = InferInput("x", [1, 2], datatype)
    tensor.set_data_from_numpy(values.reshape(1, 2))
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[tensor._get_content()])
    message.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    assert _read(message, datatype) == values.astype(object).tolist()


@settings(deadline=None, max_examples=200)
@given(st.data(), INTEGERS)
def test_typed_contents_are_read_exactly_or_refused(data, datatype):
    kind = {"int_contents": np.int32, "uint_contents": np.uint32}.get(FIELDS[datatype], DTYPES[datatype])
    widest = Datatype({np.int32: "INT32", np.uint32: "UINT32"}.get(kind, datatype))
    smallest, largest = INTEGER_RANGES[datatype]
    numbers = st.booleans() if datatype is Datatype.BOOL else st.one_of(anything(widest), judged(datatype))
    values = data.draw(st.lists(numbers, min_size=2, max_size=2))
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    getattr(tensor.contents, FIELDS[datatype]).extend(values)
    if all(smallest <= value <= largest for value in values):
        assert _read(message, datatype) == values
    else:
        with pytest.raises(CallerError) as caught:
            _read(message, datatype)
        assert caught.value.reason is Reason.INPUT_CONTENTS


def _read(message: pb.ModelInferRequest, datatype: Datatype) -> list[float]:
    model = ModelSignature((TensorSpec("x", datatype, (2,)),), (TensorSpec("y", datatype, (2,)),), 0)
    (row,) = read_request(parse_request(message.SerializeToString()), model, 1).inputs.tolist()
    return row


@settings(deadline=None)
@given(st.data(), INTEGERS, st.booleans())
def test_replaced_outputs_are_read_by_others_as_they_were_written(data, datatype, is_raw):
    model = ModelSignature((TensorSpec("x", datatype, (2,)),), (TensorSpec("y", datatype, (2,)),), 0)
    before, after = (data.draw(st.lists(judged(datatype), min_size=2, max_size=2)) for _ in range(2))
    message = pb.ModelInferResponse()
    tensor = message.outputs.add(name="y", datatype=datatype, shape=[1, 2])
    if is_raw:
        message.raw_output_contents.append(np.array(before, DTYPES[datatype]).tobytes())
    else:
        as_json = [str(value) if "64" in datatype else value for value in before]
        as_json = list(map(bool, before)) if datatype is Datatype.BOOL else as_json
        ParseDict({FIELDS[datatype]: as_json}, tensor.contents)
    response = read_response(message.SerializeToString(), model, 1)
    replaced = pb.ModelInferResponse.FromString(replace_outputs(response, np.array([after], np.float64), model))
    if is_raw:
        got = np.frombuffer(replaced.raw_output_contents[0], DTYPES[datatype]).astype(object).tolist()
    else:
        got = list(getattr(replaced.outputs[0].contents, FIELDS[datatype]))
    assert got == after


BOUNDS = st.one_of(
    st.fractions(-300, 300, max_denominator=6),
    st.integers(-(2**54), 2**54).map(lambda doubled: Fraction(doubled, 2)),
    st.sampled_from([Fraction(10**30), Fraction(-(10**30))]),
)


@settings(deadline=None, max_examples=300)
@given(INTEGERS, BOUNDS, BOUNDS)
@example(Datatype.BOOL, Fraction(1, 2), Fraction(1, 2))
@example(Datatype.INT64, Fraction(2**53 + 1), Fraction(2**60))
def test_an_effective_domain_is_the_stated_one_and_the_values_nearest_to_its_bounds(datatype, one, other):
    low, high = min(one, other), max(one, other)
    stated = Region(Box((low,), (high,)))
    effective = effective_region(stated, [datatype])
    smallest, largest = INTEGER_RANGES[datatype]
    (lower,), (upper,) = wire_bounds(effective.box, [datatype])
    ends = [math.floor(low), math.ceil(low), math.floor(high), math.ceil(high)]
    near = {min(max(end + step, smallest), largest) for end in ends for step in (-1, 0, 1)} | {smallest, largest}
    nearest = {
        value
        for value in near
        for bound in (low, high)
        if abs(value - bound) == min(abs(other_value - bound) for other_value in near)
    }
    for value in near:
        expected = low <= value <= high or value in nearest
        assert region_contains(effective, [float(value)]) == expected
        assert (lower <= value <= upper) == expected
    assert lower <= upper
    assert effective_region(effective, [datatype]) == effective


@settings(deadline=None, max_examples=200)
@given(INTEGERS, BOUNDS)
def test_rounding_takes_the_nearest_whole_number_and_the_even_one_of_two(datatype, value):
    smallest, largest = INTEGER_RANGES[datatype]
    below, above = math.floor(value), math.ceil(value)
    if smallest <= below and above <= largest:
        rounded = Fraction(round_to_datatype(value, datatype))
        assert (largest_not_above(value, datatype), smallest_not_below(value, datatype)) == (below, above)
        assert rounded in (below, above)
        assert abs(rounded - value) == min(value - below, above - value)
        if value - below == above - value:
            assert rounded % 2 == 0 or below == above
    elif not smallest - Fraction(1, 2) <= value <= largest + Fraction(1, 2):
        with pytest.raises(OverflowError):
            round_to_datatype(value, datatype)


SMALL = st.integers(-2, 2).map(Fraction)


@st.composite
def situations(draw):
    """Gates on an input, an integer output of two values and a floating-point one; rows of values of all of them."""
    floating = st.sampled_from([Datatype.FP32, Datatype.FP16])
    kinds = [draw(st.sampled_from(GATED_DATATYPES)), draw(INTEGERS), draw(floating)]
    signature = ModelSignature(
        (TensorSpec("x", kinds[0], (1,)),), (TensorSpec("n", kinds[1], (2,)), TensorSpec("y", kinds[2], (1,))), 0
    )
    gates = draw(st.lists(_gates(signature), min_size=1, max_size=3))

    def row(datatypes):
        values = [draw(st.one_of(SMALL, st.fractions(-3, 3, max_denominator=4))) for _ in datatypes]
        limits = [INTEGER_RANGES.get(kind, (-3, 3)) for kind in datatypes]
        clipped = [min(max(value, low), high) for value, (low, high) in zip(values, limits, strict=True)]
        return [round_to_datatype(value, kind) for value, kind in zip(clipped, datatypes, strict=True)]

    rows = range(draw(st.integers(1, 3)))
    inputs = np.array([row(signature.input_datatypes()) for _ in rows])
    return prepare(gates, signature), inputs, np.array([row(signature.output_datatypes()) for _ in rows])


@st.composite
def _gates(draw, signature: ModelSignature) -> Gate:
    action = draw(st.sampled_from(Action))
    mentionable = st.just(2) if action is Action.PROJECT else st.integers(0, 2)
    literals = st.builds(
        Literal,
        st.dictionaries(mentionable, SMALL, max_size=2).map(terms),
        st.dictionaries(st.just(0), SMALL, max_size=1).map(terms),
        st.one_of(SMALL, st.just(Fraction(1, 3))),
        st.booleans(),
    )
    clauses = st.lists(literals, min_size=1, max_size=2).map(tuple)
    low = draw(st.integers(-2, 1).map(Fraction))
    region = Region(Box((low,), (low + draw(SMALL.map(abs)),)))
    return Gate(
        property_id="p",
        domain=(effective_region(region, signature.input_datatypes()),),
        requirement=Requirement(tuple(draw(st.lists(clauses, min_size=1, max_size=2)))),
        action=action,
        margin=draw(st.sampled_from([Fraction(0), Fraction(1, 4)])),
        norm=draw(st.sampled_from(Norm)),
        fallback=(Fraction(0), Fraction(1), Fraction(1, 2)) if action is Action.FALLBACK else None,
    )


@settings(deadline=None, max_examples=300)
@given(situations())
def test_every_row_is_refused_or_satisfies_and_projection_leaves_integers_alone(situation):
    prepared, inputs, outputs = situation
    decisions = decide(prepared, [Mode.ENFORCE] * len(prepared.gates), inputs, outputs)
    decided = {decision.row: decision for decision in decisions.rows}
    for row, (x, y) in enumerate(zip(inputs, outputs, strict=True)):
        holding = [g for g in prepared.gates if any(region_contains(region, x) for region in g.domain)]
        violated = [gate for gate in holding if not requirement_holds(gate.requirement, x, y)]
        assert (row in decided) == bool(violated)
        if row in decided and decided[row].outcome is Outcome.CORRECTED:
            sent = decided[row].output
            assert all(requirement_holds(gate.requirement, x, sent) for gate in holding)
            assert all(value == int(value) for value in sent[:2])
            if decided[row].action is Action.PROJECT:
                np.testing.assert_array_equal(sent[:2], y[:2])
