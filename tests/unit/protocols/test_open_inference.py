"""Reading gated tensors and writing corrected ones, for every gated datatype and both forms."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import CallerError, InternalError, Reason, UpstreamError
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.protocols.open_inference.contents import changed_values
from sidecar.protocols.open_inference.readiness import (
    decode_model_ready,
    encode_model_ready_request,
    encode_server_ready,
)
from sidecar.protocols.open_inference.request import parse_request, read_request
from sidecar.protocols.open_inference.response import drop_outputs, read_response, replace_outputs
from sidecar.tensors import FLOATING_DATATYPES, Datatype, ModelSignature, TensorSpec, decode_raw, encode_raw

TYPED = {Datatype.FP32: "fp32_contents", Datatype.FP64: "fp64_contents"}


def signature(datatype: Datatype, batch_axis: int | None = 0) -> ModelSignature:
    return ModelSignature((TensorSpec("x", datatype, (2,)),), (TensorSpec("y", datatype, (2,)),), batch_axis)


def read(message: pb.ModelInferRequest, model: ModelSignature, limit_rows: int = 100):
    return read_request(parse_request(message.SerializeToString()), model, limit_rows)


def infer_request(datatype: Datatype, raw: bytes, shape) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    message.inputs.add(name="x", datatype=datatype, shape=shape)
    return message


def infer_response(datatype: Datatype, raw: bytes, shape) -> bytes:
    message = pb.ModelInferResponse(raw_output_contents=[raw])
    message.outputs.add(name="y", datatype=datatype, shape=shape)
    return message.SerializeToString()


def typed_response(datatype: Datatype, values) -> bytes:
    message = pb.ModelInferResponse()
    message.outputs.add(name="y", datatype=datatype, shape=[len(values) // 2, 2])
    getattr(message.outputs[0].contents, TYPED[datatype]).extend(values)
    return message.SerializeToString()


@pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
class TestEachDatatype:
    def test_raw_inputs_are_read_exactly(self, datatype):
        raw = encode_raw(np.array([0.5, -2, 1, 0]), datatype)
        inputs = read(infer_request(datatype, raw, [2, 2]), signature(datatype)).inputs
        np.testing.assert_array_equal(inputs, [[0.5, -2], [1, 0]])

    def test_raw_outputs_are_replaced_in_place(self, datatype):
        raw = encode_raw(np.array([0.5, -2, 1, np.nan]), datatype)
        model = signature(datatype)
        response = read_response(infer_response(datatype, raw, [2, 2]), model, 2)
        wanted = np.array([[0.5, -2], [4, np.nan]])
        replaced = replace_outputs(response, wanted, model)
        assert len(replaced) == len(response.content)
        np.testing.assert_array_equal(read_response(replaced, model, 2).outputs, wanted)

    def test_typed_contents_exist_for_fp32_and_fp64_only(self, datatype):
        message = infer_request(datatype, b"", [1, 2])
        message.ClearField("raw_input_contents")
        field = TYPED.get(datatype, "fp32_contents")
        getattr(message.inputs[0].contents, field).extend([1, 2])
        if datatype in TYPED:
            np.testing.assert_array_equal(read(message, signature(datatype)).inputs, [[1, 2]])
        else:
            with pytest.raises(CallerError, match="raw contents") as error:
                read(message, signature(datatype))
            assert error.value.reason is Reason.INPUT_CONTENTS

    def test_without_batch_axis_a_message_is_one_row(self, datatype):
        model = signature(datatype, None)
        raw = encode_raw(np.array([0.5, -2]), datatype)
        np.testing.assert_array_equal(read(infer_request(datatype, raw, [2]), model).inputs, [[0.5, -2]])
        with pytest.raises(CallerError, match=r"expected \[2\]"):
            read(infer_request(datatype, raw, [1, 2]), model)
        assert read_response(infer_response(datatype, raw, [2]), model, 1).outputs.shape == (1, 2)


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 3), st.floats(width=32))
def test_unchanged_values_keep_their_very_bits(raw, place, value):
    """Payloads of NaN included, which float64 arithmetic does not preserve."""
    model = signature(Datatype.FP32)
    response = read_response(infer_response(Datatype.FP32, raw, [2, 2]), model, 2)
    wanted = response.outputs.copy()
    wanted.reshape(-1)[place] = value
    new = pb.ModelInferResponse.FromString(replace_outputs(response, wanted, model)).raw_output_contents[0]
    for index in range(4):
        if index != place:
            assert new[4 * index : 4 * index + 4] == raw[4 * index : 4 * index + 4]
    np.testing.assert_array_equal(decode_raw(new, Datatype.FP32)[place], value)


@pytest.mark.parametrize("gated_is_first", [True, False])
@pytest.mark.parametrize("rows", [1, 600])
def test_of_equal_contents_the_gated_tensors_are_replaced(gated_is_first, rows):
    """Whether the bytes stand in the message once, twice or, in a long one, are not looked for at all."""
    model = signature(Datatype.FP32)
    gated = infer_response(Datatype.FP32, np.arange(2 * rows, dtype="<f4").tobytes(), [rows, 2])
    message = pb.ModelInferResponse.FromString(gated)
    other = pb.ModelInferResponse.InferOutputTensor(name="other", datatype="FP32", shape=[2 * rows])
    for same in (True, False):
        contents = message.raw_output_contents[0] if same else bytes(8 * rows)
        both, raws = [message.outputs[0], other], [message.raw_output_contents[0], contents]
        order = slice(None) if gated_is_first else slice(None, None, -1)
        whole = pb.ModelInferResponse(outputs=both[order], raw_output_contents=raws[order]).SerializeToString()
        response = read_response(whole, model, rows)
        wanted = response.outputs + 0.5
        replaced = pb.ModelInferResponse.FromString(replace_outputs(response, wanted, model)).raw_output_contents
        expected = [wanted.astype("<f4").tobytes(), contents]
        assert list(replaced) == expected[order]


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_outputs_are_replaced_in_their_own_form(datatype):
    model = signature(datatype)
    response = read_response(typed_response(datatype, [1, 2, 3, 4]), model, 2)
    replaced = replace_outputs(response, np.array([[1, 2], [3, -0.5]]), model)
    assert replaced == typed_response(datatype, [1, 2, 3, -0.5])


def test_several_gated_tensors_stand_side_by_side_in_the_signatures_order():
    model = ModelSignature(
        (TensorSpec("a", Datatype.FP32, (1,)), TensorSpec("b", Datatype.FP64, (2,))),
        (TensorSpec("y", Datatype.FP32, (1,)),),
        0,
    )
    message = pb.ModelInferRequest(
        raw_input_contents=[encode_raw(np.array([2.0, 3, 5, 6]), Datatype.FP64), encode_raw(np.array([1.0, 4]), "FP32")]
    )
    message.inputs.add(name="b", datatype="FP64", shape=[2, 2])
    message.inputs.add(name="a", datatype="FP32", shape=[2, 1])
    np.testing.assert_array_equal(read(message, model).inputs, [[1, 2, 3], [4, 5, 6]])
    message.inputs[1].shape[:] = [1, 1]
    with pytest.raises(CallerError, match="number of rows") as error:
        read(message, model)
    assert error.value.reason is Reason.INPUT_SHAPE


def test_the_batch_limit_is_the_largest_batch():
    message = infer_request(Datatype.FP32, bytes(24), [3, 2])
    assert len(read(message, signature(Datatype.FP32), 3).inputs) == 3
    with pytest.raises(CallerError, match="at most 2"):
        read(message, signature(Datatype.FP32), 2)


def test_a_replacement_that_does_not_decode_to_what_was_wanted_is_a_defect():
    """Here because the message no longer belongs to the bytes."""
    model = signature(Datatype.FP32)
    response = read_response(infer_response(Datatype.FP32, bytes(8), [1, 2]), model, 1)
    other = infer_response(Datatype.FP32, np.array([7, 7], "<f4").tobytes(), [1, 2])
    forged = dataclasses.replace(response, content=other, outputs=np.array([[1.0, 0.0]]))
    assert replace_outputs(dataclasses.replace(response, content=other), np.array([[1.0, 2.0]]), model)
    with pytest.raises(InternalError):
        replace_outputs(forged, np.array([[1.0, 2.0]]), model)


def test_a_cut_that_takes_away_something_else_is_a_defect(monkeypatch):
    model = signature(Datatype.FP32)
    content = infer_response(Datatype.FP32, bytes(8), [1, 2])
    (output,) = model.outputs
    monkeypatch.setattr("sidecar.protocols.open_inference.response.splice", lambda *_: content)
    with pytest.raises(InternalError):
        drop_outputs(content, frozenset({output.name}))


def test_a_value_off_the_wire_cannot_be_written():
    model = signature(Datatype.FP16)
    response = read_response(infer_response(Datatype.FP16, bytes(4), [1, 2]), model, 1)
    with pytest.raises(ValueError, match="not representable"):
        replace_outputs(response, np.array([[0.1, 0]]), model)


def test_nan_and_nan_are_no_change_but_nan_and_a_number_are():
    nan = np.nan
    changed = changed_values(np.array([[nan, nan, 1, 1, 0.0]]), np.array([[nan, 1, nan, 1, -0.0]]))
    assert changed.tolist() == [False, True, True, False, False]


def test_readiness_messages():
    assert pb.ServerReadyResponse.FromString(encode_server_ready(True)).ready
    assert pb.ModelReadyRequest.FromString(encode_model_ready_request("m")).name == "m"
    assert decode_model_ready(pb.ModelReadyResponse(ready=True).SerializeToString())
    assert not decode_model_ready(b"")
    with pytest.raises(UpstreamError):
        decode_model_ready(b"\xff")
