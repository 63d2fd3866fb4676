"""The model that the conformance cases speak of, its hand-built gate bundle, and messages to and from it.

Input `x` FP32 (rows, 2), outputs `y` FP32 (rows, 3) and `z` FP64 (rows, 1); besides, an output that no gate
looks at. Where x0 lies decides which gate a row meets:

    x0 in   0..1   ceiling: y0 <= 1, project (silent up to 0.5, open above)     watched, in shadow: y1 <= 5
    x0 in   2..3   order:   y0 >= y1, fallback (1, 0, 0; 0)
    x0 in   4..5   never:   y2 > 0, refuse; proved violating
    x0 in   6..7   asleep:  y0 <= 0, off
    x0 in   8..9   either:  z >= 1 or z <= -1, project
    x0 in 8.5..9   cap:     z <= 3, project (together with either)
"""

from collections.abc import Sequence
from fractions import Fraction

import ml_dtypes
import numpy as np

from sidecar.bundle.codec import encode
from sidecar.bundle.coverage import LEAF, CoverageTree, Label
from sidecar.bundle.self_test import expected_decisions
from sidecar.bundle.values import Arithmetic, Bundle, Manifest, PropertyRecord, PropertySource
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement
from sidecar.properties.values import Traceability
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

MODEL = "guarded"

SIGNATURE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP32, (2,)),),
    outputs=(TensorSpec("y", Datatype.FP32, (3,)), TensorSpec("z", Datatype.FP64, (1,))),
    batch_axis=0,
)


DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""As clients hold them."""

FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Typed contents, as the protocol has them."""

Gates = tuple[tuple[Gate, Mode, CoverageTree], ...]


def literal(outputs: dict[int, int], offset: int, *, strict: bool = False) -> Literal:
    form = tuple((index, Fraction(value)) for index, value in outputs.items())
    return Literal(outputs=form, inputs=(), offset=Fraction(offset), strict=strict)


def gate(
    name: str,
    x0: tuple[str, str],
    clauses: Sequence[Sequence[Literal]],
    action: Action = Action.PROJECT,
    fallback: tuple[int, ...] | None = None,
) -> Gate:
    box = Box((Fraction(x0[0]), Fraction(-10)), (Fraction(x0[1]), Fraction(10)))
    return Gate(
        property_id=name,
        domain=(Region(box),),
        requirement=Requirement(tuple(tuple(clause) for clause in clauses)),
        action=action,
        margin=Fraction(0),
        norm=Norm.L2,
        fallback=None if fallback is None else tuple(map(Fraction, fallback)),
    )


def leaf(label: Label) -> CoverageTree:
    volume = np.zeros(4)
    volume[label] = 1.0
    return CoverageTree(np.array([LEAF], np.int32), np.zeros(1), np.array([label], np.uint8), volume)


def half_silent() -> CoverageTree:
    """Split at x0 = 0.5: silent below, open above."""
    return CoverageTree(
        feature=np.array([0, LEAF, LEAF], np.int32),
        threshold=np.array([0.5, 0.0, 0.0]),
        label=np.array([0, Label.SILENT, Label.OPEN], np.uint8),
        volume=np.array([0.0, 0.5, 0.0, 0.5]),
    )


GATES = (
    (gate("ceiling", ("0", "1"), [[literal({0: -1}, 1)]]), Mode.ENFORCE, half_silent()),
    (gate("watched", ("0", "1"), [[literal({1: -1}, 5)]]), Mode.SHADOW, leaf(Label.SILENT)),
    (
        gate("order", ("2", "3"), [[literal({0: 1, 1: -1}, 0)]], Action.FALLBACK, (1, 0, 0, 0)),
        Mode.ENFORCE,
        leaf(Label.OPEN),
    ),
    (
        gate("never", ("4", "5"), [[literal({2: 1}, 0, strict=True)]], Action.REFUSE),
        Mode.ENFORCE,
        leaf(Label.VIOLATING),
    ),
    (gate("asleep", ("6", "7"), [[literal({0: -1}, 0)]]), Mode.OFF, leaf(Label.OPEN)),
    (gate("either", ("8", "9"), [[literal({3: 1}, -1), literal({3: -1}, -1)]]), Mode.ENFORCE, leaf(Label.OPEN)),
    (gate("cap", ("17/2", "9"), [[literal({3: -1}, 3)]]), Mode.ENFORCE, leaf(Label.OPEN)),
)


