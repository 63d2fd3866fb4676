"""Reads of a model no more than its tensors, so that it can be guarded where it cannot be proved.

For what :mod:`sidecar.network.onnx_reader` does not read: integer tensors, several inputs or outputs, other operators.
Whatever onnxruntime runs will do, if its tensors are numbers and only the first dimension is open. All regions of
such a model are open; the promise that no violating answer passes does not depend on any proof.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sidecar.compiler.replay import open_session
from sidecar.errors import InputError
from sidecar.network.onnx_reader import model_content, model_name
from sidecar.network.onnxruntime_names import ONNXRUNTIME_DATATYPES
from sidecar.network.values import OpaqueModel
from sidecar.tensors import ModelSignature, TensorSpec

_STRINGS: Final = "tensor(string)"


def read_opaque_model(path: Path) -> OpaqueModel:
    """The tensors of an ``.onnx`` or ``.onnx.gz`` file, strings among the outputs left out.

    Raises:
        InputError: onnxruntime cannot open the model, or it has a tensor that cannot be gated and not be left out.
    """
    content = model_content(path)
    try:
        session = open_session(content)
    except Exception as error:  # onnxruntime's exceptions share no base class
        message = " ".join(str(error).split())
        raise InputError(f"{path}: onnxruntime cannot open the model: {message}; give a model that it runs") from error
    inputs = session.get_inputs()
    outputs = [tensor for tensor in session.get_outputs() if tensor.type != _STRINGS]
    if not inputs or not outputs:
        raise InputError(
            f"{path}: the model has no {'outputs' if inputs else 'inputs'} of numbers that gates could judge"
        )
    batched = _is_batched(path, [*inputs, *outputs])
    return OpaqueModel(
        name=model_name(path),
        digest=hashlib.sha256(content).hexdigest(),
        content=content,
        signature=ModelSignature(
            inputs=tuple(_spec(path, tensor, batched) for tensor in inputs),
            outputs=tuple(_spec(path, tensor, batched) for tensor in outputs),
            batch_axis=0 if batched else None,
        ),
    )


def _is_batched(path: Path, tensors: Sequence[Any]) -> bool:
    """Whether the first dimension counts rows: open in all tensors, or in none."""
    batched = {tensor.name for tensor in tensors if tensor.shape and not isinstance(tensor.shape[0], int)}
    fixed = [tensor.name for tensor in tensors if tensor.name not in batched]
    if batched and fixed:
        raise InputError(
            f"{path}: the first dimension of {', '.join(sorted(batched))} is open, that of {', '.join(fixed)} is not;"
            " expected it to count rows in all tensors or in none: export the model so"
        )
    return bool(batched)


def _spec(path: Path, tensor: Any, batched: bool) -> TensorSpec:
    datatype = ONNXRUNTIME_DATATYPES.get(tensor.type)
    if datatype is None:
        advice = (
            "strings have no numeric meaning, so no domain can be stated: serve what turns them into numbers as a model"
            " of its own, and guard the one behind it"
            if tensor.type == _STRINGS
            else f"gates judge {', '.join(ONNXRUNTIME_DATATYPES)}: export the model with one of these"
        )
        raise InputError(f"{path}: {tensor.name!r} is of type {tensor.type}; {advice}")
    sizes = tensor.shape[1:] if batched else tensor.shape
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(
            f"{path}: {tensor.name!r} has shape {tensor.shape}; only the first dimension may be open, and none zero"
        )
    return TensorSpec(tensor.name, datatype, tuple(sizes))
