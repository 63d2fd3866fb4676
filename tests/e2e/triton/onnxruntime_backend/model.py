"""A Triton backend in Python that serves ordinary `model.onnx` repositories with onnxruntime.

It stands in for Triton's own onnxruntime backend, which no package carries: a folder of that name with
this file in it is all that Triton asks for. The interpreter that runs it is isolated (PYTHONPATH is
ignored), so the packages' folder comes in a variable of our own. Instances of a model run side by side;
every request is answered on its own.
"""

import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import onnxruntime
import triton_python_backend_utils as pb_utils

_TRITON_TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
}


def _open_session():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = os.path.join(pb_utils.get_model_dir(), "model.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _describe(tensor, batched):
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "data_type": _TRITON_TYPES[tensor.type], "dims": dims[1:] if batched else dims}


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        session = _open_session()
        batched = config.as_dict()["max_batch_size"] > 0
        config.set_max_batch_size(config.as_dict()["max_batch_size"])
        for tensor in session.get_inputs():
            config.add_input(_describe(tensor, batched))
        for tensor in session.get_outputs():
            config.add_output(_describe(tensor, batched))
        return config

    def initialize(self, _args):
        self.session = _open_session()

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        names = list(request.requested_output_names())
        try:
            arrays = self.session.run(names, feed)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(names, arrays, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
