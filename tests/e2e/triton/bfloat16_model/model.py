"""Output `y` is input `x`, both BF16, for which NumPy has no type: it is handed on as it came. `z` is 3."""

import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "x")) for request in requests]

    def _answer(self, x):
        y = pb_utils.Tensor.from_dlpack("y", x.to_dlpack())
        z = np.full((x.shape()[0], 1), 3, np.float32)
        return pb_utils.InferenceResponse(output_tensors=[y, pb_utils.Tensor("z", z)])
