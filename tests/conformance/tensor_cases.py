"""Cases about gated tensors that are not what the model's signature says, on both sides, raw and typed."""

from collections.abc import Callable

from sidecar.errors import Reason
from tests.conformance.building import INFINITY, NAN, case, failed, refused
from tests.conformance.guarded_model import raw, request, response, typed_request, typed_response

FINE = response([[0.5, 0, 0]])

DATATYPES = [
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "BF16",
    "FP64",
    "BYTES",
]
DATATYPES += ["fp32", "FP32 ", "FLOAT", "FP8"]
SHAPES = {
    "none": [],
    "flat": [2],
    "with the axes the other way": [2, 1],
    "of no rows": [0, 2],
    "of a negative number of rows": [-1, 2],
    "of a negative row": [1, -2],
    "of two negative axes": [-1, -2],
    "of an axis too many": [1, 2, 1],
    "of more rows than data": [2, 2],
    "of more rows than are accepted": [9, 2],
    "whose product overflows": [2**62, 4],
    "of the largest number": [2**63 - 1, 2**63 - 1],
    "of the smallest number": [-(2**63), 2],
}
_LATE = ("of more rows than data",)
"""The shape by itself is fine; that the contents do not fit it is seen later."""


def _asked(form: Callable, **fields):
    message = form([0.75, 0])
    for name, value in fields.items():
        if name == "shape":
            message.inputs[0].shape[:] = value
        else:
            setattr(message.inputs[0], name, value)
    return message


FORMS = {"raw": request, "typed": typed_request}
INPUT_CASES = [
    case(
        f"{form} input as {datatype!r}",
        _asked(ask, datatype=datatype),
        FINE,
        refused(Reason.INPUT_DATATYPE),
    )
    for form, ask in FORMS.items()
    for datatype in DATATYPES
]
INPUT_CASES += [
    case(
        f"{form} input with a shape {what}",
        _asked(ask, shape=shape),
        FINE,
        refused(Reason.INPUT_CONTENTS if what in _LATE else Reason.INPUT_SHAPE),
    )
    for form, ask in FORMS.items()
    for what, shape in SHAPES.items()
]


def _with_raw(*contents: bytes):
    message = request([0.75, 0])
    message.raw_input_contents[:] = contents
    return message


def _with_typed(**fields):
    message = typed_request([0.75, 0])
    message.inputs[0].ClearField("contents")
    for name, values in fields.items():
        getattr(message.inputs[0].contents, name).extend(values)
    return message


INPUT_CASES += [
    case(f"{size} raw bytes where 8 belong", _with_raw(b"\0" * size), FINE, refused(Reason.INPUT_CONTENTS))
    for size in (1, 4, 7, 9, 12, 16, 8000)
]
INPUT_CASES += [
    case("raw contents in two pieces", _with_raw(raw([0.75]), raw([0])), FINE, refused(Reason.INPUT_CONTENTS)),
    case("raw contents and an empty piece", _with_raw(raw([0.75, 0]), b""), FINE, refused(Reason.INPUT_CONTENTS)),
]
_TYPED = {
    "fp64_contents": [0.75, 0.0],
    "int_contents": [0, 0],
    "int64_contents": [0, 0],
    "uint_contents": [0, 0],
    "uint64_contents": [0, 0],
    "bool_contents": [True, False],
    "bytes_contents": [b"\0\0\0\0", b"\0\0\0\0"],
}
INPUT_CASES += [
    case(f"FP32 in {field}", _with_typed(**{field: values}), FINE, refused(Reason.INPUT_CONTENTS))
    for field, values in _TYPED.items()
]
INPUT_CASES += [
    case(
        f"FP32 in its field and in {field}",
        _with_typed(fp32_contents=[0.75, 0.0], **{field: values}),
        FINE,
        refused(Reason.INPUT_CONTENTS),
    )
    for field, values in _TYPED.items()
]
INPUT_CASES += [
    case(
        f"{count} typed values where 2 belong",
        _with_typed(fp32_contents=[0.75] * count),
        FINE,
        refused(Reason.INPUT_CONTENTS),
    )
    for count in (0, 1, 3, 4, 1000)
]
INPUT_CASES += [
    case(
        f"{value} at place {place} of a {form} input",
        ask([value, 0.75] if place == 0 else [0.75, value]),
        FINE,
        refused(Reason.INPUT_NOT_FINITE),
    )
    for form, ask in FORMS.items()
    for place in range(2)
    for value in (NAN, INFINITY, -INFINITY)
]
INPUT_CASES += [
    case(
        f"{value} in the last row of a batch",
        request([[1.5, 0]] * 7 + [[1.5, value]]),
        FINE,
        refused(Reason.INPUT_NOT_FINITE),
    )
    for value in (NAN, INFINITY)
]


