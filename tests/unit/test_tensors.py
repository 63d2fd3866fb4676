"""Wire tensors: what a specification refuses, and that raw contents survive decoding and encoding."""

import ml_dtypes
import numpy as np
import pytest

from sidecar.tensors import (
    FLOATING_DATATYPES,
    Datatype,
    ModelSignature,
    TensorSpec,
    decode_raw,
    encode_raw,
    item_size,
)

WIRE_TYPE = {
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype(ml_dtypes.bfloat16),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
}
SCORES = TensorSpec("scores", Datatype.FP32, (5,))


def signature(**changes):
    fields = {
        "inputs": (TensorSpec("image", Datatype.FP16, (1, 2, 3)), TensorSpec("scalar", Datatype.FP64, ())),
        "outputs": (SCORES,),
        "batch_axis": 0,
    }
    return ModelSignature(**(fields | changes))


class TestSpecifications:
    def test_a_row_concatenates_tensors(self):
        assert signature().input_size == 7
        assert signature().output_size == 5
        assert signature().input_datatypes() == (Datatype.FP16,) * 6 + (Datatype.FP64,)
        assert signature().output_datatypes() == (Datatype.FP32,) * 5

    def test_the_batch_axis_can_be_read_otherwise(self):
        assert signature().with_batch_axis(None) == signature(batch_axis=None)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (("", Datatype.FP32, (1,)), "needs a name"),
            (("x", Datatype.INT64, (1,)), "gates judge"),
            (("x", Datatype.FP32, (2, 0)), "at least 1"),
        ],
    )
    def test_a_bad_tensor_is_refused(self, fields, message):
        with pytest.raises(ValueError, match=message):
            TensorSpec(*fields)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"batch_axis": 1}, "batch_axis is 1"),
            ({"inputs": ()}, "inputs with distinct names"),
            ({"outputs": (SCORES, SCORES)}, "outputs with distinct names"),
        ],
    )
    def test_a_bad_signature_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            signature(**changes)


@pytest.mark.parametrize("datatype", FLOATING_DATATYPES)
class TestRawContents:
    def test_item_size_is_the_wires(self, datatype):
        assert item_size(datatype) == WIRE_TYPE[datatype].itemsize

    def test_values_survive_exactly_special_ones_included(self, datatype):
        numbers = np.array([0.0, -0.0, 1.5, -2.25, np.inf, -np.inf, np.nan, 2.0**-14, 65280.0])
        raw = numbers.astype(WIRE_TYPE[datatype]).tobytes()
        decoded = decode_raw(raw, datatype)
        assert decoded.dtype == np.float64
        assert decoded.tobytes() == numbers.tobytes()
        assert encode_raw(decoded, datatype) == raw

    def test_contents_of_broken_length_are_refused(self, datatype):
        with pytest.raises(ValueError, match="multiple"):
            decode_raw(b"\x00" * (item_size(datatype) + 1), datatype)

    def test_signalling_nans_are_nans(self, datatype):
        exponent, bits = {2: (np.uint16, 0x7D01), 4: (np.uint32, 0x7FA00001), 8: (np.uint64, 0x7FF4000000000001)}[
            item_size(datatype)
        ]
        if datatype is Datatype.BF16:
            bits = 0x7FA1
        assert np.isnan(decode_raw(np.array([bits], dtype=exponent).tobytes(), datatype)).all()


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_every_sixteen_bit_pattern_decodes_as_others_decode_it(datatype):
    patterns = np.arange(1 << 16, dtype="<u2")
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = patterns.view(WIRE_TYPE[datatype]).astype(np.float64)
    assert np.array_equal(decode_raw(patterns.tobytes(), datatype), expected, equal_nan=True)


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16, Datatype.FP32])
@pytest.mark.parametrize("value", [1 / 3, 1e300, 1e-300])
def test_a_value_without_encoding_is_refused_not_rounded(datatype, value):
    with pytest.raises(ValueError, match=f"not representable as {datatype}"):
        encode_raw(np.array([value]), datatype)
