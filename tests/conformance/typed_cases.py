"""Cases about datatypes: each one raw and typed, in and out, at the ends of what can be judged and one step beyond."""

import struct
from collections.abc import Iterator

import numpy as np

from sidecar.errors import Reason
from tests.conformance.expectations import Case, Corrected, Error, VeryBytes
from tests.conformance.guarded_model import DTYPES, FIELDS
from tests.conformance.typed_model import raw_request, raw_response, typed_request, typed_response, wire

UNTOUCHED, OUTSIDE = VeryBytes("untouched"), VeryBytes("outside")
REFUSED_INPUT = Error(Reason.INPUT_CONTENTS)
REFUSED_ANSWER = Error(Reason.UPSTREAM_OUTPUT_CONTENTS, forwarded=True)
GATE_REFUSED = Error(Reason.GATE_REFUSED, forwarded=True)

EXACT = 2**53
ENDS = {
    name: (max(int(np.iinfo(kind).min), -EXACT), min(int(np.iinfo(kind).max), EXACT))
    for name, kind in DTYPES.items()
    if kind.kind in "iu"
} | {"BOOL": (0, 1), "FP16": (-65504, 65504), "BF16": (-(2**100), 2**100), "FP32": (-(2**100), 2**100)}
ENDS["FP64"] = (-(2**70), 2**70)

NARROW = {"INT8": (-129, 128, 2**31 - 1), "INT16": (-(2**15) - 1, 2**15), "UINT8": (256, 2**32 - 1), "UINT16": (2**16,)}
"""Values that the typed field of 32 bits holds and the datatype does not."""

BEYOND = {"INT64": (EXACT + 1, -EXACT - 1, 2**63 - 1, -(2**63)), "UINT64": (EXACT + 1, 2**64 - 1)}
"""Values that float64 does not tell from their neighbours, or may not."""

OTHER_FIELD = {
    "BOOL": "int_contents",
    "UINT8": "int_contents",
    "UINT16": "uint64_contents",
    "UINT32": "int64_contents",
    "UINT64": "int64_contents",
    "INT8": "uint_contents",
    "INT16": "int64_contents",
    "INT32": "int64_contents",
    "INT64": "uint64_contents",
    "FP16": "fp32_contents",
    "BF16": "fp32_contents",
    "FP32": "fp64_contents",
    "FP64": "fp32_contents",
}


def _case(name: str, asked, answered, expected) -> Case:
    return Case(name.replace(" ", "-"), asked.SerializeToString(), answered.SerializeToString(), expected)


def _raw(datatype: str, x, y, z=(0.0,)):
    return raw_request(datatype, wire(datatype, x), len(z)), raw_response(datatype, wire(datatype, y), z)


def _typed(datatype: str, x, y, z=(0.0,)):
    numbers = np.frombuffer(wire(datatype, (*x, *y)), DTYPES[datatype]).tolist()
    return typed_request(datatype, numbers[: len(x)]), typed_response(datatype, numbers[len(x) :], z)


def _each_form(datatype: str) -> Iterator[Case]:
    """What holds in raw and in typed contents alike."""
    smallest, largest = ENDS[datatype]
    below = _below(datatype, largest)
    for form, made in (("raw", _raw), ("typed", _typed)):
        if form == "typed" and datatype not in FIELDS:
            continue
        head = f"{datatype} {form}"
        yield _case(f"{head} largest value", *made(datatype, (1, largest), (0, largest)), UNTOUCHED)
        yield _case(f"{head} smallest value", *made(datatype, (1, smallest), (0, smallest)), UNTOUCHED)
        yield _case(f"{head} one step below the largest", *made(datatype, (1, largest), (0, below)), GATE_REFUSED)
        yield _case(f"{head} outside", *made(datatype, (0, 1), (1, 0), (99.0,)), OUTSIDE)
        fallen_back = Corrected(y=((0, 0),), z=((0,),))
        yield _case(f"{head} fallback", *made(datatype, (1, 0), (1, 0), (3.0,)), fallen_back)
        yield _case(f"{head} fallback fits no row", *made(datatype, (1, 1), (1, 1)), _failed())
        yield _case(f"{head} projected beside", *made(datatype, (1, 1), (0, 1), (12.0,)), Corrected(z=((10,),)))
        yield _case(
            f"{head} one row of three",
            *made(datatype, (0, 1, 1, 0, 1, 1), (1, 1, 1, 0, 0, 1), (99.0, 3.0, 10.0)),
            Corrected(y=((1, 1), (0, 0), (0, 1)), z=((99,), (0,), (10,))),
        )
    yield _case(
        f"{datatype} typed in and raw out" if datatype in FIELDS else f"{datatype} raw in and raw out",
        (_typed if datatype in FIELDS else _raw)(datatype, (1, 0), (0, 0))[0],
        _raw(datatype, (1, 0), (1, 0))[1],
        Corrected(y=((0, 0),), z=((0,),)),
    )


def _below(datatype: str, value: int) -> float:
    """The datatype's next value towards zero."""
    kind = DTYPES[datatype]
    if kind.kind in "biu":
        return value - 1
    return float(np.nextafter(kind.type(float(value)), kind.type(0.0)))