def _answered(form: Callable, output: int, **fields):
    message = form([[0.5, 0, 0]])
    for name, value in fields.items():
        if name == "shape":
            message.outputs[output].shape[:] = value
        else:
            setattr(message.outputs[output], name, value)
    return message


ANSWERS = {"raw": response, "typed": typed_response}
OUTPUT_SHAPES = {
    "none": [],
    "flat": [3],
    "of no rows": [0, 3],
    "negative": [-1, 3],
    "of an axis too many": [1, 3, 1],
    "of two rows": [2, 3],
}
ANSWER_CASES = [
    case(
        f"a gated output of a {form} answer as {datatype}",
        request([0.75, 0]),
        _answered(form_, output, datatype=datatype),
        failed(Reason.UPSTREAM_OUTPUT_DATATYPE),
    )
    for form, form_ in ANSWERS.items()
    for output, datatype in ((0, "FP64"), (0, "BF16"), (0, "BYTES"), (0, ""), (2, "FP32"), (2, "INT64"), (2, "fp64"))
]
ANSWER_CASES += [
    case(
        f"a gated output of a {form} answer with a shape {what}",
        request([0.75, 0]),
        _answered(form_, 0, shape=shape),
        failed(Reason.UPSTREAM_OUTPUT_SHAPE),
    )
    for form, form_ in ANSWERS.items()
    for what, shape in OUTPUT_SHAPES.items()
]


def _raw_answer(place: int, content: bytes | None):
    message = response([[0.5, 0, 0]])
    if content is None:
        del message.raw_output_contents[place]
    else:
        message.raw_output_contents[place] = content
    return message


ANSWER_CASES += [
    case(
        f"{'no' if content is None else len(content)} raw bytes in slot {place} of an answer",
        request([0.75, 0]),
        _raw_answer(place, content),
        failed(Reason.UPSTREAM_OUTPUT_CONTENTS),
    )
    for place in (0, 2)
    for content in (None, b"", b"\0" * 4, b"\0" * 7, b"\0" * 16)
]
ANSWER_CASES += [
    case(
        f"an answer without output {name}",
        request([0.75, 0]),
        _answered(response, output, name="gone"),
        failed(Reason.UPSTREAM_OUTPUT_MISSING),
    )
    for output, name in ((0, "y"), (2, "z"))
]
ANSWER_CASES += [
    case(
        f"an answer with {name} twice, once in place of output {output}",
        request([0.75, 0]),
        _answered(response, output, name=name),
        failed(Reason.UPSTREAM_MALFORMED),
    )
    for output, name in ((0, "z"), (1, "y"), (1, "z"), (2, "y"))
]
ANSWER_CASES += [
    case(
        f"an answer of {rows} rows to {asked}",
        request([[0.75, 0]] * asked),
        response([[0.5, 0, 0]] * rows),
        failed(Reason.UPSTREAM_OUTPUT_SHAPE),
    )
    for asked, rows in ((1, 2), (2, 1), (8, 7), (7, 8))
]

TENSOR_CASES = [*INPUT_CASES, *ANSWER_CASES]
