"""What TorchServe payloads are read as, what is refused in them, and how changed values are written back."""

import io
import json
import re

import numpy as np
import pytest

from sidecar.protocols.open_inference.contents import Defect, TensorDefect
from sidecar.protocols.torchserve import json_document
from sidecar.protocols.torchserve.json_paths import parse_path
from sidecar.protocols.torchserve.json_side import JsonPlace, JsonSide
from sidecar.protocols.torchserve.npy import NpySide
from sidecar.protocols.torchserve.raw import RawSide
from sidecar.tensors import Datatype, TensorSpec

X = TensorSpec("x", Datatype.FP32, (2,))
SQUARE = TensorSpec("x", Datatype.FP32, (2, 2))
ONE = TensorSpec("x", Datatype.FP32, (1,))
PRECISE = TensorSpec("x", Datatype.FP64, (2,))

ROWS = np.array([[1.5, -2.0], [0.25, 4.0]])


def _json(*paths: str, spec: TensorSpec = X, is_batched: bool = True) -> JsonSide:
    return JsonSide((JsonPlace(spec, tuple(map(parse_path, paths))),), is_batched)


def _npy(rows, **options) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(rows), **options)
    return file.getvalue()


def _file(header: bytes, values: bytes, version: bytes = b"\1\0") -> bytes:
    size = 2 if version == b"\1\0" else 4
    return b"\x93NUMPY" + version + len(header).to_bytes(size, "little") + header + values


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n"
VALUES = np.zeros(2, "<f4").tobytes()

READ = {
    "raw": (RawSide(X, True), ROWS.astype("<f4").tobytes(), ROWS),
    "raw, one row": (RawSide(X, False), ROWS[:1].astype("<f4").tobytes(), ROWS[:1]),
    "npy": (NpySide(X, True), _npy(ROWS.astype("<f4")), ROWS),
    "npy, one row": (NpySide(X, False), _npy(ROWS[0].astype("<f4")), ROWS[:1]),
    "npy, version 2": (NpySide(X, True), _npy(ROWS.astype("<f4"), version=(2, 0)), ROWS),
    "npy, version 3": (NpySide(X, True), _npy(ROWS.astype("<f4"), version=(3, 0)), ROWS),
    "npy, double": (NpySide(PRECISE, True), _npy(ROWS), ROWS),
    "npy, shaped": (NpySide(SQUARE, True), _npy(ROWS.astype("<f4")[None]), ROWS.reshape(1, 4)),
    "npy, integers": (
        NpySide(TensorSpec("x", Datatype.INT16, (2,)), True),
        _npy(np.array([[1, -2]], "<i2")),
        [[1, -2]],
    ),
    "npy, booleans": (NpySide(TensorSpec("x", Datatype.BOOL, (2,)), True), _npy(np.array([[True, False]])), [[1, 0]]),
    "npy, bytes": (NpySide(TensorSpec("x", Datatype.UINT8, (2,)), True), _npy(np.array([[255, 0]], "u1")), [[255, 0]]),
    "raw, integers": (RawSide(TensorSpec("x", Datatype.INT16, (1,)), True), b"\1\0\xff\xff", [[1], [-1]]),
    "npy, no spaces": (NpySide(X, True), _file(HEADER.replace(b", 2", b",2"), VALUES), np.zeros((1, 2))),
    "json": (_json("/r/*"), b'{"r": [[1.5, -2], [25e-2, 4.0]]}', ROWS),
    "json, whole document": (_json("/*"), b"[[1.5, -2], [0.25, 4]]", ROWS),
    "json, objects with arrays": (_json("/*/v"), b'[{"v": [1.5, -2], "n": 1}, {"v": [0.25, 4]}]', ROWS),
    "json, objects with values": (_json("/*/a", "/*/b"), b'[{"a": 1.5, "b": -2}, {"b": 4, "a": 0.25}]', ROWS),
    "json, columns": (_json("/a/*", "/b/*"), b'{"a": [1.5, 0.25], "b": [-2, 4]}', ROWS),
    "json, within an array": (_json("/1/*"), b"[0, [[1.5, -2], [0.25, 4]]]", ROWS),
    "json, one row": (_json("/r", is_batched=False), b'{"r": [1.5, -2]}', ROWS[:1]),
    "json, one row, values": (_json("/a", "/b", is_batched=False), b'{"a": 1.5, "b": -2}', ROWS[:1]),
    "json, shaped": (_json("/*", spec=SQUARE), b"[[[1.5, -2], [0.25, 4]]]", ROWS.reshape(1, 4)),
    "json, shaped, flat": (_json("/*", spec=SQUARE), b"[[1.5, -2, 0.25, 4]]", ROWS.reshape(1, 4)),
    "json, bare numbers": (_json("/*", spec=ONE), b"[1.5, -2]", np.array([[1.5], [-2.0]])),
    "json, escapes in names": (_json("/r/*"), b'{"\\u0072": [[1.5, -2]]}', ROWS[:1]),
    "json, rounded": (_json("/*"), b"[[0.1, 16777217]]", np.array([[np.float32(0.1), 16777216]])),
    "json, double": (_json("/*", spec=PRECISE), b"[[0.1, 16777217]]", np.array([[0.1, 16777217]])),
    "json, not finite": (_json("/*"), b"[[NaN, -Infinity], [Infinity, 1e39]]", [[np.nan, -np.inf], [np.inf, np.inf]]),
    "json, half way and written out": (_json("/*"), b"[[1.00000005960464477539062500, 0]]", np.array([[1.0, 0.0]])),
    "json, far too small": (_json("/*"), b"[[1e-999999999, -0.0]]", np.array([[0.0, 0.0]])),
}


