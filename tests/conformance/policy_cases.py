"""What the policies of models do, as data: the settings of a model, a request, and how the upstream answers.

Rows are those of :mod:`tests.conformance.guarded_model`: x0 in 2..3 has a fallback, in 0..1 and 4..5 there is none.
"""

import dataclasses

import grpc

from sidecar.config import FailureMode, ModelPolicy, OnUpstreamFailure, Outside, Probing, Unguarded
from sidecar.errors import Reason
from sidecar.gates.values import Mode
from sidecar.proxy.upstream import UpstreamFailure
from tests.conformance.cases import Error, VeryBytes, edited
from tests.conformance.guarded_model import raw, request, response, typed_response

OPEN = ModelPolicy(failure_mode=FailureMode.OPEN)
FALLBACK = ModelPolicy(on_upstream_failure=OnUpstreamFailure.FALLBACK)
BOTH = ModelPolicy(failure_mode=FailureMode.OPEN, on_upstream_failure=OnUpstreamFailure.FALLBACK)
CLOSED = ModelPolicy()

DOWN = UpstreamFailure(Reason.UPSTREAM_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "connection refused", answered=False)
SLOW = UpstreamFailure(Reason.UPSTREAM_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED, "too late", answered=False)


def told(code: grpc.StatusCode) -> UpstreamFailure:
    """An error of the upstream's own."""
    return UpstreamFailure(Reason.UPSTREAM_ERROR, code, "its own words", answered=True)


@dataclasses.dataclass(frozen=True)
class FellBack:
    """The client gets the fallback for this many rows, in these outputs."""

    reason: Reason
    rows: int = 1
    outputs: tuple[str, ...] = ("y", "z")


@dataclasses.dataclass(frozen=True)
class Passed:
    """The client gets the upstream's bytes, unjudged, for this reason where there is one."""

    outcome: str
    reason: Reason | None = None


@dataclasses.dataclass(frozen=True)
class PolicyCase:
    """``has_status``: the case hangs on the status of the upstream's error, which a stream does not have."""

    name: str
    request: bytes
    answer: bytes | UpstreamFailure
    expected: FellBack | Passed | VeryBytes | Error
    policy: ModelPolicy = CLOSED
    unguarded: Unguarded = Unguarded.DENY
    mode: Mode | None = None
    awaited: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    open_models: frozenset[str] = frozenset()
    has_status: bool = False


def _case(name: str, asked, answer, expected, **more) -> PolicyCase:
    as_bytes = [m if isinstance(m, bytes | UpstreamFailure) else m.SerializeToString() for m in (asked, answer)]
    return PolicyCase(name.replace(" ", "-"), *as_bytes, expected, **more)


def _asking(*names: str, x=(2.5, 0)):
    message = request(x)
    for name in names:
        message.outputs.add(name=name)
    return message


def _without(name: str, y, z=None) -> bytes:
    return edited(
        response(y, z),
        lambda m: setattr(next(tensor for tensor in m.outputs if tensor.name == name), "name", "w"),
    )


HAS_FALLBACK, NO_FALLBACK = request([2.5, 0]), request([0.75, 0])
VIOLATING = response([[0, 1, 0]])

