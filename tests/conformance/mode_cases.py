"""Cases about modes and about gates that meet: see ``more_models`` for who guards what."""

from sidecar.errors import Reason
from tests.conformance.building import (
    INFINITY,
    NAN,
    OUTSIDE,
    UNJUDGED,
    UNTOUCHED,
    case,
    failed,
    projected,
    refused,
)
from tests.conformance.expectations import Corrected
from tests.conformance.guarded_model import request, response
from tests.conformance.more_models import ASLEEP, PILE, SINGLE, WATCHING


def to(model: str, x, **changes):
    return request(x, model_name=model, **changes)


def from_(model: str, y, z=None):
    answered = response(y, z)
    answered.model_name = model
    return answered


_ILL = {"ceiling": [0.75, 0], "order": [2.5, 0], "never": [4.5, 0], "either": [8.25, 0], "cap": [8.75, 0]}
WATCHED = [
    case(f"{gate} violated in shadow", to(WATCHING, x), from_(WATCHING, [[3, 9, 0]], [0.25]), UNTOUCHED)
    for gate, x in _ILL.items()
]
WATCHED += [
    case(f"{gate} not finite in shadow", to(WATCHING, x), from_(WATCHING, [[NAN, NAN, NAN]], [NAN]), UNTOUCHED)
    for gate, x in _ILL.items()
]
_UNREADABLE = {
    "NaN": to(WATCHING, [NAN, 0]),
    "infinity": to(WATCHING, [0.75, INFINITY]),
    "fewer values than it says": to(WATCHING, [0.75]),
    "more values than a row has": to(WATCHING, [0.75, 0, 0]),
}
WATCHED += [
    case(f"a request with {what} to a model in shadow", asked, from_(WATCHING, [[3, 9, 0]]), UNJUDGED)
    for what, asked in _UNREADABLE.items()
]


def _spoiled(edit):
    answered = from_(WATCHING, [[0.5, 0, 0]])
    edit(answered)
    return answered


WATCHED += [
    case(f"an answer with {what} of a model in shadow", to(WATCHING, [0.75, 0]), answered, UNJUDGED)
    for what, answered in {
        "an output missing": _spoiled(lambda m: setattr(m.outputs[0], "name", "w")),
        "an output of another datatype": _spoiled(lambda m: setattr(m.outputs[0], "datatype", "FP16")),
        "an output of another shape": _spoiled(lambda m: m.outputs[0].shape.append(1)),
        "a torn output": _spoiled(lambda m: m.raw_output_contents.__setitem__(0, b"\0" * 11)),
        "no message": b"\xff\xff",
    }.items()
]
WATCHED += [
    case("bytes that are no message to any model", b"\xff\xff\xff", b"", refused(Reason.MALFORMED_REQUEST)),
    case("outside in shadow", to(WATCHING, [1.5, 0]), from_(WATCHING, [[9, 9, 9]]), OUTSIDE),
]

OFF = [
    case(f"{gate} violated while it is off", to(ASLEEP, x), from_(ASLEEP, [[3, 9, 0]], [0.25]), OUTSIDE)
    for gate, x in _ILL.items()
]
OFF += [case("a request that cannot be judged while all is off", to(ASLEEP, [NAN, 0]), b"\xff\xff", UNJUDGED)]


def _single(x, rows: int | None = None):
    message = to(SINGLE, x)
    message.inputs[0].shape[:] = [2] if rows is None else [rows, 2]
    return message


def _single_answer(y, z=(0.0,)):
    answered = from_(SINGLE, [y], [z])
    answered.outputs[0].shape[:], answered.outputs[2].shape[:] = [3], [1]
    return answered