@pytest.mark.parametrize("name", READ)
def test_payloads_are_read(name):
    side, payload, rows = READ[name]
    np.testing.assert_array_equal(side.read(payload), rows)


REFUSED = {
    "raw, a boolean that is neither": (
        RawSide(TensorSpec("x", Datatype.BOOL, ()), True),
        b"\2",
        Defect.CONTENTS,
        "BOOL",
    ),
    "npy, a large integer": (
        NpySide(TensorSpec("x", Datatype.INT64, ()), True),
        _npy(np.array([2**53 + 1])),
        Defect.CONTENTS,
        "cannot be judged",
    ),
    "raw, part of a row": (RawSide(X, True), bytes(12), Defect.CONTENTS, "multiple of 8"),
    "raw, nothing": (RawSide(X, True), b"", Defect.SHAPE, "0 rows"),
    "raw, two rows of one": (RawSide(X, False), bytes(16), Defect.SHAPE, "expected 1"),
    "npy, nothing": (NpySide(X, True), b"", Defect.CONTENTS, "version"),
    "npy, an archive": (NpySide(X, True), b"PK\3\4" + bytes(99), Defect.CONTENTS, "version"),
    "npy, a pickle": (NpySide(X, True), b"\x80\x04]\x94.", Defect.CONTENTS, "version"),
    "npy, version 4": (NpySide(X, True), _file(HEADER, VALUES, b"\4\0"), Defect.CONTENTS, "version"),
    "npy, cut header": (NpySide(X, True), _file(HEADER, VALUES)[:40], Defect.CONTENTS, "whole"),
    "npy, only magic": (NpySide(X, True), b"\x93NUMPY\1\0", Defect.CONTENTS, "header"),
    "npy, long header": (NpySide(X, True), _file(HEADER.ljust(2000), VALUES), Defect.CONTENTS, "at most 1024"),
    "npy, cut values": (NpySide(X, True), _file(HEADER, VALUES[:-1]), Defect.CONTENTS, "7 bytes"),
    "npy, more behind": (NpySide(X, True), _file(HEADER, VALUES + b"\0"), Defect.CONTENTS, "9 bytes"),
    "npy, double": (NpySide(X, True), _npy(ROWS), Defect.DATATYPE, "'<f8'"),
    "npy, big-endian": (NpySide(X, True), _npy(ROWS.astype(">f4")), Defect.DATATYPE, "'>f4'"),
    "npy, objects": (NpySide(X, True), _npy(np.array([[None]])), Defect.DATATYPE, "'|O'"),
    "npy, Fortran order": (NpySide(X, True), _npy(np.asfortranarray(ROWS.astype("<f4"))), Defect.CONTENTS, "Fortran"),
    "npy, other row": (NpySide(X, True), _npy(np.zeros((2, 3), "<f4")), Defect.SHAPE, "[2, 3]"),
    "npy, flat": (NpySide(X, True), _npy(np.zeros(4, "<f4")), Defect.SHAPE, "[4]"),
    "npy, a scalar": (NpySide(X, True), _npy(np.zeros((), "<f4")), Defect.SHAPE, "[]"),
    "npy, no rows": (NpySide(X, True), _npy(np.zeros((0, 2), "<f4")), Defect.SHAPE, "0 rows"),
    "npy, a batch of one row": (NpySide(X, False), _npy(np.zeros((1, 2), "<f4")), Defect.SHAPE, "[1, 2]"),
    "npy, evaluated": (
        NpySide(X, True),
        _file(HEADER.replace(b"(1, 2)", b"(1*1, 2)"), VALUES),
        Defect.CONTENTS,
        "numpy.save",
    ),
    "npy, a header twice": (NpySide(X, True), _file(HEADER.strip() + HEADER, VALUES), Defect.CONTENTS, "numpy.save"),
    "json, none": (_json("/*"), b"", Defect.CONTENTS, "no JSON"),
    "json, cut": (_json("/*"), b"[[1, 2]", Defect.CONTENTS, "no JSON"),
    "json, more behind": (_json("/*"), b"[[1, 2]] 3", Defect.CONTENTS, "no JSON"),
    "json, byte order mark": (_json("/*"), b"\xef\xbb\xbf[[1, 2]]", Defect.CONTENTS, "no JSON"),
    "json, UTF-16": (_json("/*"), "[[1, 2]]".encode("utf-16-le"), Defect.CONTENTS, "no JSON"),
    "json, no UTF-8": (_json("/r/*"), b'{"r": [[1, 2]], "n": "\xff"}', Defect.CONTENTS, "no JSON"),
    "json, leading zero": (_json("/*"), b"[[01, 2]]", Defect.CONTENTS, "no JSON"),
    "json, field twice": (_json("/r/*"), b'{"r": [[1, 2]], "r": [[3, 4]]}', Defect.CONTENTS, "twice"),
    "json, field twice in disguise": (_json("/r/*"), b'{"r": [[1, 2]], "\\u0072": 1}', Defect.CONTENTS, "twice"),
    "json, field twice elsewhere": (_json("/r/*"), b'{"r": [[1, 2]], "n": {"a": 1, "a": 2}}', Defect.CONTENTS, "twice"),
    "json, nested too deep": (_json("/*"), b"[" * 100_000 + b"]" * 100_000, Defect.CONTENTS, "no JSON"),
    "json, text": (_json("/*"), b'[["1", "2"]]', Defect.SHAPE, "2 numbers"),
    "json, booleans": (_json("/*"), b"[[true, false]]", Defect.SHAPE, "2 numbers"),
    "json, null": (_json("/*"), b"[[1, null]]", Defect.SHAPE, "2 numbers"),
    "json, a missing value": (_json("/*/a", "/*/b"), b'[{"a": 1}]', Defect.MISSING, "/b"),
    "json, a field in an array": (_json("/r/*"), b"[[1, 2]]", Defect.MISSING, "/r"),
    "json, an index in an object": (_json("/0/*"), b'{"r": [[1, 2]]}', Defect.MISSING, "/0"),
    "json, past the end": (_json("/1/*"), b"[[[1, 2]]]", Defect.MISSING, "/1"),
    "json, too few values": (_json("/*"), b"[[1, 2], [3]]", Defect.SHAPE, "row 1"),
    "json, too many values": (_json("/*"), b"[[1, 2, 3]]", Defect.SHAPE, "row 0"),
    "json, too deep": (_json("/*"), b"[[[1, 2]]]", Defect.SHAPE, "row 0"),
    "json, no rows": (_json("/*"), b"[]", Defect.SHAPE, "0 rows"),
    "json, rows are an object": (_json("/*"), b'{"0": [1, 2]}', Defect.SHAPE, "no array"),
    "json, columns of two lengths": (_json("/a/*", "/b/*"), b'{"a": [1, 2], "b": [3]}', Defect.SHAPE, "[1, 2] rows"),
    "json, long number": (_json("/*"), b"[[1." + b"0" * 400 + b", 2]]", Defect.CONTENTS, "characters"),
    "json, just above half way": (_json("/*"), b"[[1.00000005960464477540, 0]]", Defect.CONTENTS, "depending on"),
    "json, just below half way": (_json("/*"), b"[[-1.00000017881393432617, 0]]", Defect.CONTENTS, "depending on"),
    "json, just below overflow": (
        _json("/*"),
        b"[[340282356779733661637539395458142568447.9, 0]]",
        Defect.CONTENTS,
        "depending on",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_payloads_that_readers_may_read_differently_or_not_at_all_are_refused(name):
    side, payload, defect, words = REFUSED[name]
    with pytest.raises(TensorDefect, match=re.escape(words)) as caught:
        side.read(payload)
    assert caught.value.defect is defect


def test_documents_of_too_many_values_are_refused_before_they_are_parsed(monkeypatch):
    monkeypatch.setattr(json_document, "MAX_VALUES", 4)
    assert _json("/*").read(b"[[1, 2]]").shape == (1, 2)
    with pytest.raises(TensorDefect, match="more than 4 values"):
        _json("/*").read(b"[[1, 2], [3, 4]]")


def test_tensors_of_different_numbers_of_rows_are_refused():
    places = tuple(JsonPlace(TensorSpec(name, Datatype.FP32, (1,)), (parse_path(f"/{name}/*"),)) for name in "ab")
    side = JsonSide(places, True)
    np.testing.assert_array_equal(side.read(b'{"b": [3, 4], "a": [1, 2]}'), [[1, 3], [2, 4]])
    with pytest.raises(TensorDefect, match="differ in their number of rows"):
        side.read(b'{"a": [1], "b": [1, 2]}')


def test_changed_numbers_of_a_document_are_replaced_and_nothing_else():
    payload = ' {"é": "1 \\" 2", "n" : [1E5, true,null] ,\t"r":[ [ 1.50, -2e0 ],[NaN,4 ]],"p": {"-3": -3}}\n'.encode()
    side = _json("/r/*")
    rows = side.read(payload)
    rows[0, 1], rows[1, 0] = np.float32(0.1), -1e30
    replaced = side.replace(payload, np.array([[False, True], [True, False]]), rows)
    expected = payload.replace(b"-2e0", b"0.10000000149011612").replace(b"NaN", b"-1e+30")
    assert replaced == expected


def test_changed_values_of_raw_and_npy_payloads_are_replaced_and_nothing_else():
    odd = np.array([0x7FC12345, 0, 0, 0x80000000], "<u4").tobytes()  # a NaN with a payload, a negative zero
    rows = np.array([[np.nan, 1.0], [0.0, -0.0]])
    changed = np.array([[False, True], [False, False]])
    assert RawSide(X, True).replace(odd, changed, rows) == odd[:4] + np.float32(1).tobytes() + odd[8:]
    file = _file(HEADER.replace(b"(1, 2)", b"(2, 2)"), odd, b"\3\0")
    replaced = NpySide(X, True).replace(file, changed, rows)
    assert replaced == file[:-12] + np.float32(1).tobytes() + file[-8:]


@pytest.mark.parametrize(
    "side",
    [
        RawSide(X, True),
        NpySide(X, True),
        NpySide(TensorSpec("x", Datatype.FP16, (1, 2)), True),
        _json("/r/*"),
        _json("/*"),
        _json("/r/*/v"),
        _json("/r/*/a", "/r/*/b"),
        _json("/a/*", "/b/*"),
        _json("/1/*/0", "/1/*/1"),
    ],
    ids=str,
)
def test_what_is_written_is_read_again(side):
    np.testing.assert_array_equal(side.read(side.write(ROWS)), ROWS)


@pytest.mark.parametrize(
    "side", [RawSide(X, False), NpySide(X, False), _json("/r", is_batched=False), _json("/a", "/b", is_batched=False)]
)
def test_what_is_written_for_one_row_is_read_again(side):
    np.testing.assert_array_equal(side.read(side.write(ROWS[:1])), ROWS[:1])


def test_a_npy_file_is_written_as_numpy_writes_it():
    assert NpySide(X, True).write(ROWS) == _npy(ROWS.astype("<f4"))


def test_a_json_request_is_written_as_people_would():
    assert json.loads(_json("/r/*/a", "/r/*/b").write(ROWS)) == {"r": [{"a": 1.5, "b": -2}, {"a": 0.25, "b": 4}]}
    assert json.loads(_json("/1/*").write(ROWS)) == [None, ROWS.tolist()]


@pytest.mark.parametrize(
    ("text", "words"),
    [("instances", "from the top"), ("", "from the top"), ("/a//b", "empty step"), ("/*/a/*", "twice")],
)
def test_what_is_no_place_in_a_document_is_told(text, words):
    with pytest.raises(ValueError, match=words):
        parse_path(text)