def bundle(name: str = MODEL, signature: ModelSignature = SIGNATURE, gates=GATES) -> Bundle:
    only_gates = tuple(gate for gate, _, _ in gates)
    return Bundle(
        manifest=Manifest(
            name=name,
            revision=3,
            model_digest="0" * 64,
            signature=signature,
            arithmetic=Arithmetic.IEEE32,
            properties=tuple(PropertyRecord(Traceability(gate.property_id), mode) for gate, mode, _ in gates),
            compiler_version="0.1.0",
            options=(),
        ),
        gates=only_gates,
        coverage=tuple((tree,) * len(gate.domain) for gate, _, tree in gates),
        vectors=expected_decisions(
            only_gates,
            signature,
            np.zeros((1, signature.input_size)),
            np.ones((1, signature.output_size)),
            # Nothing is known of the verified model's answers: there is none, and so nothing to probe with.
            np.full((1, signature.output_size), -np.inf),
            np.full((1, signature.output_size), np.inf),
        ),
        sources=(PropertySource("by-hand", b"# built by hand\n"),),
    )


def bundle_bytes(**arguments) -> bytes:
    return encode(bundle(**arguments))


def raw(values, dtype: str = "<f4") -> bytes:
    return np.array(values, dtype=dtype).tobytes()


def request(x, **changes) -> pb.ModelInferRequest:
    """A request with raw contents for rows ``x``; ``changes`` replace fields."""
    x = np.atleast_2d(np.array(x, dtype="<f4"))
    message = pb.ModelInferRequest(model_name=MODEL, id="42", raw_input_contents=[x.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def typed_request(x) -> pb.ModelInferRequest:
    message = request(x)
    del message.raw_input_contents[:]
    message.inputs[0].contents.fp32_contents.extend(np.ravel(x))
    return message


def response(y, z=None) -> pb.ModelInferResponse:
    """A raw response: rows of ``y``, and of ``z`` (0 where not given); between them a tensor nobody looks at."""
    y = np.atleast_2d(np.array(y, dtype="<f4"))
    z = np.zeros((len(y), 1)) if z is None else np.array(z, dtype="<f8").reshape(-1, 1)
    message = pb.ModelInferResponse(model_name=MODEL, model_version="1", id="42")
    message.parameters["took"].int64_param = 5
    message.outputs.add(name="y", datatype="FP32", shape=y.shape)
    message.outputs.add(name="note", datatype="BYTES", shape=[1])
    message.outputs.add(name="z", datatype="FP64", shape=z.shape)
    message.raw_output_contents.extend([y.tobytes(), b"\x02\0\0\0hi", z.tobytes()])
    return message


def typed_response(y, z=None) -> pb.ModelInferResponse:
    message = response(y, z)
    y, _, z = message.raw_output_contents
    del message.raw_output_contents[:]
    message.outputs[0].contents.fp32_contents.extend(np.frombuffer(y, "<f4"))
    message.outputs[1].contents.bytes_contents.append(b"hi")
    message.outputs[2].contents.fp64_contents.extend(np.frombuffer(z, "<f8"))
    return message


def values(content: bytes, name: str) -> np.ndarray:
    """What a client decodes of an output, shape (rows, row size)."""
    message = pb.ModelInferResponse.FromString(content)
    index = [tensor.name for tensor in message.outputs].index(name)
    tensor = message.outputs[index]
    if message.raw_output_contents:
        flat = np.frombuffer(message.raw_output_contents[index], DTYPES[tensor.datatype])
    else:
        flat = np.array(getattr(tensor.contents, FIELDS[tensor.datatype]), DTYPES[tensor.datatype])
    return flat.reshape(tuple(tensor.shape))
