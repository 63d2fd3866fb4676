"""What the native evaluation answers by itself is what the Python functions answer, bytes and counts; or it hands over.

Rows come near the places where decisions turn: on bounds, on ties, one float beside them.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.bundle.coverage import Label, prepare_coverage
from sidecar.config import ModelPolicy
from sidecar.gates.prepare import prepare
from sidecar.gates.values import Mode
from sidecar.numerics import round_to_datatype
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.proxy.active_bundle import ActiveBundle
from sidecar.tensors import FLOATING_DATATYPES, ModelSignature, TensorSpec, encode_raw
from tests.conformance.guarded_model import bundle, half_silent, leaf
from tests.laws.test_decisions import gates
from tests.native.comparing import Compared
from tests.transports import NATIVE_IS_BUILT, NOT_BUILT

pytestmark = pytest.mark.skipif(not NATIVE_IS_BUILT, reason=NOT_BUILT)

TREES = (leaf(Label.OPEN), leaf(Label.SILENT), leaf(Label.VIOLATING), half_silent())
MODES = (Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF)
DECIDED = {"fired", "filter", "not_finite"}
"""The only reasons to hand over a message that is written as clients usually write them."""


@st.composite
def bundles(draw) -> ActiveBundle:
    kind = draw(st.sampled_from(FLOATING_DATATYPES))
    signature = ModelSignature((TensorSpec("x", kind, (1,)),), (TensorSpec("y", kind, (3,)),), 0)
    drawn = [
        dataclasses.replace(gate, property_id=f"p{n}")
        for n, gate in enumerate(draw(st.lists(gates(), min_size=1, max_size=3)))
    ]
    modes = tuple(draw(st.sampled_from(MODES)) for _ in drawn)
    trees = [draw(st.sampled_from(TREES)) for _ in drawn]
    made = bundle("m", signature, tuple(zip(drawn, modes, trees, strict=True)))
    return ActiveBundle(
        model_name="m",
        digest="0" * 64,
        bundle=made,
        gates=prepare(made.gates, signature),
        coverage=prepare_coverage(made.gates, made.coverage, signature),
        property_ids=tuple(gate.property_id for gate in drawn),
        modes=modes,
        watched=np.array([mode is not Mode.OFF for mode in modes]),
        policy=ModelPolicy(),
    )


WHOLE = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([0.5, -0.0, 1 / 3, 0.25, 1.75]), st.floats(-3, 3))


@st.composite
def near(draw, kind) -> float:
    """A value of a datatype, maybe one step from what was drawn."""
    value = round_to_datatype(Fraction(draw(WHOLE)), kind)
    beside = draw(st.sampled_from([None, None, -math.inf, math.inf]))
    if beside is None:
        return value
    step = {"FP16": 2.0**-10, "BF16": 2.0**-7, "FP32": 2.0**-23, "FP64": 2.0**-52}[kind] * max(abs(value), 2.0**-14)
    return round_to_datatype(Fraction(value) + Fraction(math.copysign(step, beside)), kind)


@st.composite
def exchanges(draw):
    """A bundle, a request, and an answer to it."""
    guarded = draw(bundles())
    kind = guarded.signature.inputs[0].datatype
    rows = draw(st.integers(1, 4))
    x = np.array([[draw(near(kind))] for _ in range(rows)])
    anything = st.one_of(near(kind), near(kind), near(kind), st.sampled_from([math.nan, math.inf, -math.inf]))
    y = np.array([[draw(anything) for _ in range(3)] for _ in range(rows)])
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[encode_raw(x.reshape(-1), kind)])
    request.inputs.add(name="x", datatype=kind, shape=x.shape)
    answer = pb.ModelInferResponse(model_name="m", raw_output_contents=[encode_raw(y.reshape(-1), kind)])
    answer.outputs.add(name="y", datatype=kind, shape=y.shape)
    return guarded, request.SerializeToString(), answer.SerializeToString()


@settings(max_examples=600, deadline=None)
@given(exchanges())
def test_the_same_or_handed_over(exchange):
    guarded, request, answer = exchange
    compared = Compared(guarded)
    why = compared.why_handed(request, answer)
    assert why is None or why in DECIDED
    if why == "fired":
        assert not compared.satisfies(request, answer)


@settings(max_examples=300, deadline=None)
@given(exchanges(), st.data())
def test_whatever_became_of_the_bytes(exchange, data):
    """Cut, changed, repeated or put together from pieces of one another."""
    guarded, request, answer = exchange
    compared = Compared(guarded)
    compared.why_handed(_mangled(request, answer, data), answer)
    compared.why_handed(request, _mangled(answer, request, data))


def _mangled(content: bytes, other: bytes, data) -> bytes:
    at = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(at, len(content)))
    pieces = st.sampled_from([b"", content[at:end] * 2, other[at:end], b"\xff", b"\0", b"\x2a\0"])
    return content[:at] + data.draw(st.one_of(pieces, st.binary(max_size=4))) + content[end:]
