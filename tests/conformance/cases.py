"""What the sidecar must do with a ModelInfer request and the upstream's answer to it, as data.

A case says what the client sends, what the upstream answers, and what the client gets: the very bytes, an
answer with other values, or an error with a reason. Every transport is judged by these.
"""

from collections.abc import Callable

from sidecar.errors import Reason
from sidecar.protocols.generated import open_inference_pb2 as pb
from tests.conformance.expectations import Case, Corrected, Error, VeryBytes
from tests.conformance.gate_cases import GATE_CASES
from tests.conformance.guarded_model import raw, request, response, typed_request, typed_response
from tests.conformance.mode_cases import MODE_CASES
from tests.conformance.output_cases import OUTPUT_CASES
from tests.conformance.passing_cases import PASSING_CASES
from tests.conformance.tensor_cases import TENSOR_CASES
from tests.conformance.typed_cases import TYPED_CASES
from tests.conformance.wire_cases import WIRE_CASES

NAN, INFINITY = float("nan"), float("inf")

UNTOUCHED, OUTSIDE = VeryBytes("untouched"), VeryBytes("outside")
FINE = response([[0.5, 0, 0]])


def edited(message, edit: Callable) -> bytes:
    """The message after an edit, as bytes."""
    edit(message)
    return message.SerializeToString()


def _case(name: str, asked, answered, expected) -> Case:
    as_bytes = [m if isinstance(m, bytes) else m.SerializeToString() for m in (asked, answered)]
    return Case(name.replace(" ", "-"), *as_bytes, expected)


def _refused(name: str, reason: Reason, edit: Callable, message: pb.ModelInferRequest | None = None) -> Case:
    asked = request([0.75, 0]) if message is None else message
    return _case(name, edited(asked, edit), FINE, Error(reason))


def _bad_answer(name: str, reason: Reason, edit: Callable, message: pb.ModelInferResponse | None = None) -> Case:
    answered = response([[0.5, 0, 0]]) if message is None else message
    return _case(name, request([0.75, 0]), edited(answered, edit), Error(reason, forwarded=True))


def _asking_for(*names: str, x=(0.75, 0)) -> pb.ModelInferRequest:
    message = request(x)
    for name in names:
        message.outputs.add(name=name)
    return message


def _answer_with_unknown_fields(y) -> bytes:
    inner = response(y)
    tensor = inner.outputs[0].SerializeToString() + b"\xfa\x3f\x03abc"  # field 1023
    pieces = [b"\xf2\x3f\x01!", b"\x2a" + bytes([len(tensor)]) + tensor]  # field 1022, then output 0
    rest = pb.ModelInferResponse()
    rest.CopyFrom(inner)
    del rest.outputs[0]
    return b"".join(pieces) + rest.SerializeToString() + b"\xfb\x3f\x08\x01\xfc\x3f"  # and an unknown group


def _split_tensor(x) -> bytes:
    """The shape once packed, once not; the typed contents in two pieces: protobuf joins them."""
    head = pb.ModelInferRequest(model_name="guarded").SerializeToString()
    first = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    first.contents.fp32_contents.append(x[0])
    second = pb.ModelInferRequest.InferInputTensor()
    second.contents.fp32_contents.append(x[1])
    tensor = first.SerializeToString() + b"\x18\x02" + second.SerializeToString()
    return head + b"\x2a" + bytes([len(tensor)]) + tensor


def _with_parameters(count: int) -> pb.ModelInferRequest:
    message = request([0.75, 0])
    for number in range(count):
        message.parameters[str(number)].bool_param = True
    return message


def _set(field: str, value) -> Callable:
    return lambda message: setattr(message, field, value)


def _shape(*shape: int, output: int | None = None) -> Callable:
    def edit(message) -> None:
        tensor = message.inputs[0] if output is None else message.outputs[output]
        tensor.shape[:] = shape

    return edit


def _input(**fields) -> Callable:
    def edit(message) -> None:
        for name, value in fields.items():
            setattr(message.inputs[0], name, value)

    return edit


def _contents(content: bytes) -> Callable:
    return lambda message: message.raw_input_contents.__setitem__(0, content)


def _parameter(of: Callable, key: str) -> Callable:
    return lambda message: setattr(of(message).parameters[key], "string_param", "region")


def _output(index: int, **fields) -> Callable:
    def edit(message) -> None:
        for name, value in fields.items():
            setattr(message.outputs[index], name, value)

    return edit


def _raw_output(index: int, content: bytes) -> Callable:
    return lambda message: message.raw_output_contents.__setitem__(index, content)


