"""Cases about protobuf itself: many byte strings mean one message, and each is read as protobuf reads it, or refused.

Numbers of fields, in the messages of the protocol: a request has model_name 1, model_version 2, id 3, parameters 4,
inputs 5, outputs 6, raw contents 7; an input has name 1, datatype 2, shape 3, parameters 4, contents 5; an answer has
model_name 1, model_version 2, id 3, parameters 4, outputs 5, raw contents 6.
"""

from sidecar.errors import Reason
from tests.conformance.building import UNTOUCHED, case, failed, projected, refused
from tests.conformance.guarded_model import raw, request, response
from tests.fuzz.wire import DELIMITED, FIXED32, FIXED64, GROUP, VARINT, Field, varint, write

FINE, HIGH = response([[0.5, 0, 0]]), response([[3, 2, 1]])
LOWERED = projected(1, 2, 1)


def text(number: int, value: bytes | list[Field], padding: int = 0) -> Field:
    return Field(number, DELIMITED, value, padding)


NAME = text(1, b"guarded")
RAW = text(7, raw([0.75, 0]))
X, FP32, SHAPE = text(1, b"x"), text(2, b"FP32"), text(3, b"\x01\x02")
TENSOR = text(5, [X, FP32, SHAPE])
TYPED = text(5, [text(6, raw([0.75, 0]))])

_SAME = {
    # All of these ask for x = (0.75, 0).
    "with the fields in reverse": [RAW, TENSOR, NAME],
    "with the raw contents first": [RAW, NAME, TENSOR],
    "with the tensor's fields in reverse": [NAME, text(5, [SHAPE, FP32, X]), RAW],
    "with the model name thrice": [text(1, b"other"), text(1, b""), NAME, TENSOR, RAW],
    "with the model name at the end": [TENSOR, RAW, NAME],
    "with the tensor's name twice": [NAME, text(5, [text(1, b"w"), FP32, SHAPE, X]), RAW],
    "with the datatype twice": [NAME, text(5, [X, text(2, b"FP64"), SHAPE, FP32]), RAW],
    "with the shape unpacked": [NAME, text(5, [X, FP32, Field(3, VARINT, 1), Field(3, VARINT, 2)]), RAW],
    "with the shape half packed": [NAME, text(5, [X, FP32, Field(3, VARINT, 1), text(3, b"\x02")]), RAW],
    "with the shape packed in pieces": [NAME, text(5, [X, text(3, b"\x01"), FP32, text(3, b"\x02")]), RAW],
    "with an empty packed shape besides": [NAME, text(5, [X, FP32, text(3, b""), SHAPE, text(3, b"")]), RAW],
    "with a padded shape": [NAME, text(5, [X, FP32, text(3, b"\x81\x80\x80\x00\x82\x00")]), RAW],
    "with padded tags and lengths": [
        text(1, b"guarded", 1),
        Field(5, DELIMITED, [X, FP32, SHAPE], 1),
        text(7, raw([0.75, 0]), 1),
    ],
    "with an empty id and version": [NAME, text(2, b""), text(3, b""), TENSOR, RAW],
    "with typed contents": [NAME, text(5, [X, FP32, SHAPE, TYPED])],
    "with typed contents first": [NAME, text(5, [TYPED, X, FP32, SHAPE])],
    "with typed contents unpacked": [
        NAME,
        text(5, [X, FP32, SHAPE, text(5, [Field(6, FIXED32, raw([0.75])), Field(6, FIXED32, raw([0]))])]),
    ],
    "with typed contents half packed": [
        NAME,
        text(5, [X, FP32, SHAPE, text(5, [Field(6, FIXED32, raw([0.75])), text(6, raw([0]))])]),
    ],
    "with typed contents in two submessages": [
        NAME,
        text(5, [X, FP32, text(5, [text(6, raw([0.75]))]), SHAPE, text(5, [text(6, raw([0]))])]),
    ],
    "with an empty submessage of contents": [NAME, text(5, [X, FP32, SHAPE, text(5, []), TYPED])],
    "with empty contents of other types": [
        NAME,
        text(5, [X, FP32, SHAPE, text(5, [text(2, b""), text(7, b"")]), TYPED]),
    ],
}
SAME_CASES = [
    made
    for how, fields in _SAME.items()
    for made in (
        case(f"a request {how}", write(fields), FINE, UNTOUCHED),
        case(f"a request {how} that is judged", write(fields), HIGH, LOWERED),
    )
]