FALLBACK_CASES = [
    _case("down", HAS_FALLBACK, DOWN, FellBack(Reason.UPSTREAM_UNAVAILABLE), policy=FALLBACK),
    _case("slow", HAS_FALLBACK, SLOW, FellBack(Reason.UPSTREAM_DEADLINE), policy=FALLBACK),
    _case("down without the setting", HAS_FALLBACK, DOWN, Error(Reason.UPSTREAM_UNAVAILABLE, True)),
    *(
        _case(
            f"an error {code.name} is a failure",
            HAS_FALLBACK,
            told(code),
            FellBack(Reason.UPSTREAM_ERROR),
            policy=FALLBACK,
        )
        for code in (
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.DATA_LOSS,
        )
    ),
    *(
        _case(
            f"an error {code.name} is the caller's",
            HAS_FALLBACK,
            told(code),
            Error(Reason.UPSTREAM_ERROR, True),
            policy=FALLBACK,
            has_status=True,
        )
        for code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.ALREADY_EXISTS,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.OUT_OF_RANGE,
        )
    ),
    _case(
        "an output missing",
        HAS_FALLBACK,
        _without("z", [[1, 0, 0]]),
        FellBack(Reason.UPSTREAM_OUTPUT_MISSING),
        policy=FALLBACK,
    ),
    _case(
        "an output twice",
        HAS_FALLBACK,
        edited(response([[1, 0, 0]]), lambda m: setattr(m.outputs[1], "name", "y")),
        FellBack(Reason.UPSTREAM_MALFORMED),
        policy=FALLBACK,
    ),
    _case(
        "the caller's mistake",
        edited(request([2.5, 0]), lambda m: m.inputs[0].shape.append(2)),
        DOWN,
        Error(Reason.INPUT_SHAPE),
        policy=FALLBACK,
    ),
    _case("a row without a fallback", NO_FALLBACK, DOWN, Error(Reason.UPSTREAM_UNAVAILABLE, True), policy=FALLBACK),
    _case("a row outside", request([1.5, 0]), DOWN, Error(Reason.UPSTREAM_UNAVAILABLE, True), policy=FALLBACK),
    _case(
        "one row of two outside",
        request([[2.5, 0], [1.5, 0]]),
        DOWN,
        Error(Reason.UPSTREAM_UNAVAILABLE, True),
        policy=FALLBACK,
    ),
    _case(
        "a batch", request([[2.5, 0], [2, 1], [3, 2]]), DOWN, FellBack(Reason.UPSTREAM_UNAVAILABLE, 3), policy=FALLBACK
    ),
    _case("one output", _asking("z"), DOWN, FellBack(Reason.UPSTREAM_UNAVAILABLE, 1, ("z",)), policy=FALLBACK),
    _case("both outputs", _asking("z", "y"), DOWN, FellBack(Reason.UPSTREAM_UNAVAILABLE), policy=FALLBACK),
    _case("an unguarded output", _asking("y", "note"), DOWN, Error(Reason.UPSTREAM_UNAVAILABLE, True), policy=FALLBACK),
    _case(
        "only shadow properties",
        HAS_FALLBACK,
        DOWN,
        Error(Reason.UPSTREAM_UNAVAILABLE, True),
        policy=FALLBACK,
        mode=Mode.SHADOW,
    ),
    _case("an answer that is fine", HAS_FALLBACK, response([[2, 1, 0]]), VeryBytes("untouched"), policy=FALLBACK),
    _case(
        "what a gate refuses stays refused",
        request([4.5, 0]),
        response([[0, 0, 0]]),
        Error(Reason.GATE_REFUSED, True),
        policy=BOTH,
    ),
]