UNTOUCHED_CASES = [
    _case("a row outside every domain", request([1.5, 0]), response([[9, 9, 9]]), OUTSIDE),
    _case("a row outside whose answer cannot be read", request([1.5, 0]), b"\xff\xff", OUTSIDE),
    _case("a row outside with a NaN answer", request([1.5, 0]), response([[NAN, 0, 0]]), OUTSIDE),
    _case("just below a domain", request([-1.401298464324817e-45, 0]), response([[9, 0, 0]]), OUTSIDE),
    _case("a property that is off", request([6.5, 0]), response([[9, 0, 0]]), OUTSIDE),
    _case("a satisfied row", request([0.75, 0]), FINE, UNTOUCHED),
    _case("a tie of a closed literal satisfies", request([0.75, 0]), response([[1, 0, 0]]), UNTOUCHED),
    _case("an ordering tie satisfies", request([2.5, 0]), response([[0.25, 0.25, 0]]), UNTOUCHED),
    _case("a shadow property violated", request([0.75, 0]), response([[0.5, 6, 0]]), UNTOUCHED),
    _case("typed contents in, raw out", typed_request([0.75, 0]), FINE, UNTOUCHED),
    _case("typed contents both ways", typed_request([0.75, 0]), typed_response([[0.5, 0, 0]]), UNTOUCHED),
    _case("a satisfied batch", request([[0.25, 0], [0.75, 1]]), response([[0.5, 0, 0], [1, 1, 1]]), UNTOUCHED),
    _case("unknown response fields", request([0.75, 0]), _answer_with_unknown_fields([[0.5, 0, 0]]), UNTOUCHED),
    _case("NaN in an output no requirement mentions", request([0.75, 0]), response([[0.5, 0, 0]], [NAN]), UNTOUCHED),
    _case(
        "infinity in an output no requirement mentions",
        request([8.25, 0]),
        response([[INFINITY, 0, 0]], [2]),
        UNTOUCHED,
    ),
    _case("the second disjunct holds", request([8.25, 0]), response([[0, 0, 0]], [-7]), UNTOUCHED),
    _case("only one of two overlapping domains", request([8.25, 0]), response([[0, 0, 0]], [7]), UNTOUCHED),
    _case(
        "sequence parameters pass",
        edited(
            request([0.75, 0]),
            lambda m: (
                setattr(m.parameters["sequence_id"], "int64_param", 7),
                setattr(m.parameters["sequence_start"], "bool_param", True),
            ),
        ),
        FINE,
        UNTOUCHED,
    ),
    _case("unknown request fields pass", request([0.75, 0]).SerializeToString() + b"\xf2\x3f\x01!", FINE, UNTOUCHED),
    _case("contents split as protobuf joins them", _split_tensor([0.75, 0]), FINE, UNTOUCHED),
    _case(
        "the last model name counts",
        request([0.75, 0], model_name="other").SerializeToString() + b"\x0a\x07guarded",
        FINE,
        UNTOUCHED,
    ),
    _case(
        "another tensor besides the gated ones",
        edited(
            request([0.75, 0]),
            lambda m: (
                m.inputs.add(name="hint", datatype="BYTES", shape=[1]),
                m.raw_input_contents.append(b"\0\0\0\0"),
            ),
        ),
        FINE,
        UNTOUCHED,
    ),
    _case(
        "classification of an ungated output",
        edited(_asking_for("y", "z", "note"), _parameter(lambda m: m.outputs[2], "classification")),
        FINE,
        UNTOUCHED,
    ),
    _case("all gated outputs asked for", _asking_for("z", "y"), FINE, UNTOUCHED),
    _case("one gated output asked for", _asking_for("z"), FINE, VeryBytes("untouched", without=("y",))),
    _case("only an ungated output asked for", _asking_for("note"), FINE, VeryBytes("untouched", without=("y", "z"))),
    _case(
        "a subset asked for, typed answer",
        _asking_for("note"),
        typed_response([[0.5, 0, 0]]),
        VeryBytes("untouched", without=("y", "z")),
    ),
    _case("a subset asked for outside", _asking_for("y", x=(1.5, 0)), FINE, OUTSIDE),
]

