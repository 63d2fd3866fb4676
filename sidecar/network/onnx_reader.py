"""Reads an ONNX file as a :class:`~sidecar.network.values.Model`, or says why it cannot.

What is not understood is refused, never skipped: a model read here is the whole function of the file.
Files are read whole, decompressed within a limit; external data is not followed.
"""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from sidecar.errors import InputError
from sidecar.network.dense import dense
from sidecar.network.graph import Graph
from sidecar.network.joined import with_biases
from sidecar.network.onnx_walk import MOST_VALUES, OTHERWISE, STANDARD, Walk, needed, tensor_values
from sidecar.network.operators.application import Constant, Flow, NodeError
from sidecar.network.operators.operation import Shape
from sidecar.network.operators.softmax import Softmax
from sidecar.network.values import Model
from sidecar.tensors import Datatype, ModelSignature, TensorSpec

MODEL_LIMIT_BYTES = 512 * 1024 * 1024
"""Size of a model file after decompression; what is larger is no feed-forward network of this kind."""

OPSETS = range(7, 26)
"""Versions of the standard operator set in which the supported operators mean what is read here. Before 7 the
element-wise ones broadcast by attributes; what comes after 25 had not been published when this was written."""

_DATATYPES: Mapping[int, Datatype] = MappingProxyType(
    {onnx.TensorProto.FLOAT: Datatype.FP32, onnx.TensorProto.DOUBLE: Datatype.FP64}
)


def read_model(path: Path) -> Model:
    """The model in an ``.onnx`` or ``.onnx.gz`` file.

    Raises:
        InputError: the file is missing, broken or too large, or the model is of a kind not supported; such a model can
            still be guarded, without proof (:mod:`sidecar.compiler.opaque`).
    """
    return read_graph(path)[0]


def read_graph(path: Path) -> tuple[Model, Graph]:
    """As :func:`read_model`, and the graph, whether or not the model's network is dense."""
    content = model_content(path)
    graph, opset = _checked(path, content)
    constants = _initializers(path, graph)
    source, flow, datatype = _input(path, graph, constants)
    sink = _output(path, graph)
    walk = Walk(opset, constants, {source: flow}, datatype)
    for node in graph.node:
        try:
            walk.step(node)
        except NodeError as error:
            where = f"{path}: node {node.name or node.output[0]!r} ({node.op_type}, opset {opset})"
            raise InputError(f"{where} {error}") from error
    if sink.name not in walk.flows:
        raise InputError(f"{path}: output {sink.name!r} does not depend on the input; expected a computed output")
    result = walk.flows[sink.name]
    _check_declared_output(path, sink, result, datatype)
    nodes = with_biases(needed(walk.nodes, result.place))
    if any(isinstance(node.operation, Softmax) for node in nodes[:-1]):
        raise InputError(f"{path}: the model computes with the result of a Softmax; expected it last {OTHERWISE}")
    read = Graph(_signature(source, flow, sink.name, result, datatype), flow.shape, nodes)
    digest = hashlib.sha256(content).hexdigest()
    return Model(model_name(path), digest, content, network=dense(read) or read), read


def model_name(path: Path) -> str:
    """A model file's name without ``.onnx`` or ``.onnx.gz``."""
    return path.name.removesuffix(".gz").removesuffix(".onnx")


