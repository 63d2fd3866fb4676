"""onnxruntime's answers to many rows at once.

A model that takes one row is opened again with its first dimension left free: the same operators and weights, in
batches. (Batches are summed in another order than single rows, which is one more order that a proof must cover.)
"""

from typing import Final

import numpy as np
import onnx

from sidecar.compiler.replay import Replay, open_session
from sidecar.network.values import Model
from sidecar.tensors import Datatype

BATCH: Final = 16384
_PRECISION: Final = {Datatype.FP32: np.float32, Datatype.FP64: np.float64}


class Answering:
    """Asks onnxruntime; ``asked`` counts the rows.

    Args:
        model: with one input and one output.
    """

    def __init__(self, model: Model) -> None:
        signature = model.signature
        (spec,) = signature.inputs
        self.precision = _PRECISION[spec.datatype]
        self.asked = 0
        self._name, self._shape = spec.name, spec.row_shape
        if signature.batch_axis is None:
            self._shape = spec.row_shape[1:]
        self._session = open_session(_with_free_batch(model.content))
        self._require_the_same_function(model)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float64 (row, output) for rows (row, input) of the model's own datatype."""
        self.asked += len(rows)
        answers = [
            self._session.run(None, {self._name: part.reshape(-1, *self._shape)})[0].reshape(len(part), -1)
            for part in np.split(rows.astype(self.precision), range(BATCH, len(rows), BATCH))
        ]
        return np.concatenate(answers).astype(np.float64)

    def _require_the_same_function(self, model: Model) -> None:
        rows = np.random.default_rng(0).uniform(-0.5, 0.5, (8, model.signature.input_size)).astype(self.precision)
        single, together = Replay(model)(rows.astype(np.float64)), self(rows)
        self.asked = 0
        if not np.allclose(single, together, rtol=1e-3, atol=1e-4):
            raise ValueError(f"{model.name}: rows asked together are answered otherwise than alone")


def _with_free_batch(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    return model.SerializeToString()
