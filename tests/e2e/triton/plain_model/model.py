"""An ordinary model in Python with the tensors of the conformance cases: y = (3, 2, 1) and z = 0 for every row."""

import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(each, "x").as_numpy()) for each in requests]

    def _answer(self, x):
        y = np.tile(np.array([3, 2, 1], np.float32), (len(x), 1))
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", y), pb_utils.Tensor("z", np.zeros((len(x), 1)))])