OPEN_CASES = [
    _case(
        "an output missing, open",
        NO_FALLBACK,
        _without("z", [[0.5, 0, 0]]),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_MISSING),
        policy=OPEN,
    ),
    _case(
        "an output of another datatype, open",
        NO_FALLBACK,
        edited(
            response([[0.5, 0, 0]]),
            lambda m: (
                setattr(m.outputs[0], "datatype", "FP16"),
                m.raw_output_contents.__setitem__(0, raw([1, 0, 0], "<f2")),
            ),
        ),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_DATATYPE),
        policy=OPEN,
    ),
    _case(
        "an output of another shape, open",
        NO_FALLBACK,
        edited(response([[0.5, 0, 0]]), lambda m: m.outputs[0].shape.append(1)),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_SHAPE),
        policy=OPEN,
    ),
    _case(
        "torn contents, open",
        NO_FALLBACK,
        edited(response([[0.5, 0, 0]]), lambda m: m.raw_output_contents.__setitem__(0, raw([0.5]))),
        Error(Reason.UPSTREAM_OUTPUT_CONTENTS, True),
        policy=OPEN,
    ),
    _case(
        "torn contents beside a missing output, open",
        NO_FALLBACK,
        edited(
            response([[0.5, 0, 0]]),
            lambda m: (m.raw_output_contents.__setitem__(0, b"abc"), setattr(m.outputs[2], "name", "w")),
        ),
        Error(Reason.UPSTREAM_OUTPUT_MISSING, True),
        policy=OPEN,
    ),
    _case(
        "contents in two forms, open",
        NO_FALLBACK,
        edited(typed_response([[0.5, 0, 0]]), lambda m: m.outputs[0].contents.int_contents.append(1)),
        Error(Reason.UPSTREAM_OUTPUT_CONTENTS, True),
        policy=OPEN,
    ),
    _case(
        "a violation in another datatype, open",
        NO_FALLBACK,
        edited(
            response([[0.5, 0, 0]]),
            lambda m: (
                setattr(m.outputs[0], "datatype", "FP16"),
                m.raw_output_contents.__setitem__(0, raw([3, 0, 0], "<f2")),
            ),
        ),
        Error(Reason.UPSTREAM_OUTPUT_DATATYPE, True),
        policy=OPEN,
    ),
    *(
        _case(
            f"{what}, open",
            NO_FALLBACK,
            edited(
                response([[0.5, 0, 0]]),
                lambda m, y=y, datatype=datatype, dtype=dtype: (
                    setattr(m.outputs[0], "datatype", datatype),
                    m.raw_output_contents.__setitem__(0, raw(y, dtype)),
                ),
            ),
            expected,
            policy=OPEN,
        )
        for what, y, datatype, dtype, expected in (
            ("whole numbers", [1, 0, 0], "INT32", "<i4", Passed("bypassed", Reason.UPSTREAM_OUTPUT_DATATYPE)),
            ("a violation in whole numbers", [3, 0, 0], "INT32", "<i4", Error(Reason.UPSTREAM_OUTPUT_DATATYPE, True)),
            ("a violation in bytes", [3, 0, 0], "UINT8", "u1", Error(Reason.UPSTREAM_OUTPUT_DATATYPE, True)),
            ("too large a number", [0, 0, 2**60], "INT64", "<i8", Error(Reason.UPSTREAM_OUTPUT_DATATYPE, True)),
        )
    ),
    _case(
        "a violation in another shape, open",
        NO_FALLBACK,
        edited(response([[3, 0, 0]]), lambda m: m.outputs[0].shape.append(1)),
        Error(Reason.UPSTREAM_OUTPUT_SHAPE, True),
        policy=OPEN,
    ),
    _case(
        "another number of rows, open",
        NO_FALLBACK,
        response([[0.5, 0, 0], [0.5, 0, 0]]),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_SHAPE),
        policy=OPEN,
    ),
    _case(
        "a datatype that is no number, open",
        NO_FALLBACK,
        edited(response([[0.5, 0, 0]]), lambda m: setattr(m.outputs[0], "datatype", "BYTES")),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_DATATYPE),
        policy=OPEN,
    ),
    _case(
        "a hundred dimensions, open",
        NO_FALLBACK,
        edited(response([[3, 0, 0]]), lambda m: m.outputs[0].shape.extend([1] * 100)),
        Passed("bypassed", Reason.UPSTREAM_OUTPUT_SHAPE),
        policy=OPEN,
    ),
    _case(
        "a violation that can be seen, open",
        NO_FALLBACK,
        _without("z", [[3, 0, 0]]),
        Error(Reason.UPSTREAM_OUTPUT_MISSING, True),
        policy=OPEN,
    ),
    _case(
        "NaN that can be seen, open",
        NO_FALLBACK,
        _without("z", [[float("nan"), 0, 0]]),
        Error(Reason.UPSTREAM_OUTPUT_MISSING, True),
        policy=OPEN,
    ),
    _case(
        "an answer that two readers read differently, open",
        NO_FALLBACK,
        edited(response([[0.5, 0, 0]]), lambda m: setattr(m.outputs[1], "name", "y")),
        Error(Reason.UPSTREAM_MALFORMED, True),
        policy=OPEN,
    ),
    _case("down, open", NO_FALLBACK, DOWN, Error(Reason.UPSTREAM_UNAVAILABLE, True), policy=OPEN),
    _case(
        "a malformed request, open",
        edited(request([0.75, 0]), lambda m: setattr(m.inputs[0], "datatype", "FP64")),
        response([[0.5, 0, 0]]),
        Error(Reason.INPUT_DATATYPE),
        policy=OPEN,
    ),
    _case(
        "a gate refuses, open", request([4.5, 0]), response([[0, 0, 0]]), Error(Reason.GATE_REFUSED, True), policy=OPEN
    ),
    _case(
        "no correction for NaN, open",
        NO_FALLBACK,
        response([[float("nan"), 0, 0]]),
        Error(Reason.OUTPUT_NOT_FINITE, True),
        policy=OPEN,
    ),
    _case(
        "the fallback comes first",
        HAS_FALLBACK,
        _without("z", [[1, 0, 0]]),
        FellBack(Reason.UPSTREAM_OUTPUT_MISSING),
        policy=BOTH,
    ),
    _case(
        "an awaited bundle, open",
        request([0.75, 0], model_name="later"),
        VIOLATING,
        Passed("bypassed", Reason.NOT_READY),
        awaited=("later.gates",),
        open_models=frozenset({"later"}),
    ),
    _case(
        "a bad bundle, open",
        request([0.75, 0], model_name="later"),
        VIOLATING,
        Passed("bypassed", Reason.NOT_READY),
        failing=("later.gates",),
        open_models=frozenset({"later"}),
    ),
    _case(
        "an awaited bundle, another model open",
        request([0.75, 0], model_name="other"),
        VIOLATING,
        Error(Reason.NOT_READY),
        awaited=("later.gates",),
        open_models=frozenset({"later"}),
    ),
    _case(
        "open and no bundle anywhere",
        request([0.75, 0], model_name="later"),
        VIOLATING,
        Error(Reason.MODEL_NOT_GUARDED),
        open_models=frozenset({"later"}),
    ),
]


