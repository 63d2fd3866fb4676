"""A network in coarse arithmetic: weights, inputs and activations lose mantissa bits before each layer.

TF32 keeps ten bits of what is multiplied and adds up in FP32, as tensor cores do; FP16 rounds the results too. The
layers come as JSON in the model's configuration: {"hidden": ..., "hidden_bias": ..., "out": ..., "out_bias": ...}.
"""

import json
import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_SITE_PACKAGES"])

import numpy as np
import triton_python_backend_utils as pb_utils

DROPPED_BITS = 13  # of FP32's 23


def to_tf32(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << (DROPPED_BITS - 1)) - 1) + ((bits >> np.uint32(DROPPED_BITS)) & np.uint32(1))
    kept = (bits + half) & np.uint32(0xFFFFFFFF ^ ((1 << DROPPED_BITS) - 1))
    return kept.view(np.float32)


def to_fp16(values):
    return np.asarray(values).astype(np.float16).astype(np.float32)


def unrounded(values):
    return np.asarray(values, np.float32)


ARITHMETIC = {"tf32": (to_tf32, unrounded), "fp16": (to_fp16, to_fp16)}


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        layers = json.loads(parameters["layers"]["string_value"])
        self.layers = {name: np.array(values, np.float32) for name, values in layers.items()}
        self.rounded, self.result = ARITHMETIC[parameters["arithmetic"]["string_value"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "input").as_numpy()
        hidden = np.maximum(self.layer(x, "hidden"), 0)
        scores = self.layer(hidden, "out").astype(np.float32)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("scores", scores)])

    def layer(self, x, name):
        products = self.rounded(x) @ self.rounded(self.layers[name])
        return self.result(products + self.layers[f"{name}_bias"])