_UNKNOWN = {
    "number": Field(1000, VARINT, 2**64 - 1),
    "text": text(1000, b"unknown"),
    "fixed 32": Field(1000, FIXED32, b"abcd"),
    "fixed 64": Field(1000, FIXED64, b"abcdefgh"),
    "group": Field(1000, GROUP, [Field(1, VARINT, 1), Field(1000, GROUP, [NAME])]),
}
_PLACES = {
    "in the request": lambda f: [f, NAME, TENSOR, RAW, f],
    "in the tensor": lambda f: [NAME, text(5, [f, X, FP32, SHAPE, f]), RAW],
    "in typed contents": lambda f: [NAME, text(5, [X, FP32, SHAPE, text(5, [f, text(6, raw([0.75, 0])), f])])],
    "in a requested output": lambda f: [NAME, TENSOR, text(6, [f, text(1, b"y")]), text(6, [text(1, b"z"), f]), RAW],
    "in a parameter's value": lambda f: [
        NAME,
        text(4, [text(1, b"p"), text(2, [f, Field(1, VARINT, 1)])]),
        TENSOR,
        RAW,
    ],
}
UNKNOWN_CASES = [
    case(f"an unknown {kind} {where}", write(place(field)), HIGH, LOWERED)
    for kind, field in _UNKNOWN.items()
    for where, place in _PLACES.items()
]
_WRONG_TYPE = {
    # Known numbers with another wire type are unknown fields.
    "the model name as a number": [Field(1, VARINT, 5), NAME, TENSOR, RAW],
    "raw contents as a number": [NAME, TENSOR, Field(7, VARINT, 5), RAW],
    "raw contents as a group": [NAME, TENSOR, Field(7, GROUP, [RAW]), RAW],
    "an input as a group": [NAME, Field(5, GROUP, [X, FP32, SHAPE]), TENSOR, RAW],
    "an id as fixed 64": [NAME, TENSOR, Field(3, FIXED64, b"abcdefgh"), RAW],
}
UNKNOWN_CASES += [case(f"{what} is unknown", write(fields), HIGH, LOWERED) for what, fields in _WRONG_TYPE.items()]


def _parameter(*value: Field, key: bytes = b"p") -> Field:
    return text(4, [text(1, key), text(2, list(value))])


_MAPS = {
    "one key twice": [_parameter(Field(1, VARINT, 1)), _parameter(text(3, b"a"))],
    "a key that is empty": [text(4, [text(2, [Field(1, VARINT, 1)])])],
    "an entry without a value": [text(4, [text(1, b"p")])],
    "an entry of nothing": [text(4, [])],
    "an entry with its value first": [text(4, [text(2, [Field(1, VARINT, 1)]), text(1, b"p")])],
    "an entry with its key twice": [text(4, [text(1, b"q"), text(1, b"p"), text(2, [Field(1, VARINT, 1)])])],
    "an entry with its value twice": [
        text(4, [text(1, b"p"), text(2, [Field(1, VARINT, 1)]), text(2, [text(3, b"a")])])
    ],
    "a value of two kinds": [_parameter(Field(1, VARINT, 1), text(3, b"a"), Field(4, FIXED64, b"\0" * 8))],
    "a value of no kind": [_parameter()],
}
MAP_CASES = [
    case(f"parameters with {what}", write([NAME, *fields, TENSOR, RAW]), HIGH, LOWERED)
    for what, fields in _MAPS.items()
]

_HIDING = b"shared_memory_region"
_HIDDEN = {
    "as its last entry": [_parameter(text(3, b"a")), _parameter(text(3, b"r"), key=_HIDING)],
    "twice": [_parameter(text(3, b"r"), key=_HIDING)] * 2,
    "without a value": [text(4, [text(1, _HIDING)])],
    "with its value first": [text(4, [text(2, []), text(1, _HIDING)])],
    "by the later of two keys": [text(4, [text(1, b"p"), text(1, _HIDING)])],
}
HIDDEN_CASES = [
    case(
        f"shared memory named {how}",
        write([NAME, text(5, [X, FP32, SHAPE, *fields]), RAW]),
        FINE,
        refused(Reason.SHARED_MEMORY),
    )
    for how, fields in _HIDDEN.items()
]


# The runtime here sets a map entry with an unknown field aside, others read it: see the request's reader.
_ENTRY = [text(2, [text(3, b"r")]), Field(9, VARINT, 1)]
_SET_ASIDE = {
    "shared memory": [NAME, text(5, [X, FP32, SHAPE, text(4, [text(1, _HIDING), *_ENTRY])]), RAW],
    "classification": [NAME, TENSOR, text(6, [text(1, b"y"), text(2, [text(1, b"classification"), *_ENTRY])]), RAW],
    "a request's parameter": [NAME, text(4, [text(1, b"p"), *_ENTRY]), TENSOR, RAW],
    "an ungated tensor's parameter": [NAME, TENSOR, text(5, [text(1, b"w"), text(4, [*_ENTRY])]), RAW, text(7, b"")],
}
HIDDEN_CASES += [
    case(f"{what} in an entry with an unknown field", write(fields), FINE, refused(Reason.MALFORMED_REQUEST))
    for what, fields in _SET_ASIDE.items()
]


def _output(name: bytes, *keys: bytes) -> Field:
    # Of a requested output the parameters are field 2.
    return text(6, [text(1, name), *(text(2, [text(1, key), text(2, [Field(2, VARINT, 1)])]) for key in keys)])


HIDDEN_CASES += [
    case(f"classification of {said}", write([NAME, TENSOR, *outputs, RAW]), FINE, refused(Reason.CLASSIFICATION))
    for said, outputs in {
        "y": [_output(b"y", b"classification")],
        "z beside other parameters": [_output(b"z", b"a", b"classification", b"b")],
        "y named twice in one output": [text(6, [text(1, b"note"), *_output(b"y", b"classification").payload])],
        "y behind other outputs": [_output(b"note"), _output(b"z"), _output(b"y", b"classification")],
    }.items()
]
HIDDEN_CASES += [
    case(
        f"{name.decode()} in shared memory by {key.decode()}",
        write([NAME, TENSOR, _output(name, key), RAW]),
        FINE,
        refused(Reason.SHARED_MEMORY),
    )
    for name in (b"y", b"z", b"note", b"nothing")
    for key in (b"shared_memory_region", b"shared_memory_offset", b"shared_memory_byte_size")
]
HIDDEN_CASES += [
    case("one more tensor that is x", write([NAME, TENSOR, TENSOR, RAW, RAW]), FINE, refused(Reason.INPUT_DUPLICATE)),
    case(
        "one more tensor that is x by its last name",
        write([NAME, TENSOR, text(5, [text(1, b"w"), FP32, SHAPE, X]), RAW, RAW]),
        FINE,
        refused(Reason.INPUT_DUPLICATE),
    ),
    case(
        "the last model name is another",
        write([NAME, TENSOR, RAW, text(1, b"other")]),
        FINE,
        refused(Reason.MODEL_NOT_GUARDED),
    ),
    case(
        "the last model name is empty",
        write([NAME, TENSOR, RAW, text(1, b"")]),
        FINE,
        refused(Reason.MODEL_NOT_GUARDED),
    ),
    case(
        "the last shape appended",
        write([NAME, text(5, [X, FP32, SHAPE, SHAPE]), RAW]),
        FINE,
        refused(Reason.INPUT_SHAPE),
    ),
    case(
        "a negative row as ten bytes",
        write([NAME, text(5, [X, FP32, text(3, varint(2**64 - 1) + b"\x02")]), RAW]),
        FINE,
        refused(Reason.INPUT_SHAPE),
    ),
]

GOOD = write([NAME, TENSOR, RAW])
_BROKEN = {
    "cut in a tag": GOOD + b"\xfa",
    "cut in a length": GOOD + b"\x0a\x80",
    "cut in a text": GOOD + b"\x0a\x05abc",
    "cut in a number": GOOD + b"\xa8\x06\x80",
    "cut in fixed 32": GOOD + b"\xad\x06abc",
    "cut in fixed 64": GOOD + b"\xa9\x06abcdefg",
    "cut in a group": GOOD + b"\xfb\x3f\x08\x01",
    "with a field number 0": GOOD + b"\x00\x00",
    "with wire type 6": GOOD + b"\x0e\x00",
    "with wire type 7": GOOD + b"\x0f\x00",
    "with the end of a group that has no start": GOOD + b"\xfc\x3f",
    "with a group that another one ends": GOOD + b"\xfb\x3f\xf4\x3f",
    "with a length of eleven bytes": GOOD + b"\x0a" + b"\x80" * 10 + b"\x01",
    "with a number of eleven bytes": GOOD + b"\xa8\x06" + b"\x80" * 10 + b"\x01",
    "with a length of 2 GiB": GOOD + b"\x0a\x80\x80\x80\x80\x08",
    "with a length beyond 64 bits": GOOD + b"\x0a" + b"\xff" * 9 + b"\x01",
    "with groups nested 200 deep": GOOD + b"\xfb\x3f" * 200 + b"\xfc\x3f" * 200,
    "with a tensor that is none": write([NAME, text(5, b"\xff\xff"), RAW]),
    "with contents that are none": write([NAME, text(5, [X, FP32, SHAPE, text(5, b"\x32\xff")]), RAW]),
    "with a torn packed shape": write([NAME, text(5, [X, FP32, text(3, b"\x01\x80")]), RAW]),
    "with torn packed floats": write([NAME, text(5, [X, FP32, SHAPE, text(5, [text(6, b"\0" * 7)])])]),
}
BROKEN_CASES = [
    case(f"a request {how}", content, FINE, refused(Reason.MALFORMED_REQUEST)) for how, content in _BROKEN.items()
]
_TEXTS = {
    "the model version": [NAME, text(2, b"\xff"), TENSOR, RAW],
    "the id": [NAME, text(3, b"\xed\xa0\x80"), TENSOR, RAW],
    "a tensor's name": [NAME, text(5, [text(1, b"x\xc3"), FP32, SHAPE]), RAW],
    "a datatype": [NAME, text(5, [X, text(2, b"\x80"), SHAPE]), RAW],
    "a parameter's key": [NAME, _parameter(Field(1, VARINT, 1), key=b"\xfe"), TENSOR, RAW],
    "a parameter's text": [NAME, _parameter(text(3, b"\xc0\x80")), TENSOR, RAW],
    "a requested output's name": [NAME, TENSOR, text(6, [text(1, b"\xf8")]), RAW],
}
BROKEN_CASES += [
    case(f"{what} is no UTF-8", write(fields), FINE, refused(Reason.MALFORMED_REQUEST))
    for what, fields in _TEXTS.items()
]

HIGH_Y, NOTE, HIGH_Z = (text(6, content) for content in HIGH.raw_output_contents)
Y, HINT, Z = (text(5, tensor.SerializeToString()) for tensor in HIGH.outputs)
FP32_SHAPE = [text(2, b"FP32"), text(3, b"\x01\x03")]
_ANSWERS = {
    # All of these answer y = (3, 2, 1) and z = 0.
    "with the raw contents first": [HIGH_Y, NOTE, HIGH_Z, Y, HINT, Z],
    "with raw contents between the outputs": [Y, HIGH_Y, HINT, NOTE, Z, HIGH_Z],
    "with the model name twice": [text(1, b"a"), Y, HINT, Z, HIGH_Y, NOTE, HIGH_Z, text(1, b"b")],
    "with unknown fields between": [
        _UNKNOWN["group"],
        Y,
        _UNKNOWN["text"],
        HINT,
        Z,
        HIGH_Y,
        _UNKNOWN["number"],
        NOTE,
        HIGH_Z,
    ],
    "with an output's name twice": [
        text(5, [text(1, b"w"), *FP32_SHAPE, text(1, b"y")]),
        HINT,
        Z,
        HIGH_Y,
        NOTE,
        HIGH_Z,
    ],
    "with its shape unpacked": [
        text(5, [text(1, b"y"), text(2, b"FP32"), Field(3, VARINT, 1), Field(3, VARINT, 3)]),
        *(HINT, Z, HIGH_Y, NOTE, HIGH_Z),
    ],
    "with padded lengths": [Y, HINT, Z, text(6, HIGH_Y.payload, 1), NOTE, HIGH_Z],
    "with empty contents beside raw ones": [
        text(5, [text(1, b"y"), *FP32_SHAPE, text(5, [])]),
        *(HINT, Z, HIGH_Y, NOTE, HIGH_Z),
    ],
    "with raw contents as a number before them": [Field(6, VARINT, 1), Y, HINT, Z, HIGH_Y, NOTE, HIGH_Z],
    "with an output as a group before them": [Field(5, GROUP, []), Y, HINT, Z, HIGH_Y, NOTE, HIGH_Z],
    "with one parameter twice": [
        _parameter(text(3, b"a")),
        _parameter(Field(1, VARINT, 1)),
        Y,
        HINT,
        Z,
        HIGH_Y,
        NOTE,
        HIGH_Z,
    ],
}


def _with_z_of_two(fields: list[Field]) -> list[Field]:
    return [text(6, b"\0" * 7 + b"\x40") if field is HIGH_Z else field for field in fields]


ANSWER_CASES = [
    case(f"an answer {how}", request([0.75, 0]), write(fields), LOWERED) for how, fields in _ANSWERS.items()
]
ANSWER_CASES += [
    case(f"an answer {how} to a row that it suits", request([8.25, 0]), write(_with_z_of_two(fields)), UNTOUCHED)
    for how, fields in _ANSWERS.items()
]
WHOLE = FINE.SerializeToString()
_BROKEN_ANSWERS = {
    "cut in a tag": WHOLE + b"\xfa",
    "cut in a length": WHOLE + b"\x0a\x80",
    "cut in a text": WHOLE + b"\x0a\x05abc",
    "cut in a group": WHOLE + b"\xfb\x3f\x08\x01",
    "with wire type 7": WHOLE + b"\x0f\x00",
    "with the end of a group that has no start": WHOLE + b"\xfc\x3f",
    "with a length of 2 GiB": WHOLE + b"\x0a\x80\x80\x80\x80\x08",
    "with groups nested 200 deep": WHOLE + b"\xfb\x3f" * 200 + b"\xfc\x3f" * 200,
    "with a model name that is no UTF-8": WHOLE + b"\x0a\x01\xff",
    "with an output that is none": WHOLE + b"\x2a\x02\xff\xff",
}
ANSWER_CASES += [
    case(f"an answer {how}", request([0.75, 0]), content, failed(Reason.UPSTREAM_MALFORMED))
    for how, content in _BROKEN_ANSWERS.items()
]

WIRE_CASES = [*SAME_CASES, *UNKNOWN_CASES, *MAP_CASES, *HIDDEN_CASES, *BROKEN_CASES, *ANSWER_CASES]
