"""One ONNX model in onnxruntime, as the protocol sees it: what it is, and a request answered.

A plain synchronous function from message to message. Where requests come from, and which gRPC status an
error becomes, is :mod:`sidecar.model_server.server`'s.
"""

import dataclasses
import gzip
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import onnxruntime

from sidecar.errors import CallerError, InputError, InternalError, Reason
from sidecar.model_server.contents import Array, InputTensor, append_output, decode_tensor
from sidecar.network.onnxruntime_names import ONNXRUNTIME_DATATYPES
from sidecar.protocols.generated import open_inference_pb2 as messages
from sidecar.tensors import Datatype

VERSION: Final = "1"
"""The only version that is served."""

ANY_SIZE: Final = -1
"""A dimension that the model leaves to the request, as the protocol writes it."""

MODEL_LIMIT_BYTES: Final = 2**31
"""No ONNX file is larger: protobuf ends there. It bounds what a compressed file may unfold to."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Name, datatype and wire shape of an input or output; ``ANY_SIZE`` where the model leaves it open."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape can be fed."""
        return len(shape) == len(self.shape) and all(
            got >= 0 and expected in (got, ANY_SIZE) for got, expected in zip(shape, self.shape, strict=True)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model under its served name.

    Args:
        run: output names and feed to arrays, onnxruntime's own call; safe to call from several threads.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    run: Callable[[list[str], dict[str, Array]], Sequence[Array]]


def load_model(path: pathlib.Path, name: str | None = None) -> ServedModel:
    """Opens the file in onnxruntime, on one thread: neighbours on the machine keep their cores.

    Args:
        path: ``.onnx``, or ``.onnx.gz``.
        name: the served name; the file's stem by default.

    Raises:
        InputError: the file cannot be read, is no model that onnxruntime runs, or has a tensor that is not served.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Fatal only: what onnxruntime has to say about a file that it refuses is in the exception.
    options.log_severity_level = 4
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an ONNX model")
    source = _unfolded(path) if path.suffix == ".gz" else str(path)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise InputError(f"onnxruntime cannot serve {path}: {error}; give an ONNX model that it runs") from error
    return ServedModel(
        name=name or path.name.removesuffix(".gz").removesuffix(".onnx"),
        inputs=tuple(_describe(tensor, path) for tensor in session.get_inputs()),
        outputs=tuple(_describe(tensor, path) for tensor in session.get_outputs()),
        run=session.run,
    )


def _unfolded(path: pathlib.Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(MODEL_LIMIT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if len(content) > MODEL_LIMIT_BYTES:
        raise InputError(f"{path} unfolds to more than {MODEL_LIMIT_BYTES} bytes, more than an ONNX file can have")
    return content


def _describe(tensor: Any, path: pathlib.Path) -> TensorInfo:
    if tensor.type not in ONNXRUNTIME_DATATYPES:
        served = ", ".join(ONNXRUNTIME_DATATYPES)
        raise InputError(f"{path}: tensor {tensor.name!r} is {tensor.type}; this server carries {served}")
    shape = tuple(size if isinstance(size, int) else ANY_SIZE for size in tensor.shape)
    return TensorInfo(tensor.name, ONNXRUNTIME_DATATYPES[tensor.type], shape)


def metadata(model: ServedModel) -> messages.ModelMetadataResponse:
    """What ModelMetadata answers."""
    response = messages.ModelMetadataResponse(name=model.name, versions=[VERSION], platform="onnxruntime_onnx")
    for tensors, described in ((model.inputs, response.inputs), (model.outputs, response.outputs)):
        for tensor in tensors:
            described.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response


def infer(model: ServedModel, request: messages.ModelInferRequest) -> messages.ModelInferResponse:
    """Answers one request, in raw form.

    Parameters of the request as a whole (priority, sequence, a client's own) mean nothing to a stateless model and are
    let pass; parameters of a tensor would change what is read or answered, and are refused.

    Raises:
        CallerError: the request does not fit the model.
        InternalError: onnxruntime failed on it all the same.
    """
    feed = _feed(model, request)
    outputs = _requested(model, request)
    try:
        arrays = model.run([output.name for output in outputs], feed)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise InternalError(Reason.INTERNAL, f"onnxruntime failed on the request: {error}") from error
    response = messages.ModelInferResponse(model_name=model.name, model_version=VERSION, id=request.id)
    for output, values in zip(outputs, arrays, strict=True):
        append_output(response, output.name, output.datatype, values)
    return response


def _feed(model: ServedModel, request: messages.ModelInferRequest) -> dict[str, Array]:
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names):
        raise CallerError(Reason.INPUT_DUPLICATE, f"an input is given twice: {names}")
    expected = {info.name: info for info in model.inputs}
    if set(names) != set(expected):
        raise CallerError(Reason.INPUT_MISSING, f"got inputs {names}; model {model.name!r} takes {list(expected)}")
    raws = _raw_contents(request)
    return {
        tensor.name: _input(tensor, expected[tensor.name], raw)
        for tensor, raw in zip(request.inputs, raws, strict=True)
    }


def _raw_contents(request: messages.ModelInferRequest) -> Sequence[bytes | None]:
    if not request.raw_input_contents:
        return [None] * len(request.inputs)
    if len(request.raw_input_contents) != len(request.inputs):
        problem = f"{len(request.inputs)} inputs with {len(request.raw_input_contents)} raw contents; each needs one"
        raise CallerError(Reason.INPUT_CONTENTS, problem)
    return request.raw_input_contents


def _input(tensor: InputTensor, info: TensorInfo, raw: bytes | None) -> Array:
    if tensor.parameters:
        reason = Reason.SHARED_MEMORY if "shared_memory_region" in tensor.parameters else Reason.MALFORMED_REQUEST
        raise CallerError(reason, _parameters_refused("input", tensor.name, list(tensor.parameters)))
    if tensor.datatype != info.datatype:
        problem = f"input {tensor.name!r} has datatype {tensor.datatype!r}; the model takes {info.datatype}"
        raise CallerError(Reason.INPUT_DATATYPE, problem)
    if not info.admits(tensor.shape):
        problem = f"input {tensor.name!r} has shape {list(tensor.shape)}; the model takes {list(info.shape)}"
        raise CallerError(Reason.INPUT_SHAPE, problem)
    return decode_tensor(tensor, info.datatype, raw)


def _requested(model: ServedModel, request: messages.ModelInferRequest) -> list[TensorInfo]:
    """The outputs that were asked for, in the order asked; all of them where none is named."""
    offered = {info.name: info for info in model.outputs}
    for output in request.outputs:
        if output.name not in offered:
            problem = f"output {output.name!r} is unknown; model {model.name!r} gives {list(offered)}"
            raise CallerError(Reason.OUTPUT_UNKNOWN, problem)
        if output.parameters:
            reason = Reason.CLASSIFICATION if "classification" in output.parameters else Reason.MALFORMED_REQUEST
            raise CallerError(reason, _parameters_refused("output", output.name, list(output.parameters)))
    names = [output.name for output in request.outputs]
    if len(set(names)) != len(names):
        raise CallerError(Reason.MALFORMED_REQUEST, f"an output is asked for twice: {names}")
    return [offered[name] for name in names] if names else list(offered.values())


def _parameters_refused(side: str, name: str, parameters: list[str]) -> str:
    return f"{side} {name!r} has parameters {parameters}; this server understands none on a tensor"
