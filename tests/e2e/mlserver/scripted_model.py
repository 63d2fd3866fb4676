"""An MLServer runtime that answers what a test has written down for it; it runs in MLServer's environment."""

import importlib.util

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


def _reader(path):
    specification = importlib.util.spec_from_file_location("script_reader", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class ScriptedModel(MLModel):
    async def load(self):
        self.reader = _reader(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        outputs, error = self.reader.perform(self._bytes_of(payload))
        if error is not None:
            raise RuntimeError(error["message"])
        stated = [
            ResponseOutput(name=each.name, datatype=each.datatype, shape=each.shape, data=each.array.ravel().tolist())
            for each in outputs
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=stated)

    def _bytes_of(self, payload):
        (tensor,) = [each for each in payload.inputs if each.name == "x"]
        dtype = self.reader.DTYPES.get(tensor.datatype)
        return None if dtype is None else np.array(list(tensor.data), dtype).tobytes()
