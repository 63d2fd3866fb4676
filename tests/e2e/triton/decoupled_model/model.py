"""A decoupled model in Python: how many responses a request gets, and which, is in its input.

`x` is (rows, 2). As many responses as x1 of the first row says, each with y = (3, 2, 1) and z = 0 for every row, and
then the flag that says there are no more; a negative x1 gets an error instead of responses.
"""

import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self._answer(request)

    def _answer(self, request):
        sender = request.get_response_sender()
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if x[0, 1] < 0:
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("less than no responses")))
        for _ in range(int(x[0, 1])):
            sender.send(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("y", np.tile(np.array([3, 2, 1], np.float32), (len(x), 1))),
                        pb_utils.Tensor("z", np.zeros((len(x), 1))),
                    ]
                )
            )
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