CORRECTED_CASES = [
    _case("projected onto a ceiling", request([0.75, 0]), response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))),
    _case("projected, typed answer", request([0.75, 0]), typed_response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))),
    _case(
        "projected, unknown fields survive",
        request([0.75, 0]),
        _answer_with_unknown_fields([[3, 2, 1]]),
        Corrected(y=((1, 2, 1),)),
    ),
    _case("on a domain's upper corner", request([1, 10]), response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))),
    _case("negative zero is zero", request([-0.0, 0]), response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))),
    _case(
        "only the violating row of a batch",
        request([[0.75, 0], [1.5, 0], [0.75, 1]]),
        response([[3, 0, 0], [3, 0, 0], [0.5, 9, 0]]),
        Corrected(y=((1, 0, 0), (3, 0, 0), (0.5, 9, 0))),
    ),
    _case(
        "a NaN row outside beside a corrected one",
        request([[0.75, 0], [1.5, 0]]),
        response([[3, 0, 0], [NAN, 0, INFINITY]]),
        Corrected(y=((1, 0, 0), (NAN, 0, INFINITY))),
    ),
    _case("a fallback", request([2.5, 0]), response([[0, 1, 0]], [7]), Corrected(y=((1, 0, 0),), z=((0,),))),
    _case("a fallback for NaN", request([2.5, 0]), response([[NAN, 1, 0]], [7]), Corrected(y=((1, 0, 0),), z=((0,),))),
    _case("the nearer disjunct", request([8.25, 0]), response([[0, 0, 0]], [-0.25]), Corrected(z=((-1,),))),
    _case("two properties jointly", request([8.75, 0]), response([[0, 0, 0]], [7]), Corrected(z=((3,),))),
    _case("two properties, one violated", request([8.75, 0]), response([[0, 0, 0]], [0.5]), Corrected(z=((1,),))),
    _case(
        "an FP64 output keeps its datatype",
        request([8.25, 0]),
        typed_response([[0, 0, 0]], [0.1]),
        Corrected(z=((1,),)),
    ),
    _case(
        "one float above a closed bound",
        request([0.75, 0]),
        response([[1.0000001192092896, 0, 0]]),
        Corrected(y=((1, 0, 0),)),
    ),
    _case(
        "outputs in another order",
        request([0.75, 0]),
        edited(
            response([[3, 2, 1]]),
            lambda m: (
                m.outputs.reverse(),
                m.raw_output_contents.__setitem__(slice(None), m.raw_output_contents[::-1]),
            ),
        ),
        Corrected(y=((1, 2, 1),)),
    ),
    _case(
        "empty typed contents beside raw ones are corrected in the raw ones",
        request([0.75, 0]),
        edited(response([[3, 2, 1]]), lambda m: [tensor.contents.SetInParent() for tensor in m.outputs]),
        Corrected(y=((1, 2, 1),)),
    ),
    _case(
        "a shadow violation beside an enforced one",
        request([0.75, 0]),
        response([[3, 9, 1]]),
        Corrected(y=((1, 9, 1),)),
    ),
    _case(
        "split contents are judged joined", _split_tensor([0.75, 0]), response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))
    ),
    _case("a breach is corrected too", request([0.25, 0]), response([[3, 2, 1]]), Corrected(y=((1, 2, 1),))),
]

GATE_REFUSES_CASES = [
    _case("a gate refuses", request([4.5, 0]), response([[0, 0, 0]]), Error(Reason.GATE_REFUSED, forwarded=True)),
    _case(
        "a tie of a strict literal violates",
        request([4.5, 0]),
        response([[1, 1, 0]]),
        Error(Reason.GATE_REFUSED, forwarded=True),
    ),
    _case(
        "one refused row fails the batch",
        request([[0.75, 0], [4.5, 0]]),
        response([[3, 0, 0], [0, 0, 0]]),
        Error(Reason.GATE_REFUSED, forwarded=True),
    ),
    _case(
        "NaN cannot be projected",
        request([0.75, 0]),
        response([[NAN, 0, 0]]),
        Error(Reason.OUTPUT_NOT_FINITE, forwarded=True),
    ),
    _case(
        "infinity cannot be projected",
        request([0.75, 0]),
        response([[INFINITY, 0, 0]]),
        Error(Reason.OUTPUT_NOT_FINITE, forwarded=True),
    ),
    _case(
        "minus infinity below a ceiling is no answer",
        request([0.75, 0]),
        response([[-INFINITY, 0, 0]]),
        Error(Reason.OUTPUT_NOT_FINITE, forwarded=True),
    ),
]

