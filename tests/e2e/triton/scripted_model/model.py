"""A model that answers what a test has written down for it; where that is stands in its configuration."""

import json
import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        sys.path.insert(0, json.loads(args["model_config"])["parameters"]["script_folder"]["string_value"])
        import script_reader

        self.perform = script_reader.perform

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        outputs, error = self.perform(_bytes_of(pb_utils.get_input_tensor_by_name(request, "x")))
        if error is not None:
            code = getattr(pb_utils.TritonError, error["code"])
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error["message"], code))
        return pb_utils.InferenceResponse([pb_utils.Tensor(each.name, each.array) for each in outputs])


def _bytes_of(tensor):
    try:
        return np.ascontiguousarray(tensor.as_numpy()).tobytes()
    except Exception:  # BF16 has no NumPy type
        return None