def _failed() -> Error:
    """The fallback breaks `echo`, so there is nothing to send."""
    return Error(Reason.CORRECTION_FAILED, forwarded=True)


def _broken(datatype: str) -> Iterator[Case]:
    """Contents that are not what datatype and shape say."""
    asked, answered = _raw(datatype, (1, 0), (0, 0))
    whole = wire(datatype, (1, 0))
    for what, content in (("short", whole[:-1]), ("long", whole + b"\0"), ("half", whole[: len(whole) // 2])):
        yield _case(f"{datatype} raw input too {what}", raw_request(datatype, content), answered, REFUSED_INPUT)
        yield _case(f"{datatype} raw output too {what}", asked, raw_response(datatype, content), REFUSED_ANSWER)
    other = OTHER_FIELD[datatype]
    yield _case(f"{datatype} input in {other}", typed_request(datatype, [1, 0], other), answered, REFUSED_INPUT)
    yield _case(f"{datatype} output in {other}", asked, typed_response(datatype, [0, 0], field=other), REFUSED_ANSWER)


def _unjudgeable() -> Iterator[Case]:
    """Values on the wire that are none of the datatype, or that no row can hold."""
    for datatype, values in (NARROW | BEYOND).items():
        asked, answered = _raw(datatype, (1, 0), (0, 0))
        for value in values:
            typed = typed_request(datatype, [1, value]), typed_response(datatype, [0, value])
            yield _case(f"{datatype} typed input {value}", typed[0], answered, REFUSED_INPUT)
            yield _case(f"{datatype} typed output {value}", asked, typed[1], REFUSED_ANSWER)
    for datatype, values in BEYOND.items():
        asked, answered = _raw(datatype, (1, 0), (0, 0))
        for value in values:
            content = np.array([1, value], DTYPES[datatype]).tobytes()
            yield _case(f"{datatype} raw input {value}", raw_request(datatype, content), answered, REFUSED_INPUT)
            yield _case(f"{datatype} raw output {value}", asked, raw_response(datatype, content), REFUSED_ANSWER)
    for byte in (2, 0x80, 0xFF):
        asked, answered = _raw("BOOL", (1, 0), (0, 0))
        content = bytes([1, byte])
        yield _case(f"BOOL input byte {byte}", raw_request("BOOL", content), answered, REFUSED_INPUT)
        yield _case(f"BOOL output byte {byte}", asked, raw_response("BOOL", content), REFUSED_ANSWER)


def _beyond_beside_others() -> Iterator[Case]:
    beyond = np.array([0, EXACT + 1], "<i8").tobytes()
    fine = np.array([1, 0], "<i8").tobytes()
    inside, outside = raw_request("INT64", fine), raw_request("INT64", np.array([0, 0], "<i8").tobytes())
    yield _case("INT64 unjudgeable input outside", raw_request("INT64", beyond), inside, REFUSED_INPUT)
    yield _case("INT64 unjudgeable answer outside", outside, raw_response("INT64", beyond), OUTSIDE)
    yield _case(
        "INT64 unjudgeable answer outside beside a row inside",
        raw_request("INT64", fine + beyond[:8] + bytes(8), 2),
        raw_response("INT64", bytes(16) + beyond, (0.0, 0.0)),
        REFUSED_ANSWER,
    )


def _strings_beside(datatype: str) -> Iterator[Case]:
    """Tensors of BYTES that are not gated, whatever is in them."""
    raw = raw_request(datatype, wire(datatype, (1, 0)))
    raw.inputs.add(name="text", datatype="BYTES", shape=[1])
    raw.raw_input_contents.append(struct.pack("<I3s", 3, b"\xfe\x00a"))
    answers = {"raw": raw_response(datatype, wire(datatype, (1, 0)))}
    asked = {"raw": raw}
    if datatype in FIELDS:
        typed = _typed(datatype, (1, 0), (1, 0))
        typed[0].inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"\xfe\x00a")
        asked["typed"], answers["typed"] = typed
    for form, answered in answers.items():
        corrected = Corrected(y=((0, 0),), z=((0,),))
        yield _case(f"{datatype} {form} strings beside", asked[form], answered, corrected)


def _wrong_names() -> Iterator[Case]:
    for said, meant in (("UINT8", "INT8"), ("INT8", "BOOL"), ("INT64", "UINT64"), ("FP64", "INT64"), ("BF16", "FP16")):
        asked, answered = _raw(meant, (1, 0), (0, 0))
        misnamed, answer = _raw(meant, (1, 0), (0, 0))
        misnamed.inputs[0].datatype = said
        answer.outputs[1].datatype = said
        yield _case(f"{meant} input said to be {said}", misnamed, answered, Error(Reason.INPUT_DATATYPE))
        yield _case(
            f"{meant} output said to be {said}", asked, answer, Error(Reason.UPSTREAM_OUTPUT_DATATYPE, forwarded=True)
        )


TYPED_CASES = [
    *(case for datatype in DTYPES for case in _each_form(datatype)),
    *(case for datatype in DTYPES for case in _broken(datatype)),
    *(case for datatype in DTYPES for case in _strings_beside(datatype)),
    *_unjudgeable(),
    *_beyond_beside_others(),
    *_wrong_names(),
]
