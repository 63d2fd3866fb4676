"""Every served datatype reads back what was written, in raw and in typed form; what does not fit is named."""

import numpy as np
import pytest

from sidecar.errors import CallerError, Reason
from sidecar.model_server.contents import WIRE_FORMS, append_output, decode_tensor
from sidecar.protocols.generated import open_inference_pb2 as messages
from sidecar.tensors import Datatype

VALUES = {
    Datatype.BOOL: [True, False, True, True, False, False],
    Datatype.UINT8: [0, 1, 2, 127, 128, 255],
    Datatype.UINT16: [0, 1, 2, 3, 2**15, 2**16 - 1],
    Datatype.UINT32: [0, 1, 2, 3, 2**31, 2**32 - 1],
    Datatype.UINT64: [0, 1, 2, 3, 2**63, 2**64 - 1],
    Datatype.INT8: [-128, -1, 0, 1, 2, 127],
    Datatype.INT16: [-(2**15), -1, 0, 1, 2, 2**15 - 1],
    Datatype.INT32: [-(2**31), -1, 0, 1, 2, 2**31 - 1],
    Datatype.INT64: [-(2**63), -1, 0, 1, 2, 2**63 - 1],
    Datatype.FP16: [-65504.0, -0.0, 0.0, 6e-8, np.inf, np.nan],
    Datatype.FP32: [-3.4e38, -0.0, 0.0, 1e-45, np.inf, np.nan],
    Datatype.FP64: [-1.7e308, -0.0, 0.0, 5e-324, np.inf, np.nan],
}


def _tensor(datatype, shape=(2, 3), **contents):
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.CopyFrom(messages.InferTensorContents(**contents))
    return tensor


def _array(datatype):
    return np.array(VALUES[datatype], dtype=WIRE_FORMS[datatype].dtype).reshape(2, 3)


@pytest.mark.parametrize("datatype", list(WIRE_FORMS))
def test_raw_contents_of_an_answer_read_back_as_the_same_bits(datatype):
    response = messages.ModelInferResponse()
    append_output(response, "y", datatype, _array(datatype))
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == (datatype, [2, 3])
    read = decode_tensor(_tensor(datatype), datatype, response.raw_output_contents[0])
    assert read.shape == (2, 3)
    assert read.tobytes() == _array(datatype).tobytes()


@pytest.mark.parametrize("datatype", [each for each, form in WIRE_FORMS.items() if form.typed_field])
def test_typed_contents_read_as_the_values_that_they_state(datatype):
    tensor = _tensor(datatype, **{WIRE_FORMS[datatype].typed_field: VALUES[datatype]})
    read = decode_tensor(tensor, datatype, None)
    assert read.dtype == WIRE_FORMS[datatype].dtype
    np.testing.assert_array_equal(read, _array(datatype))


def test_a_boolean_byte_other_than_one_is_true():
    read = decode_tensor(_tensor(Datatype.BOOL, (3,)), Datatype.BOOL, b"\x00\x01\x02")
    assert read.tolist() == [False, True, True]
    assert read.tobytes() == b"\x00\x01\x01"


def test_an_empty_batch_is_a_batch():
    assert decode_tensor(_tensor(Datatype.FP32, (0, 3)), Datatype.FP32, b"").shape == (0, 3)


@pytest.mark.parametrize(
    ("tensor", "raw", "says"),
    [
        pytest.param(_tensor("FP32"), b"\0" * 23, "23 bytes, no multiple of FP32's 4", id="ragged bytes"),
        pytest.param(_tensor("FP32"), b"\0" * 20, "5 values; its shape [2, 3] needs 6", id="too few bytes"),
        pytest.param(_tensor("FP32"), b"\0" * 28, "7 values; its shape [2, 3] needs 6", id="too many bytes"),
        pytest.param(_tensor("FP32", fp32_contents=[1]), b"\0" * 24, "use one form", id="raw and typed"),
        pytest.param(_tensor("FP32"), None, "0 values", id="no contents at all"),
        pytest.param(_tensor("FP32", fp32_contents=[1] * 5), None, "5 values", id="too few values"),
        pytest.param(_tensor("FP32", fp64_contents=[1] * 6), None, "carried in fp32_contents", id="another field"),
        pytest.param(
            _tensor("FP32", fp32_contents=[1] * 6, int_contents=[1]), None, "has int_contents", id="two fields"
        ),
        pytest.param(_tensor("INT8", int_contents=[128] * 6), None, "outside INT8", id="out of range"),
        pytest.param(_tensor("UINT16", uint_contents=[2**16] * 6), None, "outside UINT16", id="out of unsigned range"),
        pytest.param(_tensor("FP16", fp32_contents=[1] * 6), None, "raw contents only", id="typed FP16"),
    ],
)
def test_contents_that_do_not_fit_are_the_callers_fault(tensor, raw, says):
    with pytest.raises(CallerError) as caught:
        decode_tensor(tensor, Datatype(tensor.datatype), raw)
    assert caught.value.reason is Reason.INPUT_CONTENTS
    assert says in caught.value.message
    assert "'x'" in caught.value.message
