"""The models that codecs are fuzzed with, and messages to and from them: every datatype, raw and typed."""

import numpy as np

from sidecar.protocols.generated import open_inference_pb2 as pb
from sidecar.tensors import Datatype, ModelSignature, TensorSpec
from tests.conformance.guarded_model import SIGNATURE

MIXED = ModelSignature(
    inputs=(
        TensorSpec("x", Datatype.FP16, (2,)),
        TensorSpec("h", Datatype.FP64, (1, 2)),
        TensorSpec("b", Datatype.BF16, (3,)),
    ),
    outputs=(TensorSpec("y", Datatype.BF16, (2,)), TensorSpec("z", Datatype.FP16, (2, 1))),
    batch_axis=0,
)
SINGLE = ModelSignature(
    inputs=(TensorSpec("x", Datatype.FP64, ()), TensorSpec("y", Datatype.FP32, (2, 2))),
    outputs=(TensorSpec("y", Datatype.FP32, (2,)), TensorSpec("x", Datatype.FP64, ())),
    batch_axis=None,
)
SIGNATURES = (SIGNATURE, MIXED, SINGLE)
LIMIT_ROWS = 8

Specs = tuple[TensorSpec, ...]
ITEMS = {
    Datatype.FP16: (b"\x00\x3a", b"\x00\x80"),
    Datatype.BF16: (b"\x40\x3f", b"\x00\x80"),
    Datatype.FP32: (b"\0\0\x40\x3f", b"\0\0\0\x80"),
    Datatype.FP64: (b"\0\0\0\0\0\0\xe8\x3f", b"\0\0\0\0\0\0\0\x80"),
}
"""0.75 and minus zero."""
TYPED = {Datatype.FP32: "fp32_contents", Datatype.FP64: "fp64_contents"}


def wire_shape(spec: TensorSpec, signature: ModelSignature, rows: int) -> tuple[int, ...]:
    return spec.row_shape if signature.batch_axis is None else (rows, *spec.row_shape)


def _fill(tensors, raw, specs: Specs, signature: ModelSignature, rows: int, *, typed: bool) -> None:
    for spec in specs:
        shape = wire_shape(spec, signature, rows)
        tensor = tensors.add(name=spec.name, datatype=spec.datatype, shape=shape)
        size = int(np.prod(shape, dtype=int))
        if typed:
            getattr(tensor.contents, TYPED[spec.datatype]).extend(([0.75, -0.0] * size)[:size])
        else:
            raw.append(b"".join((ITEMS[spec.datatype] * size)[:size]))


def requests() -> list[bytes]:
    """A selector, then the message; raw and typed, one row and two."""
    made = []
    for index, signature in enumerate(SIGNATURES):
        for rows, typed, outputs in ((1, False, ()), (2, False, ("y",)), (1, True, ()), (2, True, ("z", "note"))):
            if typed and any(spec.datatype not in TYPED for spec in signature.inputs):
                continue
            message = pb.ModelInferRequest(model_name="guarded", id="42", model_version="1")
            message.parameters["sequence_id"].int64_param = 7
            _fill(message.inputs, message.raw_input_contents, signature.inputs, signature, rows, typed=typed)
            for name in outputs:
                message.outputs.add(name=name).parameters["binary_data_output"].bool_param = True
            made.append(bytes([index]) + message.SerializeToString())
    return made


def responses() -> list[bytes]:
    """A selector, the number of rows, then the message."""
    made = []
    for index, signature in enumerate(SIGNATURES):
        for rows, typed in ((1, False), (2, False), (1, True)):
            if typed and any(spec.datatype not in TYPED for spec in signature.outputs):
                continue
            if signature.batch_axis is None and rows > 1:
                continue
            message = pb.ModelInferResponse(model_name="guarded", id="42", model_version="1")
            message.parameters["took"].int64_param = 5
            _fill(message.outputs, message.raw_output_contents, signature.outputs, signature, rows, typed=typed)
            note = message.outputs.add(name="note", datatype="BYTES", shape=[1])
            note.parameters["triton_final_response"].bool_param = True
            if typed:
                note.contents.bytes_contents.append(b"hi")
            else:
                message.raw_output_contents.append(b"\x02\0\0\0hi")
            made.append(bytes([index, rows]) + message.SerializeToString())
    return made