def model_content(path: Path) -> bytes:
    """The file's bytes, decompressed, at most ``MODEL_LIMIT_BYTES``.

    Raises:
        InputError: the file is missing, broken or too large.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MODEL_LIMIT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot read the model: {error}; expected an .onnx or .onnx.gz file") from error
    if len(content) > MODEL_LIMIT_BYTES:
        raise InputError(f"{path}: the model is larger than {MODEL_LIMIT_BYTES} bytes, the largest that is read")
    return content


def _checked(path: Path, content: bytes) -> tuple[Any, int]:
    """The graph, which the ONNX checker accepts, and the version of the standard operator set."""
    try:
        proto = onnx.load_model_from_string(content)
        _refuse_external_data(path, proto.graph)
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a valid ONNX model: {' '.join(str(error).split())}; export it again") from error
    if proto.functions:
        raise InputError(f"{path}: the model defines functions of its own; expected them inlined into the graph")
    versions = [entry.version for entry in proto.opset_import if entry.domain in STANDARD]
    if len(versions) != 1 or versions[0] not in OPSETS:
        got = ", ".join(map(str, versions)) or "none"
        raise InputError(
            f"{path}: the model uses standard operators of opset {got}; expected one from {OPSETS[0]} to {OPSETS[-1]}: "
            "export it for another opset"
        )
    return proto.graph, versions[0]


def _refuse_external_data(path: Path, graph: Any) -> None:
    constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in [*graph.initializer, *constants]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(
                f"{path}: weight {tensor.name!r} lies in another file; expected all weights inside the model "
                "(save it without external data)"
            )


def _initializers(path: Path, graph: Any) -> dict[str, Constant]:
    if graph.sparse_initializer:
        raise InputError(f"{path}: the model has sparse weights; expected dense ones")
    try:
        return {tensor.name: tensor_values(tensor) for tensor in graph.initializer}
    except NodeError as error:
        raise InputError(f"{path}: the model {error}; export it again") from error


def _input(path: Path, graph: Any, constants: Mapping[str, Constant]) -> tuple[str, Flow, Datatype]:
    """The model's one input. Files of IR version 3 list the weights among the inputs; those are left out."""
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise InputError(
            f"{path}: the model has {len(inputs)} inputs ({names}); exactly one is supported so far {OTHERWISE}"
        )
    name, tensor = inputs[0].name, inputs[0].type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        got = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise InputError(f"{path}: input {name!r} is of type {got}; expected FLOAT or DOUBLE {OTHERWISE}")
    sizes = _declared_shape(tensor)
    if not sizes:
        raise InputError(f"{path}: input {name!r} is a scalar; expected a shape such as (1, 5) or (batch, 5)")
    if 0 in sizes:
        raise InputError(f"{path}: input {name!r} has shape {sizes}, which holds no values; export it again")
    if None in sizes[1:]:
        shown = tuple("?" if size is None else size for size in sizes)
        raise InputError(f"{path}: input {name!r} has shape {shown}; only the first dimension may be dynamic")
    shape = tuple(1 if size is None else size for size in sizes)
    if math.prod(shape) > MOST_VALUES:
        raise InputError(
            f"{path}: input {name!r} has {math.prod(shape)} values to compute with; the limit is {MOST_VALUES}"
        )
    return name, Flow(0, shape, batched=sizes[0] is None), datatype


def _declared_shape(tensor: Any) -> tuple[int | None, ...]:
    """Sizes, None for a dynamic one. The checker has made sure that there is a shape."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim
    )


def _output(path: Path, graph: Any) -> Any:
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output) or "none"
        raise InputError(
            f"{path}: the model has {len(graph.output)} outputs ({names}); exactly one is supported so far {OTHERWISE}"
        )
    return graph.output[0]


def _check_declared_output(path: Path, sink: Any, result: Flow, datatype: Datatype) -> None:
    declared = _declared_shape(sink.type.tensor_type)
    computed: tuple[int | None, ...] = (None, *result.shape[1:]) if result.batched else result.shape
    shown = f"output {sink.name!r} is declared with shape {declared}"
    if len(declared) != len(computed) or any(
        got is not None and got != size for got, size in zip(declared, computed, strict=True)
    ):
        raise InputError(f"{path}: {shown} but computed with shape {computed} (None is the batch); export it again")
    if _DATATYPES.get(sink.type.tensor_type.elem_type) is not datatype:
        raise InputError(
            f"{path}: output {sink.name!r} is declared with another type than the input, {datatype} {OTHERWISE}"
        )


def _signature(source: str, flow: Flow, sink: str, result: Flow, datatype: Datatype) -> ModelSignature:
    def spec(name: str, shape: Shape) -> TensorSpec:
        return TensorSpec(name, datatype, shape[1:] if flow.batched else shape)

    return ModelSignature(
        inputs=(spec(source, flow.shape),),
        outputs=(spec(sink, result.shape),),
        batch_axis=0 if flow.batched else None,
    )