WITHOUT_BATCH = [
    case("a message that is one row, satisfied", _single([0.75, 0]), _single_answer([1, 0, 0]), UNTOUCHED),
    case("a message that is one row, outside", _single([1.5, 0]), _single_answer([9, 9, 9]), OUTSIDE),
    case(
        "a message that is one row, refused",
        _single([4.5, 0]),
        _single_answer([0, 0, 0]),
        failed(Reason.GATE_REFUSED),
    ),
    case(
        "a batch to a model without one",
        _single([0.75, 0], rows=1),
        _single_answer([1, 0, 0]),
        refused(Reason.INPUT_SHAPE),
    ),
    case(
        "a batch from a model without one",
        _single([0.75, 0]),
        from_(SINGLE, [[1, 0, 0]]),
        failed(Reason.UPSTREAM_OUTPUT_SHAPE),
    ),
    case("a message that is one row, projected", _single([0.75, 0]), _single_answer([3, 2, 1]), Corrected(y=(1, 2, 1))),
]

ZERO = Corrected(y=((0, 0, 0),), z=((0,),))
_MEETING = {
    # x0, y, what becomes of it
    "only the first of three holds the row": (0.875, [3, 9, 9], projected(1, 9, 9)),
    "two of three hold the row and the weaker fires": (0.625, [3, 1, 9], projected(1, 1, 9)),
    "two of three hold the row and the stronger fires": (0.625, [1, 3, 9], ZERO),
    "two of three hold the row and both fire": (0.625, [3, 3, 9], ZERO),
    "three hold the row and the weakest fires": (0.25, [3, 1, 1], projected(1, 1, 1)),
    "three hold the row and the middle one fires": (0.25, [1, 3, 1], ZERO),
    "three hold the row and the strongest fires": (0.25, [1, 1, 3], failed(Reason.GATE_REFUSED)),
    "three hold the row and the weaker two fire": (0.25, [3, 3, 1], ZERO),
    "three hold the row and the weakest and the strongest fire": (0.25, [3, 1, 3], failed(Reason.GATE_REFUSED)),
    "three hold the row and all fire": (0.25, [3, 3, 3], failed(Reason.GATE_REFUSED)),
    "three hold the row and none fires": (0.25, [1, 1, 1], UNTOUCHED),
    "only the shadow fires": (0.25, [0.75, 1, 1], UNTOUCHED),
    # A tensor that a requirement speaks of is required whole.
    "NaN and three hold the row": (0.25, [NAN, 1, 1], failed(Reason.GATE_REFUSED)),
    "NaN and two hold the row": (0.625, [1, NAN, 1], ZERO),
    "NaN where nobody looks and two hold the row": (0.625, [1, 1, NAN], ZERO),
    "NaN and one holds the row": (0.875, [NAN, 3, 1], failed(Reason.OUTPUT_NOT_FINITE)),
}
MEETING = [case(name, to(PILE, [x0, 0]), from_(PILE, [y]), expected) for name, (x0, y, expected) in _MEETING.items()]

_REGIONS = {
    # x, y0, z, what becomes of it
    "inside a cut": ([2.5, 1], 3, 0, projected(1, 0, 0)),
    "on a cut": ([2.5, -0.5], 3, 0, projected(1, 0, 0)),
    "one step outside a cut": ([2.5, -0.50000006], 3, 0, OUTSIDE),
    "in the box and far outside its cut": ([2.5, -9], 3, 0, OUTSIDE),
    "in the first of two boxes": ([4.5, 0], 3, 0, projected(1, 0, 0)),
    "in the second of two boxes": ([6.5, 0], 3, 0, projected(1, 0, 0)),
    "between two boxes": ([5.5, 0], 3, 0, OUTSIDE),
    "a bound that the input moves, held": ([8.5, 2], 2, 0, UNTOUCHED),
    "a bound between two outputs, held": ([8.5, 0], 2, 2, UNTOUCHED),
}
REGIONS = [
    case(name, to(PILE, x), from_(PILE, [[y0, 0, 0]], [z]), expected) for name, (x, y0, z, expected) in _REGIONS.items()
]

MODE_CASES = [*WATCHED, *OFF, *WITHOUT_BATCH, *MEETING, *REGIONS]