REFUSED_CASES = [
    _case("no protobuf", b"\xff\xff\xff", FINE, Error(Reason.MALFORMED_REQUEST)),
    _case("a truncated request", request([0.75, 0]).SerializeToString()[:-3], FINE, Error(Reason.MALFORMED_REQUEST)),
    _case("a model name that is no UTF-8", b"\x0a\x02\xff\xff", FINE, Error(Reason.MALFORMED_REQUEST)),
    _case("an empty request", b"", FINE, Error(Reason.MODEL_NOT_GUARDED)),
    _refused("a model without bundle", Reason.MODEL_NOT_GUARDED, _set("model_name", "other")),
    _refused("a model name in other case", Reason.MODEL_NOT_GUARDED, _set("model_name", "Guarded")),
    _refused("no inputs", Reason.INPUT_MISSING, lambda m: (m.ClearField("inputs"), m.ClearField("raw_input_contents"))),
    _refused("an input of another name", Reason.INPUT_MISSING, _input(name="X")),
    _refused(
        "an input twice",
        Reason.INPUT_DUPLICATE,
        lambda m: (m.inputs.append(m.inputs[0]), m.raw_input_contents.append(m.raw_input_contents[0])),
    ),
    _refused("another datatype", Reason.INPUT_DATATYPE, _input(datatype="FP64")),
    _refused("no datatype", Reason.INPUT_DATATYPE, _input(datatype="")),
    _refused("another row shape", Reason.INPUT_SHAPE, _shape(2, 1)),
    _refused("a flat shape", Reason.INPUT_SHAPE, _shape(2)),
    _refused("no shape", Reason.INPUT_SHAPE, _shape()),
    _refused("a dimension too many", Reason.INPUT_SHAPE, _shape(1, 1, 2)),
    _refused("no rows", Reason.INPUT_SHAPE, lambda m: (_shape(0, 2)(m), _contents(b"")(m))),
    _refused("a negative number of rows", Reason.INPUT_SHAPE, _shape(-1, 2)),
    _refused("more rows than are accepted", Reason.INPUT_SHAPE, _shape(9, 2)),
    _refused("absurdly many rows", Reason.INPUT_SHAPE, _shape(2**63 - 1, 2)),
    _refused("fewer values than the shape says", Reason.INPUT_CONTENTS, _contents(raw([0.75]))),
    _refused("more values than the shape says", Reason.INPUT_CONTENTS, _contents(raw([0.75, 0, 0]))),
    _refused("a torn value", Reason.INPUT_CONTENTS, _contents(b"\0" * 7)),
    _refused("empty raw contents", Reason.INPUT_CONTENTS, _contents(b"")),
    _refused("no contents at all", Reason.INPUT_CONTENTS, lambda m: m.ClearField("raw_input_contents")),
    _refused(
        "raw and typed contents", Reason.INPUT_CONTENTS, lambda m: m.inputs[0].contents.fp32_contents.extend([0.75, 0])
    ),
    _refused("raw and empty typed contents", Reason.INPUT_CONTENTS, lambda m: m.inputs[0].contents.SetInParent()),
    _refused(
        "more tensors than are accepted",
        Reason.MALFORMED_REQUEST,
        lambda m: m.inputs.extend([pb.ModelInferRequest.InferInputTensor()] * 5000),
    ),
    _refused("a million dimensions", Reason.INPUT_SHAPE, _shape(*[1] * 1_000_000)),
    _case("a large message of small pieces", _with_parameters(40_000), FINE, Error(Reason.MALFORMED_REQUEST)),
    _refused(
        "a datatype too long for an error text",
        Reason.INPUT_DATATYPE,
        _input(datatype="\N{GREEK SMALL LETTER OMEGA}" * 100_000),
    ),
    _refused(
        "a tensor with a name too long for an error text",
        Reason.INPUT_MISSING,
        _input(name="\N{GREEK SMALL LETTER OMEGA}" * 100_000),
    ),
    _refused("more raw contents than inputs", Reason.INPUT_CONTENTS, lambda m: m.raw_input_contents.append(b"")),
    _refused(
        "typed contents of another type",
        Reason.INPUT_CONTENTS,
        lambda m: (m.ClearField("raw_input_contents"), m.inputs[0].contents.fp64_contents.extend([0.75, 0])),
    ),
    _refused(
        "typed contents of two types",
        Reason.INPUT_CONTENTS,
        lambda m: m.inputs[0].contents.int_contents.append(1),
        typed_request([0.75, 0]),
    ),
    _refused(
        "typed contents repeated",
        Reason.INPUT_CONTENTS,
        lambda m: m.inputs[0].contents.fp32_contents.extend([0.75, 0]),
        typed_request([0.75, 0]),
    ),
    _refused("NaN in a gated input", Reason.INPUT_NOT_FINITE, _contents(raw([NAN, 0]))),
    _refused("infinity in a gated input", Reason.INPUT_NOT_FINITE, _contents(raw([0.75, INFINITY]))),
    _refused("a signalling NaN", Reason.INPUT_NOT_FINITE, _contents(b"\x01\0\xa0\x7f" + raw([0]))),
    _refused("minus infinity outside every domain", Reason.INPUT_NOT_FINITE, _contents(raw([-INFINITY, 0]))),
    _refused(
        "an input in shared memory", Reason.SHARED_MEMORY, _parameter(lambda m: m.inputs[0], "shared_memory_region")
    ),
    _refused(
        "an output in shared memory",
        Reason.SHARED_MEMORY,
        _parameter(lambda m: m.outputs[0], "shared_memory_region"),
        _asking_for("y"),
    ),
    _refused(
        "an ungated output in shared memory",
        Reason.SHARED_MEMORY,
        _parameter(lambda m: m.outputs[0], "shared_memory_byte_size"),
        _asking_for("note"),
    ),
    _refused(
        "classification of a gated output",
        Reason.CLASSIFICATION,
        _parameter(lambda m: m.outputs[0], "classification"),
        _asking_for("y"),
    ),
    _refused("a gated output asked for twice", Reason.MALFORMED_REQUEST, _set("id", ""), _asking_for("y", "y")),
]