def _named(name: str) -> bytes:
    return request([0.75, 0], model_name=name).SerializeToString()


PASS = {"unguarded": Unguarded.PASS}
UNGUARDED_CASES = [
    _case("an unguarded model", _named("other"), VIOLATING, Passed("unguarded"), **PASS),
    _case("an unguarded model is denied", _named("other"), VIOLATING, Error(Reason.MODEL_NOT_GUARDED)),
    _case("no name", _named(""), VIOLATING, Error(Reason.MODEL_NOT_GUARDED), **PASS),
    *(
        _case(f"the name {name!r}", _named(name), VIOLATING, Error(Reason.MODEL_NOT_GUARDED), **PASS)
        for name in (
            "Guarded",
            "GUARDED",
            "guarded ",
            " guarded",
            "guarded\n",
            "guarded\0",
            "./guarded",
            "guarded/1",
            "guarded\u200b",
            "gu\N{CYRILLIC SMALL LETTER A}rded",
            "\N{FULLWIDTH LATIN SMALL LETTER G}uarded",
            "..",
            "o" * 201,
        )
    ),
    _case(
        "the last name counts, and it is guarded",
        _named("other") + b"\x0a\x07guarded",
        response([[0.5, 0, 0]]),
        VeryBytes("untouched"),
        **PASS,
    ),
    _case(
        "the last name counts, and it is not guarded",
        _named("guarded") + b"\x0a\x05other",
        VIOLATING,
        Passed("unguarded"),
        **PASS,
    ),
    _case("a bundle is awaited", _named("other"), VIOLATING, Error(Reason.NOT_READY), awaited=("a.gates",), **PASS),
    _case("a bundle is bad", _named("other"), VIOLATING, Error(Reason.NOT_READY), failing=("a.gates",), **PASS),
    _case(
        "a large message of small pieces",
        edited(
            request([0.75, 0], model_name="other"),
            lambda m: [m.parameters[str(n)].SetInParent() for n in range(40_000)],
        ),
        VIOLATING,
        Error(Reason.MALFORMED_REQUEST),
        **PASS,
    ),
]

OUTSIDE_CASES = [
    _case(
        "a row outside",
        request([1.5, 0]),
        VIOLATING,
        Error(Reason.OUTSIDE_DOMAIN),
        policy=ModelPolicy(outside=Outside.REFUSE),
    ),
    _case(
        "a row outside in shadow mode",
        request([1.5, 0]),
        VIOLATING,
        Error(Reason.OUTSIDE_DOMAIN),
        policy=ModelPolicy(outside=Outside.REFUSE),
        mode=Mode.SHADOW,
    ),
    _case(
        "a row outside, open and with fallbacks",
        request([[2.5, 0], [1.5, 0]]),
        VIOLATING,
        Error(Reason.OUTSIDE_DOMAIN),
        policy=dataclasses.replace(BOTH, outside=Outside.REFUSE),
    ),
]

NOT_MATCHED = dataclasses.replace(BOTH, probe=Probing.REQUIRED)
PROBE_CASES = [
    _case("not matched", NO_FALLBACK, response([[0.5, 0, 0]]), Error(Reason.UPSTREAM_UNMATCHED), policy=NOT_MATCHED),
    _case("not matched, with a fallback", HAS_FALLBACK, DOWN, Error(Reason.UPSTREAM_UNMATCHED), policy=NOT_MATCHED),
    _case(
        "not matched, in shadow mode",
        NO_FALLBACK,
        VIOLATING,
        Error(Reason.UPSTREAM_UNMATCHED),
        policy=NOT_MATCHED,
        mode=Mode.SHADOW,
    ),
    _case("another model", _named("other"), VIOLATING, Passed("unguarded"), policy=NOT_MATCHED, **PASS),
]

POLICY_CASES = [
    dataclasses.replace(case, name=f"{kind}/{case.name}")
    for kind, cases in (
        ("fallback", FALLBACK_CASES),
        ("open", OPEN_CASES),
        ("unguarded", UNGUARDED_CASES),
        ("outside", OUTSIDE_CASES),
        ("probe", PROBE_CASES),
    )
    for case in cases
]
