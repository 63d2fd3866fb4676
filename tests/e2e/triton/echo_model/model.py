"""Output `y` repeats input `x`, but for y0 = 0 where x1 is not 0; `z` is 3. For inputs of any datatype."""

import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "x").as_numpy()) for request in requests]

    def _answer(self, x):
        y = x.copy()
        y[x[:, 1] != 0, 0] = 0
        z = np.full((len(x), 1), 3, np.float32)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", y), pb_utils.Tensor("z", z)])
