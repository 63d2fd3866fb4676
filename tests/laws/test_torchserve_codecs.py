"""Laws of TorchServe's payloads: what the gate reads is what other readers read, or the payload is refused; and what is
written back is read as what was checked, with every other byte as it was.

Python's own JSON reader and numpy's own reader of .npy files are the other readers, rational arithmetic is a third.
"""

import contextlib
import io
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.errors import CallerError, UpstreamError
from sidecar.numerics import round_to_datatype
from sidecar.protocols.open_inference.contents import TensorDefect
from sidecar.protocols.torchserve.codec import Keys, json_codec, npy_codec, raw_codec, read_request, read_response
from sidecar.protocols.torchserve.json_document import read_document, replace_numbers
from sidecar.protocols.torchserve.json_numbers import decode_numbers, encode_number
from sidecar.protocols.torchserve.json_paths import parse_path
from sidecar.protocols.torchserve.json_side import JsonPlace, JsonSide
from sidecar.protocols.torchserve.messages import parse_predictions_request
from sidecar.protocols.torchserve.npy import NpySide
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

X = TensorSpec("x", Datatype.FP32, (2,))
SIGNATURE = ModelSignature((X,), (TensorSpec("y", Datatype.FP32, (2,)),), batch_axis=0)
CODECS = (
    raw_codec(Keys("data"), SIGNATURE, None),
    npy_codec(Keys("data"), SIGNATURE, None),
    json_codec(Keys("data"), SIGNATURE, Datatype.FP32, {"x": ("/r",)}, {"y": ("/r",)}),
)

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def literals(draw) -> str:
    """JSON numbers; many of them near the middle between two FP32 values."""
    value = draw(singles)
    with np.errstate(over="ignore"):
        above = float(np.nextafter(np.float32(value), np.float32(np.inf)))
    if draw(st.booleans()) and np.isfinite(above):
        middle = (Fraction(value) + Fraction(above)) / 2
        nudge = Fraction(draw(st.integers(-3, 3)), 10 ** draw(st.integers(1, 60)))
        return _decimal(middle * (1 + nudge))
    digits = draw(st.integers(-(10**20), 10**20))
    form = draw(st.sampled_from([f"{digits}", f"{digits}e{draw(st.integers(-400, 400))}", repr(draw(doubles))]))
    return form.replace("inf", "1e999")


def _decimal(value: Fraction) -> str:
    """Some sixty digits of it."""
    if not value:
        return "0.0"
    exponent = len(str(abs(value.numerator))) - len(str(value.denominator)) - 60
    scaled = value / Fraction(10) ** exponent
    return f"{round(scaled)}e{exponent}"


@given(literals())
@example("1.00000005960464477540")
@example("7.006492321624086e-46")  # half of the smallest FP32 value, nearly
@example("340282356779733661637539395458142568447.9")
def test_a_number_means_the_same_to_all_readers_or_is_refused(text):
    try:
        (got,) = decode_numbers([text], Datatype.FP32)
    except TensorDefect:
        return
    with np.errstate(over="ignore", under="ignore"):
        assert got == np.float32(float(text)), "by way of a double"
    try:
        assert got == round_to_datatype(Fraction(text), Datatype.FP32), "at once"
    except OverflowError:
        assert np.isinf(got)


@given(literals())
def test_a_double_is_what_python_reads(text):
    assert decode_numbers([text], Datatype.FP64)[0] == float(text)


@given(singles)
def test_what_is_written_is_read_as_the_same_bits_by_single_and_double(value):
    for datatype in (Datatype.FP32, Datatype.FP64):
        read = decode_numbers([encode_number(value)], datatype)
        assert read.tobytes() == np.array([value]).tobytes()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | doubles | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def _numbers(value) -> list[str]:
    """The texts of all numbers in the document's order, by the tree that Python's own reader makes."""
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value.text] if isinstance(value, _Text) else []


class _Text:
    def __init__(self, text: str) -> None:
        self.text = text


@given(values, st.booleans(), st.sampled_from([None, 1]), st.data())
def test_the_numbers_of_any_document_can_be_replaced_one_by_one(value, ascii_only, indent, data):
    payload = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", errors="surrogatepass")
    try:
        read_document(payload)
    except TensorDefect:
        assert b"\xed" in payload, "a surrogate that stands alone is the only thing here that is no UTF-8"
        return
    texts = _numbers(json.loads(payload, parse_int=_Text, parse_float=_Text, parse_constant=_Text))
    chosen = data.draw(st.sets(st.sampled_from(range(len(texts)))) if texts else st.just(set()))
    replaced = replace_numbers(payload, dict.fromkeys(chosen, "123456789.125"))
    after = _numbers(json.loads(replaced, parse_int=_Text, parse_float=_Text, parse_constant=_Text))
    assert after == ["123456789.125" if place in chosen else text for place, text in enumerate(texts)]
    assert replace_numbers(replaced, {place: texts[place] for place in chosen}) == payload


FRAMES = (b'{"r": %s}', b'{"n": {"r": [[9]]}, "r":%s, "\\u0071": "\\"r\\": [[1, 2]]"}', b' { "r" :\t%s\n}')


@given(st.lists(st.tuples(singles, singles), min_size=1, max_size=4), st.sampled_from(FRAMES))
def test_rows_of_a_document_are_what_python_and_numpy_make_of_it(rows, frame):
    payload = frame.replace(b"%s", json.dumps(rows).encode())
    side = JsonSide((JsonPlace(X, (parse_path("/r/*"),)),), True)
    np.testing.assert_array_equal(side.read(payload), np.array(json.loads(payload)["r"], np.float32))


@given(st.binary(max_size=60), st.integers(0, 127), st.integers(0, 3), st.integers(0, 1))
def test_a_spoiled_npy_file_is_read_as_numpy_reads_it_or_refused(junk, at, length, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(4, dtype="<f4").reshape(2, 2), version=(version + 1, 0))
    spoiled = file.getvalue()[:at] + junk + file.getvalue()[at + length :]
    try:
        got = NpySide(X, True).read(spoiled)
    except TensorDefect:
        return
    np.testing.assert_array_equal(got, np.load(io.BytesIO(spoiled), allow_pickle=False))


REQUESTS = [
    b"\x0a\x01m\x1a" + bytes([len(entry)]) + entry
    for payload in (bytes(16), NpySide(X, True).write(np.ones((1, 2))), b'{"r": [[1.5, 2]], "n": "a"}')
    for entry in [b"\x0a\x04data\x12" + bytes([len(payload)]) + payload]
    if len(entry) < 128
]


@pytest.mark.parametrize("codec", CODECS, ids=["raw", "npy", "json"])
@given(st.binary(max_size=80) | st.sampled_from(REQUESTS), st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3))
def test_whatever_the_bytes_are_they_are_read_or_refused_by_a_reason(codec, content, at, junk, cut):
    spoiled = content[:at] + junk + content[at + cut :]
    with contextlib.suppress(CallerError):
        gated = read_request(parse_predictions_request(spoiled), codec, 8)
        assert gated.forward == spoiled
        assert np.isfinite(gated.inputs).all()
    with contextlib.suppress(UpstreamError):
        assert len(read_response(spoiled, codec, 1).outputs) == 1
