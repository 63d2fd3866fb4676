"""A KServe model that answers what a test has written down for it; it runs in KServe's environment."""

import importlib.util

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model


def _reader(path):
    specification = importlib.util.spec_from_file_location("script_reader", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class ScriptedModel(Model):
    def __init__(self, name: str, path: str):
        super().__init__(name)
        self.reader = _reader(path)
        self.ready = True

    def predict(self, payload: InferRequest, _headers=None, _response_headers=None) -> InferResponse:
        asked = payload.get_input_by_name("x").as_numpy()
        stated, error = self.reader.perform(np.ascontiguousarray(asked).tobytes())
        if error is not None:
            raise RuntimeError(error["message"])
        outputs = []
        for each in stated:
            output = InferOutput(name=each.name, shape=each.shape, datatype=each.datatype)
            if each.datatype == "BYTES" and not payload.use_binary_outputs:
                output.data = each.array.ravel().tolist()  # the helper takes nothing but UTF-8
            else:
                output.set_data_from_numpy(each.array, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )
