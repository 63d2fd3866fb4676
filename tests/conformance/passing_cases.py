"""Cases about what is none of the gates' business and passes: ids, versions, parameters, other tensors."""

from collections.abc import Callable

from sidecar.errors import Reason
from tests.conformance.building import OUTSIDE, UNTOUCHED, case, projected, refused
from tests.conformance.guarded_model import request, response

FINE = response([[0.5, 0, 0]])
HIGH = response([[3, 2, 1]])

_KINDS: dict[str, tuple[str, object]] = {
    "true": ("bool_param", True),
    "false": ("bool_param", False),
    "zero": ("int64_param", 0),
    "the smallest integer": ("int64_param", -(2**63)),
    "a text": ("string_param", "caf\u00e9"),
    "an empty text": ("string_param", ""),
    "a double": ("double_param", 0.1),
    "NaN": ("double_param", float("nan")),
    "the largest unsigned integer": ("uint64_param", 2**64 - 1),
}
_HOLDERS: dict[str, Callable] = {
    "request": lambda message: message,
    "input": lambda message: message.inputs[0],
    "requested output": lambda message: message.outputs[0],
}


def _with(place: str, key: str, kind: str, value: object, x=(0.75, 0)):
    message = request(x)
    if place == "requested output":
        message.outputs.add(name="y")
        message.outputs.add(name="z")
    setattr(_HOLDERS[place](message).parameters[key], kind, value)
    return message


PARAMETER_CASES = [
    case(f"{name} as a parameter of the {place}", _with(place, "anything", kind, value), FINE, UNTOUCHED)
    for place in _HOLDERS
    for name, (kind, value) in _KINDS.items()
]
_SEQUENCES = {
    "by number": ("int64_param", 7),
    "by a large number": ("uint64_param", 2**63),
    "by text": ("string_param", "seven"),
}
_FLAGS = {
    "start": ("sequence_start",),
    "middle": (),
    "end": ("sequence_end",),
    "both": ("sequence_start", "sequence_end"),
}


def _in_sequence(kind: str, value: object, flags: tuple[str, ...]):
    message = request([0.75, 0])
    setattr(message.parameters["sequence_id"], kind, value)
    for flag in flags:
        message.parameters[flag].bool_param = True
    return message


SEQUENCE_CASES = [
    case(f"a sequence named {how}, {where}", _in_sequence(kind, value, flags), answer, expected)
    for how, (kind, value) in _SEQUENCES.items()
    for where, flags in _FLAGS.items()
    for answer, expected in ([(FINE, UNTOUCHED)] if where != "end" else [(HIGH, projected(1, 2, 1))])
]


def _answer(**fields):
    answered = response([[3, 2, 1]])
    for name, value in fields.items():
        setattr(answered, name, value)
    return answered


ID_CASES = [
    case(f"an id that is {what}", request([0.75, 0], id=text), _answer(id=text), projected(1, 2, 1))
    for what, text in {
        "empty": "",
        "one character": "7",
        "no ASCII": "\u00fc\u4e2d\U0001f600",
        "long": "x" * 10_000,
        "like a decision id": f"{'0' * 32}/1",
        "of control characters": "\0\r\n\t",
    }.items()
]
VERSION_CASES = [
    case(f"a model version that is {what}", request([0.75, 0], model_version=text), HIGH, projected(1, 2, 1))
    for what, text in {"the first": "1", "another": "2", "no number": "latest", "long": "9" * 1000}.items()
]
NAME_CASES = [
    case(f"a model name {what}", request([0.75, 0], model_name=name), FINE, refused(Reason.MODEL_NOT_GUARDED))
    for what, name in {
        "with a space behind": "guarded ",
        "with a zero byte behind": "guarded\0",
        "with another letter that looks like it": "gu\u0430rded",
        "with a version": "guarded/1",
        "that is empty": "",
        "that is long": "g" * 100_000,
        "with line breaks": "guarded\n\n\x1b[31m",
    }.items()
]


def _beside(*names: str, first: bool = False):
    message = request([0.75, 0])
    for name in names:
        tensor = message.inputs.add(name=name, datatype="BYTES", shape=[1])
        tensor.parameters["content_type"].string_param = "str"
        message.raw_input_contents.append(b"\x02\0\0\0hi")
    if first:
        message.inputs.reverse()
        message.raw_input_contents[:] = message.raw_input_contents[::-1]
    return message


def _answer_with(*tensors: tuple[str, str, list[int], bytes]):
    answered = response([[3, 2, 1]])
    for name, datatype, shape, content in tensors:
        answered.outputs.add(name=name, datatype=datatype, shape=shape)
        answered.raw_output_contents.append(content)
    return answered


BESIDE_CASES = [
    case("two ungated inputs behind the gated one", _beside("hint", "more"), HIGH, projected(1, 2, 1)),
    case("two ungated inputs before the gated one", _beside("hint", "more", first=True), HIGH, projected(1, 2, 1)),
    case("an ungated input with a gated output's name", _beside("y"), HIGH, projected(1, 2, 1)),
    case("an ungated input twice", _beside("hint", "hint"), HIGH, projected(1, 2, 1)),
    case("an ungated input without a name", _beside(""), HIGH, projected(1, 2, 1)),
    case(
        "ungated outputs of datatypes that are no numbers",
        request([0.75, 0]),
        _answer_with(("words", "BYTES", [2], b"\0\0\0\0" * 2), ("other", "JSON", [1], b"{}")),
        projected(1, 2, 1),
    ),
    case(
        "an ungated output with an empty slot",
        request([0.75, 0]),
        _answer_with(("gone", "FP32", [4], b"")),
        projected(1, 2, 1),
    ),
    case(
        "an ungated output with a wrong length",
        request([0.75, 0]),
        _answer_with(("odd", "FP32", [4], b"abc")),
        projected(1, 2, 1),
    ),
    case(
        "an ungated output of no elements",
        request([0.75, 0]),
        _answer_with(("none", "INT64", [0], b"")),
        projected(1, 2, 1),
    ),
    case(
        "an ungated output of 1 MiB",
        request([0.75, 0]),
        _answer_with(("big", "UINT8", [1 << 20], bytes(1 << 20))),
        projected(1, 2, 1),
    ),
]


def _with_parameters(kind: str, value: object):
    answered = response([[3, 2, 1]])
    for holder in (answered, answered.outputs[0], answered.outputs[1]):
        setattr(holder.parameters["p"], kind, value)
    return answered


ANSWER_CASES = [
    case(f"an answer with {what}", request([0.75, 0]), _answer(**fields), projected(1, 2, 1))
    for what, fields in {
        "another model name": {"model_name": "another"},
        "no model name": {"model_name": ""},
        "another version": {"model_version": "77"},
        "no id": {"id": ""},
    }.items()
]
ANSWER_CASES += [
    case(f"{name} as parameters of the answer", request([0.75, 0]), _with_parameters(*chosen), projected(1, 2, 1))
    for name, chosen in _KINDS.items()
]
ANSWER_CASES += [
    case("a row outside with a batch in the answer", request([1.5, 0]), response([[9, 9, 9]] * 3), OUTSIDE),
    case("a row outside with an empty answer", request([1.5, 0]), b"", OUTSIDE),
]

PASSING_CASES = [
    *PARAMETER_CASES,
    *SEQUENCE_CASES,
    *ID_CASES,
    *VERSION_CASES,
    *NAME_CASES,
    *BESIDE_CASES,
    *ANSWER_CASES,
]
