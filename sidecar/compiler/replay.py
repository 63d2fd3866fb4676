"""The guarded model's own answers: onnxruntime on the model file, one row at a time.

Used for self-test vectors and to confirm counterexamples; the proof never depends on it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from sidecar.errors import InputError
from sidecar.gates.prepare import tensor_places
from sidecar.network.values import AnyModel
from sidecar.tensors import INTEGER_RANGES, Datatype, ModelSignature, Rows, TensorSpec, exact_integers

_DTYPES: Final[Mapping[Datatype, npt.DTypeLike]] = MappingProxyType(
    {
        Datatype.BOOL: np.bool_,
        Datatype.UINT8: np.uint8,
        Datatype.UINT16: np.uint16,
        Datatype.UINT32: np.uint32,
        Datatype.UINT64: np.uint64,
        Datatype.INT8: np.int8,
        Datatype.INT16: np.int16,
        Datatype.INT32: np.int32,
        Datatype.INT64: np.int64,
        Datatype.FP16: np.float16,
        Datatype.FP32: np.float32,
        Datatype.FP64: np.float64,
    }
)
"""In which dtype onnxruntime takes and gives a tensor."""


def answers(model: AnyModel, inputs: Rows) -> Rows:
    """What onnxruntime answers to each row; see :class:`Replay`."""
    return Replay(model)(inputs)


class Replay:
    """Asks onnxruntime (CPU, one thread) for the model's answers.

    Raises:
        InputError: onnxruntime cannot run the model; what is verified could not be served.
    """

    def __init__(self, model: AnyModel) -> None:
        self._model = model
        with self._understood():
            self._session = open_session(model.content)

    def __call__(self, inputs: Rows) -> Rows:
        """The answers to wire values (row, input); float64 holding the served values exactly.

        Rows go in singly, because a static model refuses a batch. An answer with an integer that cannot be judged
        (beyond 2**53) is NaN throughout.
        """
        with self._understood():
            return _run(self._session, self._model.signature, inputs)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # onnxruntime's exceptions share no base class
            message = " ".join(str(error).split())
            name = self._model.name
            raise InputError(f"onnxruntime cannot run {name!r}: {message}; give a model that it runs") from error


def open_session(content: bytes) -> Any:
    """An onnxruntime session on a model file's content. Raises whatever onnxruntime raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: what onnxruntime has to say about a model is in the exception
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: Any, signature: ModelSignature, inputs: Rows) -> Rows:
    shapes = {declared.name: _one_row(declared.shape) for declared in session.get_inputs()}
    names = [spec.name for spec in signature.outputs]
    results = np.empty((len(inputs), signature.output_size))
    for row, result in zip(inputs, results, strict=True):
        feed = {
            spec.name: row[places.start : places.stop].astype(_DTYPES[spec.datatype]).reshape(shapes[spec.name])
            for spec, places in zip(signature.inputs, tensor_places(signature.inputs), strict=True)
        }
        result[:] = _judged(session.run(names, feed), signature.outputs)
    return results


def _one_row(shape: Sequence[object]) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in shape]


def _judged(tensors: Sequence[npt.NDArray[Any]], specs: Sequence[TensorSpec]) -> npt.NDArray[np.float64]:
    try:
        return np.concatenate([_exact(values, spec.datatype) for values, spec in zip(tensors, specs, strict=True)])
    except ValueError:
        return np.full(sum(spec.row_size for spec in specs), np.nan)


def _exact(values: npt.NDArray[Any], datatype: Datatype) -> npt.NDArray[np.float64]:
    flat = values.reshape(-1)
    return exact_integers(flat, datatype) if datatype in INTEGER_RANGES else flat.astype(np.float64)
