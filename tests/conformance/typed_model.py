"""Guarded models of every datatype that can be gated, one model each, and messages to and from them.

Input `x` (rows, 2) and output `y` (rows, 2) are of the datatype, output `z` (rows, 1) is FP32; what else a message
holds no gate looks at. All gates apply where x0 is 1:

    low:   y0 <= 0, fallback (0, 0; 0)
    echo:  y1 == x1, refuse: holds only where both were read exactly
    cap:   z <= 10, project
"""

import struct
from fractions import Fraction

import numpy as np

from sidecar.bundle.coverage import Label
from sidecar.gates.values import Action, Box, Gate, Literal, Mode, Norm, Region, Requirement
from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.conformance.guarded_model import DTYPES, FIELDS, bundle_bytes, leaf, literal

_DOMAIN = (Region(Box((Fraction(1), Fraction(-(2**120))), (Fraction(1), Fraction(2**120)))),)


def model_name(datatype: str) -> str:
    return f"guarded-{datatype}"


def signature(datatype: str) -> ModelSignature:
    kind = Datatype(datatype)
    return ModelSignature(
        inputs=(TensorSpec("x", kind, (2,)),),
        outputs=(TensorSpec("y", kind, (2,)), TensorSpec("z", Datatype.FP32, (1,))),
        batch_axis=0,
    )


def _gate(name, clauses, action, fallback=None) -> Gate:
    return Gate(name, _DOMAIN, Requirement(clauses), action, Fraction(0), Norm.L2, fallback)


def _echo(sign: int) -> Literal:
    return Literal(((1, Fraction(sign)),), ((1, Fraction(-sign)),), Fraction(0), strict=False)


GATES = tuple(
    (gate, Mode.ENFORCE, leaf(Label.OPEN))
    for gate in (
        _gate("low", ((literal({0: -1}, 0),),), Action.FALLBACK, (Fraction(0),) * 3),
        _gate("echo", ((_echo(1),), (_echo(-1),)), Action.REFUSE),
        _gate("cap", ((literal({2: -1}, 10),),), Action.PROJECT),
    )
)


def typed_bundle(datatype: str) -> bytes:
    """The bundle for one datatype's model."""
    return bundle_bytes(name=model_name(datatype), signature=signature(datatype), gates=GATES)


def typed_bundles() -> list[bytes]:
    """One bundle for each datatype."""
    return [typed_bundle(datatype) for datatype in DTYPES]


def wire(datatype: str, values) -> bytes:
    """Raw contents of numbers, as a client's NumPy makes them."""
    kind = DTYPES[datatype]
    return np.array(values, np.int64 if kind.kind in "biu" else np.float64).astype(kind).tobytes()


def raw_request(datatype: str, x: bytes, rows: int = 1) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model_name(datatype), id="42", raw_input_contents=[x])
    message.inputs.add(name="x", datatype=datatype, shape=[rows, 2])
    return message


def typed_request(datatype: str, x, field: str | None = None) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=model_name(datatype), id="42")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[len(x) // 2, 2])
    getattr(tensor.contents, field or FIELDS[datatype]).extend(x)
    return message


def _response(datatype: str, rows: int) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(model_name=model_name(datatype), id="42")
    message.outputs.add(name="note", datatype="BYTES", shape=[2])
    message.outputs.add(name="y", datatype=datatype, shape=[rows, 2])
    message.outputs.add(name="z", datatype="FP32", shape=[rows, 1])
    return message


def raw_response(datatype: str, y: bytes, z=(0.0,)) -> pb.ModelInferResponse:
    message = _response(datatype, len(z))
    note = struct.pack("<I2sI", 2, b"\xff\x00", 0)
    message.raw_output_contents.extend([note, y, np.array(z, "<f4").tobytes()])
    return message


def typed_response(datatype: str, y, z=(0.0,), field: str | None = None) -> pb.ModelInferResponse:
    message = _response(datatype, len(z))
    message.outputs[0].contents.bytes_contents.extend([b"\xff\x00", b""])
    getattr(message.outputs[1].contents, field or FIELDS[datatype]).extend(y)
    message.outputs[2].contents.fp32_contents.extend(z)
    return message
