"""Wire tensors: what a specification refuses, and that raw contents survive decoding and encoding."""

import ml_dtypes
import numpy as np
import pytest

from sidecar.tensors import (
    FLOATING_DATATYPES,
    GATED_DATATYPES,
    INTEGER_RANGES,
    MAX_EXACT_INTEGER,
    Datatype,
    ModelSignature,
    TensorSpec,
    decode_raw,
    encode_raw,
    exact_integers,
    item_size,
)

WIRE_TYPE = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
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
            (("x", Datatype.BYTES, (1,)), "no numeric meaning"),
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


def test_all_datatypes_but_strings_can_be_gated():
    assert set(GATED_DATATYPES) == set(Datatype) - {Datatype.BYTES}


@pytest.mark.parametrize("datatype", INTEGER_RANGES)
class TestIntegers:
    def test_item_size_is_the_wires(self, datatype):
        assert item_size(datatype) == WIRE_TYPE[datatype].itemsize

    def test_the_ends_of_the_range_survive_exactly(self, datatype):
        smallest, largest = INTEGER_RANGES[datatype]
        raw = np.array([smallest, 0, 1, largest], dtype=WIRE_TYPE[datatype]).tobytes()
        decoded = decode_raw(raw, datatype)
        assert decoded.dtype == np.float64
        assert decoded.tolist() == [smallest, 0, 1, largest]
        assert encode_raw(decoded, datatype) == raw

    def test_the_range_is_the_datatypes_or_ends_where_float64_stops_to_be_exact(self, datatype):
        kind = WIRE_TYPE[datatype]
        whole = (0, 1) if kind == np.bool_ else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
        assert INTEGER_RANGES[datatype] == (max(whole[0], -(2**53)), min(whole[1], 2**53))
        assert all(type(end) is int for end in INTEGER_RANGES[datatype])

    def test_contents_of_broken_length_are_refused(self, datatype):
        if item_size(datatype) > 1:
            with pytest.raises(ValueError, match="multiple"):
                decode_raw(bytes(item_size(datatype) + 1), datatype)
        assert decode_raw(b"", datatype).shape == (0,)

    @pytest.mark.parametrize("value", [0.5, -1e300, 1e300, np.nan, np.inf, -np.inf])
    def test_what_is_no_integer_of_the_datatype_is_refused(self, datatype, value):
        with pytest.raises(ValueError, match=f"not representable as {datatype}"):
            encode_raw(np.array([0.0, value]), datatype)

    def test_two_beyond_either_end_are_refused(self, datatype):
        for end, beyond in zip(INTEGER_RANGES[datatype], (-2, 2), strict=True):  # by two: 2**53 + 1 is no float64
            with pytest.raises(ValueError, match="not representable"):
                encode_raw(np.array([float(end + beyond)]), datatype)

    def test_a_negative_zero_is_zero(self, datatype):
        assert encode_raw(np.array([-0.0]), datatype) == bytes(item_size(datatype))


@pytest.mark.parametrize("datatype", [Datatype.INT64, Datatype.UINT64])
@pytest.mark.parametrize("beyond", [1, 2, 3, 2**62])
def test_a_64_bit_integer_that_float64_does_not_tell_from_its_neighbour_is_refused_not_rounded(datatype, beyond):
    sides = (1, -1) if datatype is Datatype.INT64 else (1,)
    for value in (side * (MAX_EXACT_INTEGER + beyond) for side in sides):
        raw = np.array([0, value], dtype=WIRE_TYPE[datatype]).tobytes()
        with pytest.raises(ValueError, match=f"{datatype} value {value} cannot be judged"):
            decode_raw(raw, datatype)


@pytest.mark.parametrize("byte", [2, 0x80, 0xFF])
def test_a_boolean_is_zero_or_one(byte):
    with pytest.raises(ValueError, match=f"BOOL value {byte} cannot be judged"):
        decode_raw(bytes([1, byte, 0]), Datatype.BOOL)


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (np.array([[128]], np.int32), Datatype.INT8),
        (np.array([-129], np.int32), Datatype.INT8),
        (np.array([2**15], np.int32), Datatype.INT16),
        (np.array([256], np.uint32), Datatype.UINT8),
        (np.array([2**16], np.uint32), Datatype.UINT16),
        (np.array([2**64 - 1], np.uint64), Datatype.UINT64),
    ],
)
def test_a_value_held_wider_must_be_one_of_the_datatype(values, datatype):
    with pytest.raises(ValueError, match=f"{datatype} value {values.reshape(-1)[0]} cannot be judged"):
        exact_integers(values, datatype)
    assert exact_integers(values[:0], datatype).size == 0


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
