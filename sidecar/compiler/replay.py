"""The verified model's own answers: onnxruntime on the model file, one row at a time.

Used for self-test vectors and to confirm counterexamples; the proof never depends on it.
"""

import numpy as np
import onnxruntime

from sidecar.errors import InputError
from sidecar.network.values import Model
from sidecar.tensors import Datatype, Rows

_NUMPY_DTYPE = {Datatype.FP32: np.float32, Datatype.FP64: np.float64}


def answers(model: Model, inputs: Rows) -> Rows:
    """What onnxruntime (CPU, one thread) answers to each row; float64 holding the served values exactly.

    Rows go in singly, because a static model refuses a batch.

    Raises:
        InputError: onnxruntime cannot run the model; what is verified could not be served.
    """
    try:
        return _run(model, inputs)
    except Exception as error:  # onnxruntime's exceptions share no base class
        message = " ".join(str(error).split())
        raise InputError(f"onnxruntime cannot run {model.name!r}: {message}; give a model that it runs") from error


def _run(model: Model, inputs: Rows) -> Rows:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: what onnxruntime has to say about a model is in the exception
    session = onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
    (declared,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in declared.shape]
    dtype = _NUMPY_DTYPE[model.network.signature.inputs[0].datatype]
    results = [session.run(None, {declared.name: row.astype(dtype).reshape(shape)})[0] for row in inputs]
    return np.array(results, dtype=np.float64).reshape(len(inputs), model.network.signature.output_size)