BAD_ANSWER_CASES = [
    _case(
        "an answer that is no protobuf",
        request([0.75, 0]),
        b"\xff\xff",
        Error(Reason.UPSTREAM_MALFORMED, forwarded=True),
    ),
    _case(
        "a truncated answer",
        request([0.75, 0]),
        FINE.SerializeToString()[:-3],
        Error(Reason.UPSTREAM_MALFORMED, forwarded=True),
    ),
    _case("an empty answer", request([0.75, 0]), b"", Error(Reason.UPSTREAM_OUTPUT_MISSING, forwarded=True)),
    _bad_answer("an output missing", Reason.UPSTREAM_OUTPUT_MISSING, _output(0, name="w")),
    _bad_answer("an output twice", Reason.UPSTREAM_MALFORMED, _output(1, name="y")),
    _bad_answer("an output of another datatype", Reason.UPSTREAM_OUTPUT_DATATYPE, _output(0, datatype="FP16")),
    _bad_answer("a classified output", Reason.UPSTREAM_OUTPUT_DATATYPE, _output(0, datatype="BYTES")),
    _bad_answer("an output of another shape", Reason.UPSTREAM_OUTPUT_SHAPE, _shape(3, 1, output=0)),
    _bad_answer("too few rows", Reason.UPSTREAM_OUTPUT_SHAPE, _shape(0, 3, output=0)),
    _bad_answer(
        "too many rows",
        Reason.UPSTREAM_OUTPUT_SHAPE,
        lambda m: (_shape(2, 3, output=0)(m), _raw_output(0, raw([0] * 6))(m)),
    ),
    _bad_answer("an output with an empty slot", Reason.UPSTREAM_OUTPUT_CONTENTS, _raw_output(0, b"")),
    _bad_answer("an output with too many values", Reason.UPSTREAM_OUTPUT_CONTENTS, _raw_output(0, raw([0] * 4))),
    _bad_answer("an output with a torn value", Reason.UPSTREAM_OUTPUT_CONTENTS, _raw_output(0, b"\0" * 11)),
    _bad_answer(
        "fewer raw contents than outputs", Reason.UPSTREAM_OUTPUT_CONTENTS, lambda m: m.raw_output_contents.pop()
    ),
    _bad_answer(
        "no contents in the answer", Reason.UPSTREAM_OUTPUT_CONTENTS, lambda m: m.ClearField("raw_output_contents")
    ),
    _bad_answer(
        "raw and typed contents in the answer",
        Reason.UPSTREAM_OUTPUT_CONTENTS,
        lambda m: m.outputs[0].contents.fp32_contents.extend([0.5, 0, 0]),
    ),
    _bad_answer(
        "typed contents of another type in the answer",
        Reason.UPSTREAM_OUTPUT_CONTENTS,
        lambda m: m.outputs[2].contents.int_contents.append(1),
        typed_response([[0.5, 0, 0]]),
    ),
]

CASES = [*UNTOUCHED_CASES, *CORRECTED_CASES, *GATE_REFUSES_CASES, *REFUSED_CASES, *BAD_ANSWER_CASES]
CASES += [*GATE_CASES, *MODE_CASES, *OUTPUT_CASES, *PASSING_CASES, *TENSOR_CASES, *TYPED_CASES, *WIRE_CASES]
